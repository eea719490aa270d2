"""The work of a run while it is under way: a file a chunk, a mark a shard.

    work/<kind>/<data set>/<shard>/<chunk>.parquet
    work/marks/<kind>/<data set>/<shard>.json
    work/parts/  work/summaries/                        see `part_records` and `summing`

A chunk's file has the chunk's name and appears whole or not at all, so a chunk is done if and only
if its file exists. A task that runs twice writes the same bytes twice. A mark says that all chunks
of a shard are there, so that a resumed run need not read the shard to know.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.records import read_record, write_record
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import WORK, is_ours
from dawin_ray.storage import (
    delete,
    files_below,
    files_in,
    join,
    own_parquet,
    parquet_of,
    read_many,
    table_bytes,
    unreadable,
)
from dawin_ray.tables import TABLES, Kind

MARKS = join(WORK, "marks")

AT_ONCE = 64  # files that are asked for together: what a task holds of a part's chunks

MADE_AGAIN = "Run the same command again: it is made again, and all other work is kept."


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A shard is complete in a pass: rows and rejects of each of its chunks.

    Of a chunk of an earlier try there is nothing but its name: its files tell the rest.
    """

    VERSION: ClassVar[int] = 1
    chunks: dict[str, tuple[int, int] | None]


class Work:
    """What a run has done so far."""

    def __init__(self, folder: RunFolder):
        """Of the run that is in `folder`."""
        self.folder = folder

    def commit(self, kind: Kind, dataset: str, shard: str, chunk: str, table: pa.Table) -> None:
        """Write a chunk's table under its final name, whole or not at all.

        Rejects are committed before the chunk itself, so that none is lost in between.
        """
        where = self.folder.path(_file(kind, dataset, shard, chunk))
        self.folder.write(where, table_bytes(table))

    def chunks(self, kind: Kind, dataset: str, shard: str) -> list[str]:
        """Names of a shard's committed chunks, sorted."""
        found = files_in(*self.folder.path(WORK, kind, dataset, shard), ".parquet")
        return [posixpath.basename(path).removesuffix(".parquet") for path in found]

    def all_chunks(self, kind: Kind, dataset: str) -> dict[str, set[str]]:
        """Names of the committed chunks of each shard of a data set, by one listing."""
        found: dict[str, set[str]] = {}
        for path in files_below(*self.folder.path(WORK, kind, dataset)):
            shard, _, name = path.rpartition("/")
            if name.endswith(".parquet"):
                found.setdefault(shard, set()).add(name.removesuffix(".parquet"))
        return found

    def read(self, kind: Kind, dataset: str, shard: str, chunk: str) -> pa.Table:
        """A committed chunk.

        Raises:
            UserError: it is missing or damaged. What is left of it is deleted, so that a run that
                is taken up makes it again.
        """
        (table,) = self.read_many(kind, dataset, [(shard, chunk)])
        assert table is not None, "it was not optional"
        return table

    def read_many(
        self, kind: Kind, dataset: str, chunks: Sequence[tuple[str, str]], *, some: bool = False
    ) -> Iterator[pa.Table | None]:
        """Committed chunks by shard and name, in this order; AT_ONCE of them are read at a time.

        With `some`, None stands for one that is not there. Raises as `read`.
        """
        fs, root = self.folder.path()
        for start in range(0, len(chunks), AT_ONCE):
            names = [_file(kind, dataset, *chunk) for chunk in chunks[start : start + AT_ONCE]]
            for name, content in zip(
                names, read_many(fs, [join(root, name) for name in names]), strict=True
            ):
                if some and isinstance(content, FileNotFoundError):
                    yield None
                    continue
                with self._told(name):
                    if isinstance(content, Exception):
                        raise content
                    with parquet_of(content, name) as file:
                        table = file.read()
                yield table

    def count(self, kind: Kind, dataset: str, shard: str, chunk: str) -> int:
        """Rows of a committed chunk; 0 where there is none. Raises as `read`."""
        name = _file(kind, dataset, shard, chunk)
        if not self.folder.exists(name):
            return 0
        with self._opened(name) as file:
            return int(file.metadata.num_rows)

    def remove_chunk(self, kind: Kind, dataset: str, shard: str, chunk: str) -> None:
        """Delete a committed chunk, if it is there."""
        self.folder.remove(_file(kind, dataset, shard, chunk))

    def mark(self, kind: Kind, dataset: str, shard: str, mark: Mark) -> None:
        """Note that a shard is complete in the pass of `kind`."""
        self.folder.write(self.folder.path(_mark(kind, dataset, shard)), write_record(mark))

    def marks(self, kind: Kind, dataset: str) -> set[str]:
        """The shards that are complete in the pass of `kind`."""
        found = files_in(*self.folder.path(MARKS, kind, dataset), ".json")
        return {posixpath.basename(path).removesuffix(".json") for path in found}

    def read_marks(self, kind: Kind, dataset: str, shards: Sequence[str]) -> Iterator[Mark]:
        """The mark of each shard, in this order; AT_ONCE of them are read at a time.

        Raises:
            UserError: one is missing or damaged.
        """
        marks = self._each_mark(kind, dataset, shards)
        for shard, mark in zip(shards, marks, strict=True):
            if mark is None:
                raise self._lost(_mark(kind, dataset, shard))
            yield mark

    def find_marks(self, kind: Kind, dataset: str) -> dict[str, Mark | None]:
        """What was noted of each shard, read as `read_marks` does; None for a damaged one."""
        shards = sorted(self.marks(kind, dataset))
        return dict(zip(shards, self._each_mark(kind, dataset, shards), strict=True))

    def _each_mark(self, kind: Kind, dataset: str, shards: Sequence[str]) -> Iterator[Mark | None]:
        fs, root = self.folder.path()
        for start in range(0, len(shards), AT_ONCE):
            names = [_mark(kind, dataset, shard) for shard in shards[start : start + AT_ONCE]]
            contents = read_many(fs, [join(root, name) for name in names])
            for name, content in zip(names, contents, strict=True):
                if isinstance(content, bytes):
                    yield _mark_of(content, name)
                elif isinstance(content, FileNotFoundError):
                    yield None
                else:
                    address = join(self.folder.address, name)
                    raise unreadable(address, "mark", content) from content

    def remove_mark(self, kind: Kind, dataset: str, shard: str) -> None:
        """Delete what `mark` noted, if it is there."""
        self.folder.remove(_mark(kind, dataset, shard))

    def remove_shard(self, dataset: str, shard: str) -> None:
        """Delete what was committed of a shard."""
        self.folder.guard(closely=True)
        fs, root = self.folder.path()
        for kind in TABLES:
            found = files_in(fs, join(root, WORK, kind, dataset, shard), ".parquet")
            delete(fs, root, [posixpath.relpath(path, root) for path in found])
            self.remove_mark(kind, dataset, shard)

    def folders(self) -> list[str]:
        """Those that hold the chunks of a data set, which may be very many."""
        return [
            join(WORK, kind, dataset)
            for kind in TABLES
            for dataset in self.folder.folders(WORK, kind)
        ]

    def remove(self, folder: str = WORK) -> None:
        """Delete the files of chunks and marks, all or in a folder; the manifest must be there."""
        fs, root = self.folder.path()
        if not fs.exists(join(root, folder)):
            return
        self.folder.guard(closely=True)
        found = [join(folder, path) for path in files_below(fs, join(root, folder))]
        delete(fs, root, filter(is_ours, found))

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        fs, path = self.folder.path(name)
        with self._told(name), own_parquet(fs, path) as file:
            yield file

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Raises a UserError for a chunk's file that is missing or damaged; the latter is removed.

        So a run that is taken up makes it again.
        """
        address = join(self.folder.address, name)
        try:
            yield
        except (FileNotFoundError, DamagedFileError) as error:
            what = "missing"
            if isinstance(error, DamagedFileError):
                what = f"damaged ({error.reason})"
                self.folder.remove(name)
            raise UserError(f"The file {address!r} of this run is {what}. {MADE_AGAIN}") from error
        except OSError as error:
            raise unreadable(address, "chunk", error) from error

    def _lost(self, name: str) -> UserError:
        address = join(self.folder.address, name)
        return UserError(f"The file {address!r} of this run is missing or damaged. {MADE_AGAIN}")


def _mark_of(content: bytes, name: str) -> Mark | None:
    try:
        return read_record(Mark, content, name)
    except UserError:
        return None


def _file(kind: Kind, dataset: str, shard: str, chunk: str) -> str:
    return join(WORK, kind, dataset, shard, f"{chunk}.parquet")


def _mark(kind: Kind, dataset: str, shard: str) -> str:
    return join(MARKS, kind, dataset, f"{shard}.json")
