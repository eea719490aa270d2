"""The tables of a run that has ended: compacted Parquet, in parts of a size that readers like.

    <kind>/dataset=NAME/part-00000.parquet      kind: experts, predictions
    rejects/part-00000.parquet                  of all data sets

A batch's have a folder of their own, `batch=<batch>`, within these.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
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

# Size of a compacted part, before its last row group: one PUT, and few files for a reader.
PART_BYTES = 128 << 20

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
        self, names: Sequence[str], schema: pa.Schema, tables: Iterable[pa.Table]
    ) -> list[Part]:
        """Write tables as parts of about PART_BYTES.

        The names and bytes depend on the tables alone. At least one part is written, so that an
        empty table has its columns.
        """
        parts: list[Part] = []
        for content, rows in _contents(schema, tables):
            path = join(self.folder(*names), f"part-{len(parts):05d}.parquet")
            self.run.write(self.run.output(path), content)
            parts.append(part_of(path, content, rows))
        return parts

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


def _contents(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[tuple[bytes, int]]:
    """Content and rows of each part that tables make."""
    groups = _grouped(tables)
    group = next(groups, None)
    while True:
        buffer, rows = io.BytesIO(), 0
        with pq.ParquetWriter(buffer, schema, **WRITE) as writer:
            while group is not None and buffer.tell() < PART_BYTES:
                writer.write_table(group)
                rows += group.num_rows
                group = next(groups, None)
        yield buffer.getvalue(), rows
        if group is None:
            return


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about ROW_GROUP rows, which become row groups."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        if sum(t.num_rows for t in pending) >= ROW_GROUP:
            yield pa.concat_tables(pending).combine_chunks()
            pending = []
    if pending:
        yield pa.concat_tables(pending).combine_chunks()


def _parts(fs: Any, folder: str) -> list[str]:
    """Compacted parts, by the names that they are given: none of somebody else's."""
    found = files_in(fs, folder, ".parquet")
    return [path for path in found if PART.fullmatch(posixpath.basename(path))]
