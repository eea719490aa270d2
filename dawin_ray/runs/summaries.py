"""A data set's rows from its Parquet, a block at a time: their summary, and whoever else asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.parts import Parts
from dawin_ray.runs.scored import Compared, rows_of
from dawin_ray.statistics import Rows, Summary
from dawin_ray.tables import Kind

BLOCK = 1 << 17  # rows that are held at a time, beside a row group


def summary_of(run: RunFolder, dataset: str, compared: Compared) -> Summary:
    """Of a data set's predictions in a run, whatever the number of rows.

    Raises:
        UserError: a part is damaged.
        RuntimeError: experts and predictions hold other samples, or in another order.
    """
    summary = Summary.identity(compared.experts, compared.methods)
    for rows in rows_in_blocks(run, dataset, compared):
        summary = Summary.merge([summary, Summary.of(rows)])
    return summary


def rows_in_blocks(
    run: RunFolder, dataset: str, compared: Compared, size: int | None = None
) -> Iterator[Rows]:
    """The same rows, `size` at a time (BLOCK) but for the last. Raises as `summary_of`."""
    theirs = table_in_blocks(run, "experts", dataset, compared.of_experts, size)
    ours = table_in_blocks(run, "predictions", dataset, compared.of_predictions, size)
    try:
        for experts, predictions in zip(theirs, ours, strict=True):
            yield rows_of(experts, predictions, compared)
    except ValueError as error:  # also where one of them has more blocks
        raise RuntimeError(
            f"experts and predictions of data set '{dataset}' in {run.address} hold other samples, "
            "or in another order"
        ) from error


def table_in_blocks(
    run: RunFolder, kind: Kind, dataset: str, columns: list[str], size: int | None = None
) -> Iterator[pa.Table]:
    """Some columns of a data set's table in tables of `size` rows (BLOCK) but for the last.

    So the blocks of two tables or runs have the same rows, whatever their parts and row groups.

    Raises:
        UserError: a part is damaged.
    """
    return _blocks(Parts(run).read(kind, f"dataset={dataset}", columns=columns), size or BLOCK)


def _blocks(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        while sum(t.num_rows for t in pending) >= size:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, size)
            pending = [whole.slice(size)]
    if any(t.num_rows for t in pending):
        yield pa.concat_tables(pending)
