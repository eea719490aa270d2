"""The summary of a data set's rows from its Parquet, a few row groups at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.parts import Parts
from dawin_ray.runs.scored import Compared, rows_of
from dawin_ray.statistics import Summary

BLOCK = 1 << 17  # rows that are held at a time, beside a row group


def summary_of(run: RunFolder, dataset: str, compared: Compared) -> Summary:
    """Of a data set's predictions in a run, whatever the number of rows.

    Raises:
        UserError: a part is damaged.
        RuntimeError: experts and predictions hold other samples, or in another order.
    """
    parts, folder = Parts(run), f"dataset={dataset}"
    predictions = parts.read("predictions", folder, columns=compared.of_predictions)
    experts = parts.read("experts", folder, columns=compared.of_experts)
    summary = Summary.identity(compared.experts, compared.methods)
    try:
        for theirs, ours in zip(_blocks(experts), _blocks(predictions), strict=True):
            rows = rows_of(theirs, ours, compared)
            summary = Summary.merge([summary, Summary.of(rows)])
    except ValueError as error:  # also where one of them has more blocks
        raise RuntimeError(
            f"experts and predictions of data set '{dataset}' in {run.address} hold other samples, "
            "or in another order"
        ) from error
    return summary


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of BLOCK, but for the last."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        while sum(t.num_rows for t in pending) >= BLOCK:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, BLOCK)
            pending = [whole.slice(BLOCK)]
    if any(t.num_rows for t in pending):
        yield pa.concat_tables(pending)
