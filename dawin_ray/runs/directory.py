"""The run directory: fingerprint, commit of outputs, resume or refuse.

    <run_dir>/job.yaml                                     the job, resolved
              fingerprint.json                             what the outputs depend on
              data.jsonl.gz                                the data's files, with size and version
              mixture.json                                 offsets and mixtures
              work/<kind>/<data set>/<shard>/<chunk>.parquet   while it runs: a file a chunk
              work/marks/<pass>/<data set>/<shard>.json        a shard is complete in a pass
              <kind>/dataset=NAME/part-00000.parquet       compacted; kind: experts, predictions
              rejects/part-00000.parquet                   samples that could not be used, and why
              report.json
              classes.json                                 names of the data sets' classes
              fit.json                                     the fits, for jobs that apply them
              audit.json  report.html  csv/                from the above, by `report` too
              manifest.json                                written last: the run is complete, and
                                                           these are the hashes of all its files

A run directory that grows (`mode: append`) holds a run of this kind for each batch, of which only
the compacted parts lie elsewhere, so that one read of `predictions/` has them all (see batches.py):

    <run_dir>/job.yaml  fingerprint.json  ledger.json  manifest.json  report.html
              batches/<batch>/                             as above
              <kind>/dataset=NAME/batch=<batch>/part-00000.parquet
              rejects/batch=<batch>/part-00000.parquet

A chunk's file has the chunk's name and appears whole or not at all, so a chunk is done if and only
if its file exists. A task that runs twice writes the same bytes twice. A mark says that all chunks
of a shard are there, so that a resumed run need not read the shard to know. `work/` goes when the
manifest is there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import typing
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.records import R, Record, read_record, to_json
from dawin_ray.runs import inventory
from dawin_ray.runs.inventory import Files
from dawin_ray.runs.layout import (
    BATCHES,
    DATA,
    FINGERPRINT,
    FOLDERS,
    LEDGER,
    MANIFEST,
    MIXTURE,
    PART,
    SHARDS,
    WORK,
    is_ours,
    is_temporary,
)
from dawin_ray.storage import (
    LOCK,
    WRITE,
    Fence,
    delete,
    files_below,
    filesystem,
    join,
    own_parquet,
    read_table,
    table_bytes,
    unreadable,
    write_whole,
)
from dawin_ray.tables import Kind

State = Literal["new", "unfinished", "finished"]

CLAIMED = (SHARDS, DATA)  # written before the fingerprint, which claims the directory

SHOWN_NAMES = 10  # of files that are not a run's

ABSENT = "absent"  # in the list of differences, of which MAX_DIFFERENCES are shown

MAX_DIFFERENCES = 20

# Size of a compacted part, before its last row group: one PUT, and few files for a reader.
PART_BYTES = 128 << 20

ROW_GROUP = 1 << 16  # rows of a part that are read at a time


class RunDirectory:
    """One run's outputs, at a local path or any fsspec address. Cheap to make and to pickle."""

    def __init__(self, address: str, *, series: str | None = None, fence: Fence | None = None):
        """Touches nothing yet; `series` is the directory that a batch belongs to.

        Every write passes the `fence`, where there is one.
        """
        self.address, self.fence = address, fence
        self.root = series or address  # what the paths in a manifest start from
        self.batch = posixpath.basename(address) if series else None

    @classmethod
    def at(cls, address: str, fence: Fence | None = None) -> RunDirectory:
        """A run, or a batch where the address is `<run_dir>/batches/<batch>`."""
        above, folder, name = address.rstrip("/").rpartition(f"/{BATCHES}/")
        series = above if folder and name else None
        return cls(address.rstrip("/") if series else address, series=series, fence=fence)

    def grows(self) -> bool:
        """Whether it is a directory of batches."""
        return self.exists(LEDGER) or (self.exists(BATCHES) and not self.exists(MIXTURE))

    def guard(self, *, closely: bool = False) -> None:
        """Stop before a write if the lease of the directory is lost; see `locking.Fence`."""
        if self.fence is not None:
            self.fence.check(closely=closely)

    def _write(self, where: tuple[Any, str], data: bytes, *, closely: bool = False) -> None:
        self.guard(closely=closely)
        write_whole(*where, data)

    def folder(self, *names: str) -> str:
        """Where the compacted parts of a kind lie, from `root`."""
        return join(*names, *([f"batch={self.batch}"] if self.batch else []))

    def output(self, name: str) -> tuple[Any, str]:
        """The file system and path of what is named from `root`, as in a manifest."""
        fs, root = filesystem(self.root)
        return fs, join(root, name)

    def path(self, *parts: str) -> tuple[Any, str]:
        """The file system and the path of a file of the run."""
        fs, root = filesystem(self.address)
        return fs, join(root, *parts)

    def folders(self, *parts: str) -> list[str]:
        """Names of the folders in a folder of the run, sorted."""
        return [posixpath.basename(path) for path in _folders(*self.path(*parts))]

    def state(self, fingerprint: Mapping[str, Any], files: Files | None = None) -> State:
        """What is there, without claiming it; keys that `fingerprint` lacks are not compared.

        Raises:
            UserError: as `open`.
        """
        try:
            if not self.exists(FINGERPRINT):
                return "new"
            theirs = self.read_json(FINGERPRINT)
            finished = self.exists(MANIFEST)
        except UserError:
            raise
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        ours = json.loads(json.dumps(fingerprint))
        compared = {k: v for k, v in theirs.items() if k in ours}
        self._check_same(*({**values, "data": None} for values in (compared, ours)))
        self._check_data(files, finished)
        self._check_same(compared, ours)
        if finished:
            self.read_json(MANIFEST)  # a damaged one is told
        return "finished" if finished else "unfinished"

    def open(
        self,
        fingerprint: Mapping[str, Any],
        job_yaml: str,
        files: Files | None = None,
        *,
        cleared: bool = False,
    ) -> State:
        """Claim the directory for a job: new, or the same job again.

        Args:
            fingerprint: what the outputs depend on.
            job_yaml: the job, for people and `verify`.
            files: the data, whose listing is kept.
            cleared: it was a run directory until `clear`, and what is left may stay.

        Raises:
            UserError: it holds the run of another job or of other data (the message shows what
                differs), or files of something else, or is damaged, or cannot be written.
        """
        state = self.state(fingerprint, files)
        fs, job_path = self.path("job.yaml")
        try:
            if state == "new":
                root = filesystem(self.address)[1]
                found = fs.ls(root, detail=False) if fs.exists(root) else []
                names = [posixpath.basename(path.rstrip("/")) for path in found]
                theirs = [n for n in names if n not in CLAIMED and not is_temporary(n)]
                if theirs and not cleared:
                    raise UserError(
                        f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no "
                        "run directory. Give another run_dir, or empty this one."
                    )
                self._keep(files)
                ours = json.dumps(fingerprint, indent=1)
                self._write(self.path(FINGERPRINT), ours.encode(), closely=True)
            if not fs.exists(job_path):  # a new run, or a claim that was cut short
                self._write((fs, job_path), job_yaml.encode())
            if state == "unfinished" and not self.exists(DATA):
                self._keep(files)
        except UserError:
            raise
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        return state

    def _keep(self, files: Files | None) -> None:
        if files is not None:
            self._write(self.path(DATA), inventory.pack(files))

    def files(self) -> Files | None:
        """The data's files as they were when the run began; None where that was not kept.

        Raises:
            UserError: the listing is damaged.
        """
        if not self.exists(DATA):
            return None
        fs, path = self.path(DATA)
        try:
            return inventory.unpack(fs.cat_file(path))
        except (ValueError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.damaged(DATA, error) from error

    def _check_data(self, files: Files | None, finished: bool) -> None:
        then = self.files() if files is not None else None
        if then is None or not (lines := inventory.differences(then, files)):
            return
        raise UserError(
            f"The run in {self.address!r} is {'' if finished else 'un'}finished, and its data are "
            "not what they were when it began; rows of both must not mix:\n"
            + "".join(f"  data: {line}\n" for line in lines)
            + "Restore these files (with their times: a copy is as new as its copying), give "
            "another run_dir, or start this one anew with --restart."
        )

    def damaged(self, name: str, error: Exception) -> UserError:
        """The error for a file of the run that cannot be what was written."""
        return UserError(
            f"The file {join(self.address, name)!r} is damaged: {error}. Restore it, give another "
            "run_dir, or start this one anew with --restart."
        )

    def _check_same(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        there, here = dict(_flat(theirs)), dict(_flat(ours))
        differing = [k for k in {**there, **here} if there.get(k, ABSENT) != here.get(k, ABSENT)]
        if differing:
            lines = [
                f"  {key}: {there.get(key, ABSENT)} there, {here.get(key, ABSENT)} here"
                for key in differing[:MAX_DIFFERENCES]
            ]
            if len(differing) > MAX_DIFFERENCES:
                lines.append(f"  and {len(differing) - MAX_DIFFERENCES} more")
            raise UserError(
                f"The run_dir {self.address!r} holds the run of another job, and their outputs "
                "must not mix. Give another run_dir, or start this one "
                "anew with --restart. They differ in:\n" + "\n".join(lines)
            )

    def commit(self, kind: Kind, dataset: str, shard: str, chunk: str, table: pa.Table) -> None:
        """Write a chunk's table under its final name, whole or not at all.

        Rejects are committed before the chunk itself, so that none is lost in between.
        """
        where = self.path(WORK, kind, dataset, shard, f"{chunk}.parquet")
        self._write(where, table_bytes(table))

    def chunks(self, kind: Kind, dataset: str, shard: str) -> list[str]:
        """Names of a shard's committed chunks, sorted."""
        fs, folder = self.path(WORK, kind, dataset, shard)
        return [path.rsplit("/", 1)[1].removesuffix(".parquet") for path in _files(fs, folder)]

    def read(
        self, kind: Kind, dataset: str, shard: str, chunk: str, columns: list[str] | None = None
    ) -> pa.Table:
        """A committed chunk.

        Raises:
            UserError: it is missing or damaged. What is left of it is deleted, so that a run that
                is taken up makes it again.
        """
        with self._chunk(kind, dataset, shard, chunk) as file:
            return file.read(columns=columns)

    @contextmanager
    def _chunk(self, kind: Kind, dataset: str, shard: str, chunk: str) -> Iterator[pq.ParquetFile]:
        name = join(WORK, kind, dataset, shard, f"{chunk}.parquet")
        fs, path = self.path(name)
        try:
            with own_parquet(fs, path) as file:
                yield file
        except (FileNotFoundError, DamagedFileError) as error:
            what = "missing"
            if isinstance(error, DamagedFileError):
                what = f"damaged ({error.reason})"
                self.remove(name)
            raise UserError(
                f"The file {join(self.address, name)!r} of this run is {what}. Run the same "
                "command again: it is made again, and all other work is kept."
            ) from error
        except OSError as error:
            raise unreadable(join(self.address, name), "chunk", error) from error

    def read_shard(
        self, kind: Kind, dataset: str, shard: str, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """A shard's committed chunks, one at a time, in the order of their names."""
        for chunk in self.chunks(kind, dataset, shard):
            yield self.read(kind, dataset, shard, chunk, columns)

    def count(self, kind: Kind, dataset: str, shard: str, chunk: str) -> int:
        """Rows of a committed chunk; 0 where there is none. Raises as `read`."""
        if not self.exists(join(WORK, kind, dataset, shard, f"{chunk}.parquet")):
            return 0
        with self._chunk(kind, dataset, shard, chunk) as file:
            return file.metadata.num_rows

    def all_chunks(self, kind: Kind, dataset: str) -> dict[str, set[str]]:
        """Names of the committed chunks of each shard of a data set, by one listing."""
        found: dict[str, set[str]] = {}
        for path in files_below(*self.path(WORK, kind, dataset)):
            shard, _, name = path.rpartition("/")
            if name.endswith(".parquet"):
                found.setdefault(shard, set()).add(name.removesuffix(".parquet"))
        return found

    def remove_chunk(self, kind: Kind, dataset: str, shard: str, chunk: str) -> None:
        """Delete a committed chunk, if it is there."""
        self.remove(join(WORK, kind, dataset, shard, f"{chunk}.parquet"))

    def mark(self, kind: Kind, dataset: str, shard: str, mark: Mapping[str, Any]) -> None:
        """Note that a shard is complete in the pass of `kind`."""
        where = self.path(WORK, "marks", kind, dataset, f"{shard}.json")
        self._write(where, json.dumps(mark).encode())

    def marks(self, kind: Kind, dataset: str) -> set[str]:
        """The shards that are complete in the pass of `kind`."""
        fs, folder = self.path(WORK, "marks", kind, dataset)
        found = _files(fs, folder, ".json")
        return {path.rsplit("/", 1)[1].removesuffix(".json") for path in found}

    def read_mark(self, kind: Kind, dataset: str, shard: str) -> dict[str, Any]:
        """What `mark` noted.

        Raises:
            UserError: it is missing or damaged.
        """
        mark = self.find_mark(kind, dataset, shard)
        if mark is None:
            name = join(self.address, WORK, "marks", kind, dataset, f"{shard}.json")
            raise UserError(
                f"The file {name!r} of this run is missing or damaged. Run the same command again: "
                "it is made again, and all other work is kept."
            )
        return mark

    def find_mark(self, kind: Kind, dataset: str, shard: str) -> dict[str, Any] | None:
        """What `mark` noted; None where it is missing or damaged."""
        fs, path = self.path(WORK, "marks", kind, dataset, f"{shard}.json")
        try:
            mark = json.loads(fs.cat_file(path))
        except (FileNotFoundError, ValueError):
            return None
        chunks = mark.get("chunks") if isinstance(mark, dict) else None
        counted = isinstance(chunks, dict) and all(
            isinstance(c, list) and len(c) == 2 and all(isinstance(n, int) for n in c)
            for c in chunks.values()
        )
        return mark if counted else None

    def remove_mark(self, kind: Kind, dataset: str, shard: str) -> None:
        """Delete what `mark` noted, if it is there."""
        self.remove(join(WORK, "marks", kind, dataset, f"{shard}.json"))

    def write_parts(
        self, folder: Sequence[str], schema: pa.Schema, tables: Iterable[pa.Table]
    ) -> list[dict[str, Any]]:
        """Write tables as parts of about PART_BYTES; returns path, rows, bytes and hash of each.

        The names and bytes depend on the tables alone. At least one part is written, so that an
        empty table has its columns. Paths are from `root`.
        """
        parts: list[dict[str, Any]] = []
        buffer, writer, rows = io.BytesIO(), None, 0

        def flush() -> None:
            writer.close()
            data = buffer.getvalue()
            name = join(self.folder(*folder), f"part-{len(parts):05d}.parquet")
            self._write(self.output(name), data)
            parts.append({"path": name, "rows": rows, **described_bytes(data)})

        for table in _grouped(tables):
            if writer is None:
                buffer, rows = io.BytesIO(), 0
                writer = pq.ParquetWriter(buffer, schema, **WRITE)
            writer.write_table(table)
            rows += table.num_rows
            if buffer.tell() >= PART_BYTES:
                flush()
                writer = None
        if writer is None and not parts:
            buffer, rows = io.BytesIO(), 0
            writer = pq.ParquetWriter(buffer, schema, **WRITE)
        if writer is not None:
            flush()
        return parts

    def read_parts(self, *folder: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Compacted parts, a row group at a time, in the order of their names.

        Raises:
            UserError: one is damaged.
        """
        fs, path = self.output(self.folder(*folder))
        for part in _parts(fs, path):
            try:
                with own_parquet(fs, part) as file:
                    for group in range(file.num_row_groups):
                        yield file.read_row_group(group, columns=columns)
            except (OSError, DamagedFileError) as error:
                name = join(self.folder(*folder), posixpath.basename(part))
                raise self.damaged(name, error) from error

    def rewrite_parts(
        self, folder: Sequence[str], keep: Callable[[pa.Table], pa.Array]
    ) -> list[dict[str, Any]]:
        """Leave only the rows of compacted parts that `keep` has true for; all parts, described.

        Part by part, each whole or not at all: done again, it changes nothing more.
        """
        fs, path = self.output(self.folder(*folder))
        described = []
        for part in _parts(fs, path):
            data = fs.cat_file(part)
            table = read_table(fs, part)
            kept = table.filter(keep(table))
            if kept.num_rows < table.num_rows:
                self._write((fs, part), data := table_bytes(kept), closely=True)
            name = join(self.folder(*folder), posixpath.basename(part))
            described.append({"path": name, "rows": kept.num_rows, **described_bytes(data)})
        return described

    def remove_parts(self) -> None:
        """Delete the compacted parts of an unfinished batch."""
        self.guard(closely=True)
        fs, root = filesystem(self.root)
        for kind in typing.get_args(Kind):
            for folder in (join(root, kind), *_folders(fs, join(root, kind))):
                parts = _parts(fs, join(folder, f"batch={self.batch}"))
                delete(fs, root, [posixpath.relpath(path, root) for path in parts])

    def remove_shard(self, dataset: str, shard: str) -> None:
        """Delete what was committed of a shard."""
        self.guard(closely=True)
        fs, root = self.path()
        for kind in typing.get_args(Kind):
            found = _files(fs, join(root, WORK, kind, dataset, shard))
            delete(fs, root, [posixpath.relpath(path, root) for path in found])
            self.remove_mark(kind, dataset, shard)

    def remove_work(self) -> None:
        """Delete the files of chunks and marks; the manifest must be there."""
        fs, root = self.path()
        if not fs.exists(join(root, WORK)):
            return
        self.guard(closely=True)
        found = [join(WORK, path) for path in files_below(fs, join(root, WORK))]
        delete(fs, root, filter(is_ours, found))

    def describe(self, name: str) -> dict[str, Any]:
        """Path from `root`, bytes and hash of a file of the run."""
        fs, path = self.path(name)
        shown = join(BATCHES, self.batch, name) if self.batch else name
        return {"path": shown, **described_bytes(fs.cat_file(path))}

    def clear(self, batches: Collection[str] = ()) -> None:
        """Delete a run's files, and no others; `batches` are the names of those that it has.

        Raises:
            UserError: there are files, but it is no run directory, or files of somebody else's
                would be among those of the next run. Nothing is deleted then.
        """
        fs, root = filesystem(self.address)
        found = [path for path in files_below(fs, root) if path != LOCK]
        if FINGERPRINT not in found and any(
            path not in (*CLAIMED, LEDGER) and not is_temporary(path) for path in found
        ):
            raise UserError(
                f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no run "
                "directory, and nothing in it was deleted. Give another run_dir."
            )
        ours = [path for path in found if is_ours(path, batches)]
        among = sorted(p for p in set(found) - set(ours) if p.split("/")[0] in FOLDERS)
        if among:
            more = f" and {len(among) - SHOWN_NAMES:,} more" if len(among) > SHOWN_NAMES else ""
            raise UserError(
                f"The run_dir {self.address!r} holds files that no run wrote, which would be among "
                f"those of the next one: {', '.join(among[:SHOWN_NAMES])}{more}. Nothing was "
                "deleted. Move them elsewhere, or give another run_dir."
            )
        self.guard(closely=True)
        # the fingerprint last: until then it is a run directory, and this can be done again
        delete(fs, root, [path for path in ours if path != FINGERPRINT])
        delete(fs, root, [path for path in ours if path == FINGERPRINT])

    def exists(self, name: str) -> bool:
        """Whether a file of the run is there."""
        fs, path = self.path(name)
        return fs.exists(path)

    def remove(self, name: str) -> None:
        """Delete a file of the run, if it is there."""
        self.guard()
        fs, path = self.path(name)
        if fs.exists(path):
            fs.rm_file(path)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        data = (json.dumps(value, indent=1) + "\n").encode()
        self._write(self.path(name), data, closely=True)

    def read_record(self, kind: type[R], name: str) -> R:
        """Read a record of the run.

        Raises:
            UserError: it is damaged, or a newer version wrote it.
        """
        fs, path = self.path(name)
        return read_record(kind, fs.cat_file(path), join(self.address, name))

    def write_record(self, name: str, record: Record) -> None:
        """Write a record of the run."""
        self.write_json(name, to_json(record))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run."""
        self._write(self.path(name), text.encode())

    def read_text(self, name: str) -> str:
        """Read a text file of the run."""
        fs, path = self.path(name)
        return fs.cat_file(path).decode()

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run, all of which hold an object.

        Raises:
            UserError: it is damaged.
        """
        fs, path = self.path(name)
        try:
            value = json.loads(fs.cat_file(path))
            if not isinstance(value, dict):
                raise ValueError(f"it holds a {type(value).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, error) from error
        return value


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


def described_bytes(data: bytes) -> dict[str, Any]:
    """Length and hash of a file's content, as a manifest has them."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _folders(fs: Any, folder: str) -> list[str]:
    try:
        found = fs.ls(folder, detail=True, refresh=True)
    except FileNotFoundError:
        return []
    return sorted(entry["name"].rstrip("/") for entry in found if entry["type"] == "directory")


def _files(fs: Any, folder: str, suffix: str = ".parquet") -> list[str]:
    """Sorted paths. No glob: the run directory's own name may hold `[` or `*`."""
    try:
        found = fs.ls(folder, detail=False, refresh=True)  # other processes write there
    except FileNotFoundError:
        return []
    return sorted(path for path in found if path.endswith(suffix))


def _parts(fs: Any, folder: str) -> list[str]:
    """Compacted parts, by the names that they are given: none of somebody else's."""
    return [path for path in _files(fs, folder) if PART.fullmatch(posixpath.basename(path))]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, with dotted keys."""
    if isinstance(value, Mapping | list) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
