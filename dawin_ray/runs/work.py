"""The work of a run while it is under way: a file a chunk, a mark a shard.

    work/<kind>/<data set>/<shard>/<chunk>.parquet
    work/marks/<kind>/<data set>/<shard>.json
    work/parts/  work/summaries/                        see `part_records` and `summing`

A chunk's file has the chunk's name and appears whole or not at all, so a chunk is done if and only
if its file exists. A task that runs twice writes the same bytes twice. A mark says that all chunks
of a shard are there, so that a resumed run need not read the shard to know.

Both stay until the manifest is written. Pass 2 reads what pass 1 left of each chunk, so that a run
that is resumed in it wants the chunks of pass 1 as well as their parts, and makes again what is
lost; of chunks that both passes have made, it looks at the names alone.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.records import read_record, write_record
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import WORK, is_ours
from dawin_ray.storage import (
    delete,
    files_in,
    join,
    own_parquet,
    pages_below,
    parquet_of,
    read_many,
    table_bytes,
    unreadable,
)
from dawin_ray.tables import TABLES, Kind

MARKS = join(WORK, "marks")

AT_ONCE = 64  # files that are asked for together: what a task holds of a part's chunks

LISTINGS = 16  # that a task waits for together

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
        """Names of a shard's committed chunks, sorted.

        One listing, also where there are none: fsspec's `ls` would list the folder above as well.
        """
        paths = itertools.chain.from_iterable(
            pages_below(*self.folder.path(WORK, kind, dataset, shard))
        )
        return [path.removesuffix(".parquet") for path in paths if path.endswith(".parquet")]

    def all_chunks(self, kind: Kind, dataset: str) -> dict[str, str]:
        """Names of the committed chunks of each shard of a data set, by one listing.

        With a '/' between them: as there may be millions, none is an object of its own.
        """
        found: dict[str, str] = {}
        for page in pages_below(*self.folder.path(WORK, kind, dataset)):
            paths = (path.rpartition("/") for path in page if path.endswith(".parquet"))
            for shard, of_shard in groupby(paths, key=itemgetter(0)):
                names = [name.removesuffix(".parquet") for *_, name in of_shard]
                before = [found[shard]] if shard in found else []
                found[shard] = "/".join(before + names)
        return found

    def read(self, kind: Kind, dataset: str, shard: str, chunk: str) -> pa.Table:
        """A committed chunk.

        Raises:
            UserError: it is missing or damaged. What is left of it is deleted, so that a run that
                is taken up makes it again.
        """
        (table,) = self.read_many(kind, dataset, [(shard, chunk)])
        return table

    def read_many(
        self, kind: Kind, dataset: str, chunks: Sequence[tuple[str, str]]
    ) -> Iterator[pa.Table]:
        """Committed chunks by shard and name, in this order; AT_ONCE of them are read at a time.

        Raises as `read`.
        """
        fs, root = self.folder.path()
        for start in range(0, len(chunks), AT_ONCE):
            names = [_file(kind, dataset, *chunk) for chunk in chunks[start : start + AT_ONCE]]
            for name, content in zip(
                names, read_many(fs, [join(root, name) for name in names]), strict=True
            ):
                with self._told(name):
                    if isinstance(content, Exception):
                        raise content
                    with parquet_of(content, name) as file:
                        table = file.read()
                yield table

    def committed(
        self, kind: Kind, dataset: str, chunks: Sequence[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Those of these chunks, by shard and name, that are there: a listing a shard."""
        shards = list(dict.fromkeys(shard for shard, _ in chunks))
        with ThreadPoolExecutor(LISTINGS) as pool:
            found = pool.map(lambda shard: self.chunks(kind, dataset, shard), shards)
            there = {(s, name) for s, names in zip(shards, found, strict=True) for name in names}
        return [chunk for chunk in chunks if chunk in there]

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
        pages = pages_below(*self.folder.path(MARKS, kind, dataset))
        paths = itertools.chain.from_iterable(pages)
        return {path.removesuffix(".json") for path in paths if path.endswith(".json")}

    def read_marks(self, kind: Kind, dataset: str, shards: Sequence[str]) -> Iterator[Mark]:
        """The mark of each shard, in this order; AT_ONCE of them are read at a time.

        Raises:
            UserError: one is missing or damaged.
        """
        marks = self.find_marks(kind, dataset, shards)
        for shard, mark in zip(shards, marks, strict=True):
            if mark is None:
                raise self._lost(_mark(kind, dataset, shard))
            yield mark

    def find_marks(self, kind: Kind, dataset: str, shards: Sequence[str]) -> Iterator[Mark | None]:
        """As `read_marks`, but None for one that is missing or damaged."""
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
        for page in pages_below(fs, join(root, folder)):
            self.folder.guard(closely=True)
            delete(fs, root, filter(is_ours, [join(folder, path) for path in page]))

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
