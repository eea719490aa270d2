"""The tables of a run that has ended: Parquet, in parts of a size that readers like.

    <kind>/dataset=NAME/part-00000.parquet      kind: experts, predictions
    rejects/part-00000.parquet                  of all data sets

A batch's have a folder of their own, `batch=<batch>`, within these.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import DamagedFileError
from dawin_ray.runs.folder import Part, RunFolder, part_of
from dawin_ray.runs.layout import PART
from dawin_ray.storage import (
    WRITE,
    delete,
    files_in,
    filesystem,
    folders_in,
    join,
    own_parquet,
    read_table,
    table_bytes,
)
from dawin_ray.tables import TABLES

ROW_GROUP = 1 << 16  # rows of a part that are read at a time


class Parts:
    """The compacted tables of a run. A folder is given by its names: `predictions`, `dataset=a`."""

    def __init__(self, folder: RunFolder):
        """Of the run that is in `folder`."""
        self.run = folder

    def folder(self, *names: str) -> str:
        """Where the parts of a table lie, from the run's root."""
        return join(*names, *([f"batch={self.run.batch}"] if self.run.batch else []))

    def write(
        self,
        names: Sequence[str],
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        number: int = 0,
    ) -> Part:
        """Write tables as a part, in row groups of about ROW_GROUP rows.

        The bytes depend on the tables alone. One without rows has its columns.
        """
        buffer, rows = io.BytesIO(), 0
        with pq.ParquetWriter(buffer, schema, **WRITE) as writer:
            for group in grouped(tables):
                writer.write_table(group)
                rows += group.num_rows
        path, content = join(self.folder(*names), part_name(number)), buffer.getvalue()
        self.run.write(self.run.output(path), content)
        return part_of(path, content, rows)

    def content(self, part: Part) -> bytes:
        """A part as it was written. Raises as `RunFolder.content`."""
        return self.run.content(self.run.output(part.path), part)

    def read(self, *names: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows of a table, a row group at a time, in the order of the parts' names.

        Raises:
            UserError: a part is damaged.
        """
        for fs, path, name in self._all(names):
            try:
                with own_parquet(fs, path) as file:
                    for group in range(file.num_row_groups):
                        yield file.read_row_group(group, columns=columns)
            except (OSError, DamagedFileError) as error:
                raise self.run.damaged(name, error) from error

    def rewrite(self, names: Sequence[str], keep: Callable[[pa.Table], pa.Array]) -> list[Part]:
        """Leave only the rows that `keep` has true for; all parts of the table.

        Part by part, each whole or not at all: done again, it changes nothing more.
        """
        parts = []
        for fs, path, name in self._all(names):
            content = fs.cat_file(path)
            table = read_table(fs, path)
            kept = table.filter(keep(table))
            if kept.num_rows < table.num_rows:
                self.run.write((fs, path), content := table_bytes(kept), closely=True)
            parts.append(part_of(name, content, kept.num_rows))
        return parts

    def keep_only(self, names: Sequence[str], parts: Collection[str]) -> None:
        """Delete parts of a table that have other names than these: of an older try's bounds."""
        stale = [
            path for _, path, name in self._all(names) if posixpath.basename(name) not in parts
        ]
        if stale:
            self.run.guard(closely=True)
            fs, root = filesystem(self.run.root)
            delete(fs, root, [posixpath.relpath(path, root) for path in stale])

    def remove(self) -> None:
        """Delete the parts of an unfinished batch."""
        self.run.guard(closely=True)
        fs, root = filesystem(self.run.root)
        for kind in TABLES:
            for folder in (join(root, kind), *folders_in(fs, join(root, kind))):
                parts = _parts(fs, join(folder, f"batch={self.run.batch}"))
                delete(fs, root, [posixpath.relpath(path, root) for path in parts])

    def _all(self, names: Sequence[str]) -> Iterator[tuple[Any, str, str]]:
        """File system, path, and path from the run's root of each part."""
        folder = self.folder(*names)
        fs, path = self.run.output(folder)
        yield from ((fs, part, join(folder, posixpath.basename(part))) for part in _parts(fs, path))


def part_name(number: int) -> str:
    """The file of a table's part."""
    return f"part-{number:05d}.parquet"


def grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about ROW_GROUP rows, which become row groups."""
    pending: list[pa.Table] = []
    rows = 0
    for table in tables:
        pending.append(table)
        rows += table.num_rows
        if rows >= ROW_GROUP:
            yield pa.concat_tables(pending).combine_chunks()
            pending, rows = [], 0
    if pending:
        yield pa.concat_tables(pending).combine_chunks()


def _parts(fs: Any, folder: str) -> list[str]:
    """Compacted parts, by the names that they are given: none of somebody else's."""
    found = files_in(fs, folder, ".parquet")
    return [path for path in found if PART.fullmatch(posixpath.basename(path))]
