"""Tables: values in, a table of the schema out, and back to arrays."""

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray import tables

COLUMNS = {
    "sample_id": ["a", "b", "c"],
    "label": [1, None, 2],
    "expert_prediction": np.array([[0, 1], [2, 3], [4, 5]], dtype=np.int32),
    "expert_entropy": np.array([[0.5, 0.25], [1, 2], [3, 4]], dtype=np.float32),
    "even_prediction": np.array([7, 8, 9], dtype=np.int32),
}


def test_a_table_has_its_schema_and_null_for_what_is_left_out():
    table = tables.table(tables.EXPERTS, COLUMNS)
    assert table.schema == tables.EXPERTS
    assert table["label"].to_pylist() == [1, None, 2]
    assert table["expert_prediction"].to_pylist() == [[0, 1], [2, 3], [4, 5]]
    assert table["log_expertise"].null_count == 3


def test_an_unknown_column_is_our_own_mistake():
    with pytest.raises(AssertionError, match="entropie"):
        tables.table(tables.EXPERTS, COLUMNS | {"entropie": [0, 0, 0]})


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(pa.ArrowInvalid):
        tables.table(tables.EXPERTS, COLUMNS | {"label": [1]})


@pytest.mark.parametrize("schema", [tables.EXPERTS, tables.PREDICTIONS, tables.REJECTS], ids=str)
def test_a_table_may_be_empty(schema):
    table = tables.table(schema, {"sample_id": []})
    assert (table.schema, table.num_rows) == (schema, 0)


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.int32())], ids=str)
def test_rows_survive_the_way_through_a_column(rows, kind):
    rows_NM = np.arange(3 * rows).reshape(rows, 3).astype(kind.value_type.to_pandas_dtype())
    column = tables.list_column(rows_NM, kind)
    assert column.type == kind
    back = tables.rows_of(pa.chunked_array([column]), 3)
    assert back.dtype == rows_NM.dtype
    np.testing.assert_array_equal(back, rows_NM)


def test_rows_of_a_slice_or_of_several_pieces_are_the_right_ones():
    rows_NM = np.arange(12, dtype=np.float32).reshape(6, 2)
    column = tables.list_column(rows_NM, pa.list_(pa.float32()))
    pieces = pa.chunked_array([column[1:3], column[3:6]])
    np.testing.assert_array_equal(tables.rows_of(pieces, 2), rows_NM[1:])
    alone = pa.chunked_array([column[1:3]])
    np.testing.assert_array_equal(tables.rows_of(alone, 2), rows_NM[1:3])


def test_rows_need_not_be_contiguous():
    rows_NM = np.arange(12, dtype=np.float32).reshape(2, 6).T
    column = tables.list_column(rows_NM, pa.list_(pa.float32()))
    assert column.to_pylist() == rows_NM.tolist()


def test_more_values_than_offsets_of_32_bits_are_refused():
    """Nothing of this size is allocated: all rows are one."""
    rows_NM = np.broadcast_to(np.float32(0), (1 << 20, 1 << 11))
    with pytest.raises(ValueError, match="1048576 lists of 2048 values"):
        tables.list_column(rows_NM, pa.list_(pa.float32()))


def test_columns_that_cannot_be_put_together_are_read():
    """Of more than 2^31 values, Arrow cannot make one list column of 32-bit offsets."""

    class Beyond:
        chunks = tuple(
            tables.list_column(np.full((2, 3), i, np.float32), pa.list_(pa.float32()))
            for i in range(2)
        )
        type = chunks[0].type

        def combine_chunks(self):
            raise pa.ArrowInvalid("offset overflow while concatenating arrays")

    assert tables.rows_of(Beyond(), 3).tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
