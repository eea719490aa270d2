"""The predictions of a finished run, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from dawin_ray import tables
from dawin_ray.errors import UserError
from dawin_ray.report.finished import FinishedRun
from dawin_ray.runs import RunDirectory, Series

if TYPE_CHECKING:
    import pandas as pd

# where a row is from; no columns of the files, but of their folders' names
PLACES = ("dataset", "batch")


def read_predictions(
    run_dir: str, dataset: str | None = None, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The table of predictions of a finished run, or of all batches of one that grows.

    A row a sample; its data set (and batch) stands in the column `dataset` (`batch`). With
    `dataset`, only that one's rows; with `columns`, only these, and where they are from.

    Raises:
        UserError: the run is not finished, or has no such data set or column.
    """
    known = tables.PREDICTIONS.names
    if unknown := sorted(set(columns or ()) - {*known, *PLACES}):
        raise UserError(
            f"There is no column {unknown[0]!r} in predictions; there are {', '.join(known)}."
        )
    chosen = None if columns is None else [name for name in columns if name not in PLACES]
    run = RunDirectory.at(run_dir)
    runs = Series(run_dir).batches() if run.grows() else [run]
    found: list[pa.Table] = []
    names: set[str] = set()
    for part in runs:
        scored = _datasets(part)
        names.update(scored)
        for name in scored if dataset is None else {dataset}.intersection(scored):
            found.append(_table(part, name, chosen))
    if not found:
        raise UserError(
            f"{run_dir!r} has no predictions of a data set {dataset!r}; it has: "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    return _frame(pa.concat_tables(found))


def _frame(table: pa.Table) -> pd.DataFrame:
    """A missing label, cluster or prediction is NA, and integers stay integers."""
    import pandas as pd

    nullable = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    return frame


def _datasets(run: RunDirectory) -> list[str]:
    return list(FinishedRun.of(run).datasets)


def _table(run: RunDirectory, dataset: str, columns: Sequence[str] | None) -> pa.Table:
    names = tables.PREDICTIONS.names if columns is None else list(columns)
    schema = pa.schema([tables.PREDICTIONS.field(name) for name in names])
    parts = list(run.parts.read("predictions", f"dataset={dataset}", columns=names))
    rows = sum(part.num_rows for part in parts)
    table = pa.concat_tables([schema.empty_table(), *parts])
    places = {"dataset": dataset} | ({"batch": run.batch} if run.batch else {})
    return pa.table(
        {name: table[name] for name in names}
        | {name: pa.array([value] * rows, pa.string()) for name, value in places.items()}
    )
