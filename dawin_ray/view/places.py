"""The first samples of an order without reading all columns of all samples.

A sort of whole rows reads every id and list of the choice, to show a few. Here the order's key
alone is sorted, with the places of the rows: file and number. Only what stands at the places that
are shown is read then, from the row groups that have them. Rows of one key are put in order by
their ids, as the statement that is shown would; where too many have one, it runs itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dawin_ray.view.database import PLACED, Database, Result, rows_of, samples_of
from dawin_ray.view.filters import Choice
from dawin_ray.view.opened import OpenedRun

DEEPEST = 5_000  # of a place in the order: beyond, keys of all before it would be fetched

SPARE = 500  # rows that may share the last key


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some rows of an order: `count` from the `first` one on, 0 the first."""

    first: int
    count: int


def ordered(
    database: Database, run: OpenedRun, choice: Choice, window: Window, columns: str
) -> Result | None:
    """Rows of a choice in its order; None where its own statement is to be run. Raises QueryError.

    `seconds` are those of both statements.
    """
    if not choice.key or window.first + window.count > DEEPEST:
        return None
    wanted = window.first + window.count + SPARE
    keys = database.query(
        f"SELECT {choice.key.removesuffix(' DESC')} AS key, stored_file, stored_row"
        f"{choice.source(run, PLACED)}\nORDER BY {choice.key}\nLIMIT {wanted}",
        wanted,
    )
    places = keys.rows[window.first : window.first + window.count]
    if not places:
        return None
    low, high = places[0][0], places[-1][0]
    if low != low or high != high or (len(keys.rows) == wanted and keys.rows[-1][0] == high):
        return None  # no number; or more rows of the last key than are known
    before = next(i for i, row in enumerate(keys.rows) if row[0] == low)
    after = next((i for i, row in enumerate(keys.rows) if i > before and row[0] == high), before)
    while after < len(keys.rows) and keys.rows[after][0] == high:
        after += 1
    sql = _at(run, [(file, row) for _, file, row in keys.rows[before:after]], columns)
    if sql is None:
        return None
    found = database.query(
        f"SELECT {columns} FROM ({sql}){choice.order()}\n"
        f"LIMIT {window.count} OFFSET {window.first - before}",
        window.count,
    )
    return Result(
        columns=found.columns,
        rows=found.rows,
        more=False,
        seconds=keys.seconds + found.seconds,
    )


def _at(run: OpenedRun, places: Sequence[tuple[str, int]], columns: str) -> str | None:
    """The rows at these places, file by file; None where a file goes by another name."""
    parts = {part.address: part for part in run.files["predictions"]}
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for file, row in places:
        rows[file].append(row)
    if not parts.keys() >= rows.keys():
        return None
    return "\nUNION ALL ".join(
        f"SELECT * FROM ({samples_of(run, rows_of(run, [parts[file]], ', file_row_number'))})"
        f" WHERE file_row_number IN ({', '.join(map(str, numbers))})"
        for file, numbers in rows.items()
    )
