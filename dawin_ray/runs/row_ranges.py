"""Rows of a finished run's table by their places: what is asked for in order is read once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from dawin_ray.errors import DamagedFileError
from dawin_ray.runs.folder import Part, RunFolder
from dawin_ray.storage import own_parquet


def rows_between(
    run: RunFolder, parts: Sequence[Part], ranges: Iterable[tuple[int, int]]
) -> Iterator[list[pa.Table]]:
    """The rows of each range, from one place to before another; places count through the parts.

    Both ends of the ranges must ascend; they may overlap. Row groups that are in no range are not
    read, the others once, and few are held.

    Raises:
        UserError: a part is damaged.
    """
    place = [0]  # before which nothing is wanted any more
    groups = _groups(run, parts, place)
    held: deque[tuple[int, pa.Table]] = deque()
    for begin, end in ranges:
        place[0] = begin
        while held and held[0][0] + held[0][1].num_rows <= begin:
            held.popleft()
        while not held or held[-1][0] + held[-1][1].num_rows < end:
            if (group := next(groups, None)) is None:
                break
            held.append(group)
        yield [
            table.slice(max(begin - start, 0), end - max(begin, start))
            for start, table in held
            if start < end
        ]


def _groups(
    run: RunFolder, parts: Sequence[Part], place: Sequence[int]
) -> Iterator[tuple[int, pa.Table]]:
    """The row groups that end behind a place, each with that of its first row."""
    start = 0
    for part in parts:
        if start + part.rows <= place[0]:
            start += part.rows
            continue
        try:
            with own_parquet(*run.output(part.path)) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if start + rows > place[0]:
                        yield start, file.read_row_group(group)
                    start += rows
        except (OSError, DamagedFileError) as error:
            raise run.damaged(part.path, error) from error
