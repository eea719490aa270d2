"""A summary of a finished run's rows, however they lie in parts, row groups and blocks."""

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray import tables
from dawin_ray.runs import summaries
from dawin_ray.runs.scored import rows_of
from dawin_ray.runs.summaries import rows_in_blocks, summary_of, table_in_blocks
from dawin_ray.statistics import Summary
from tests.unit.runs.test_making import COMPARED, table_of

IDS = [str(i) for i in range(1, 24)]

FOLDER = "dataset=set"


def write(run, kind, size, ids=IDS):
    table = table_of(kind, ids)
    for number, start in enumerate(range(0, len(ids), size)):
        part = table.slice(start, size)
        run.parts.write((kind, FOLDER), tables.TABLES[kind], [part], number)


@pytest.mark.parametrize("block", [1, 5, 8, 23, 99])
@pytest.mark.parametrize("sizes", [(23, 23), (7, 7), (4, 9)])
def test_blocks_add_to_the_whole(run, monkeypatch, block, sizes):
    for kind, size in zip(("experts", "predictions"), sizes, strict=True):
        write(run, kind, size)
    monkeypatch.setattr(summaries, "BLOCK", block)
    whole = rows_of(table_of("experts", IDS), table_of("predictions", IDS), COMPARED)
    expected = Summary.merge([Summary.identity(COMPARED.experts, COMPARED.methods),
                              Summary.of(whole)])  # fmt: skip
    assert summary_of(run, "set", COMPARED).to_bytes() == expected.to_bytes()
    found = list(rows_in_blocks(run, "set", COMPARED))
    assert [len(rows.label) for rows in found[:-1]] == [block] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate([r.label for r in found]), whole.label)
    ids = pa.concat_tables(table_in_blocks(run, "experts", "set", ["sample_id"], 3))
    assert ids["sample_id"].to_pylist() == IDS


@pytest.mark.parametrize("ids", [IDS[:-1], IDS[:8], [*IDS[:-1], "99"], IDS[::-1]])
def test_tables_of_other_samples_are_told(run, monkeypatch, ids):
    write(run, "experts", 7)
    write(run, "predictions", 7, ids)
    monkeypatch.setattr(summaries, "BLOCK", 4)
    with pytest.raises(RuntimeError, match=r"data set 'set' .* hold other samples"):
        summary_of(run, "set", COMPARED)
