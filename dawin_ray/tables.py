"""Arrow schemas and column names, in one place.

M experts. A list column of an expert quantity has M entries, in the order of the job's experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

MAX_VALUES = np.iinfo(np.int32).max  # in the lists of one Arrow array: the type of their offsets

TOP_CLASSES = 5  # entries of top_classes and top_probabilities; fewer where C < 5

# What pass 1 learns of a sample. `log_expertise` is ln e of each expert, from which the driver
# makes coefficients; `even_*` is the evenly interpolated model, where it is run. A list column
# `baseline_*` has an entry for each method of `method.methods_of`, in its order; -1 stands for
# no prediction, and log loss and Brier score are NaN where there is no label.
EXPERTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.int64()),
        ("expert_prediction", pa.list_(pa.int32())),
        ("expert_confidence", pa.list_(pa.float32())),
        ("expert_entropy", pa.list_(pa.float32())),
        ("log_expertise", pa.list_(pa.float32())),
        ("even_prediction", pa.int32()),
        ("baseline_prediction", pa.list_(pa.int32())),
        ("baseline_confidence", pa.list_(pa.float32())),
        ("baseline_nll", pa.list_(pa.float32())),
        ("baseline_brier", pa.list_(pa.float32())),
        # of the crop that the models saw; columns that runs of before have not
        ("crop_hash", pa.uint64()),  # copies have the same
        ("crop_range", pa.uint8()),  # its brightest less its darkest pixel value
    ]
)

PREDICTIONS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.int64()),
        ("prediction", pa.int32()),
        ("confidence", pa.float32()),
        ("entropy", pa.float32()),
        ("coefficient", pa.list_(pa.float32())),
        ("cluster", pa.int32()),
        ("expert_prediction", pa.list_(pa.int32())),
        ("expert_confidence", pa.list_(pa.float32())),
        ("expert_entropy", pa.list_(pa.float32())),
        ("even_prediction", pa.int32()),
        ("top_classes", pa.list_(pa.int32())),
        ("top_probabilities", pa.list_(pa.float32())),
        ("nll", pa.float32()),  # of the true label, in nats; NaN without one
        ("brier", pa.float32()),
        # of DaWin with other fits, an entry for each of the job's `baselines.fits`
        ("fit_prediction", pa.list_(pa.int32())),
        ("fit_confidence", pa.list_(pa.float32())),
        ("fit_nll", pa.list_(pa.float32())),
        ("fit_brier", pa.list_(pa.float32())),
        # where precision or rank is lowered, some samples are scored in float32 as well
        ("float32_prediction", pa.int32()),
    ]
)

REJECTS = pa.schema(
    [
        ("dataset", pa.string()),
        ("shard", pa.string()),
        ("sample_id", pa.string()),
        ("offset", pa.int64()),  # in the shard, in bytes; null where it has none
        ("reason", pa.string()),
        ("sha256", pa.string()),  # of the encoded image; null where there is none
        ("broken", pa.bool_()),  # it stands for a shard, or what is left of one, not for a sample
        ("lost", pa.int64()),  # of a broken shard: samples, counted or estimated; null if unknown
    ]
)

# What a chunk is made into. Commit, parts, manifest and verification go by these entries: a
# new table is one here, and the pass that makes it.
Kind = Literal["experts", "predictions", "rejects"]
TABLES: dict[Kind, pa.Schema] = {
    "experts": EXPERTS,
    "predictions": PREDICTIONS,
    "rejects": REJECTS,
}
# Those that have a row for each sample that is scored, in the folders dataset=NAME.
OF_DATASETS = tuple(kind for kind in TABLES if kind != "rejects")


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an earlier version with the columns that came since, which are null."""
    for field in schema:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def list_column(rows_NM: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    """An array [N, M] as a column of N lists of M.

    Raises:
        ValueError: there are more than MAX_VALUES of them: make several columns of fewer rows.
    """
    count, width = rows_NM.shape
    if count * width > MAX_VALUES:
        raise ValueError(f"{count} lists of {width} values are more than {MAX_VALUES} values")
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(rows_NM.ravel(), type=kind.value_type))


def rows_of(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A column of N lists of `width` as an array [N, width]; N * width may be beyond int32."""
    # chunk by chunk: Arrow's lists have offsets of 32 bits, and cannot be put together beyond
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if len(flat) == 1:
        return np.asarray(flat[0].reshape(-1, width))
    empty = np.zeros(0, dtype=column.type.value_type.to_pandas_dtype())
    return np.concatenate([*flat, empty]).reshape(-1, width)


def table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """A table of `schema`; a missing column is null throughout, an unknown one is an error.

    Values are Arrow arrays, lists, or numpy arrays [N] or [N, M].
    """
    unknown = columns.keys() - set(schema.names)
    assert not unknown, f"columns {unknown} are not in the schema"
    count = len(columns["sample_id"])
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(count, field.type))
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            arrays.append(list_column(values, field.type))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values)
        else:
            arrays.append(pa.array(values, type=field.type))
    return pa.table(arrays, schema=schema)
