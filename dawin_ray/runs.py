"""The run directory: fingerprint, commit of outputs, resume or refuse.

    <run_dir>/job.yaml                                     the job, resolved
              fingerprint.json                             what the outputs depend on
              mixture.json                                 offsets and mixtures
              work/<kind>/<data set>/<shard>/<chunk>.parquet   while it runs: a file a chunk
              work/marks/<pass>/<data set>/<shard>.json        a shard is complete in a pass
              <kind>/dataset=NAME/part-00000.parquet       compacted; kind: experts, predictions
              rejects/part-00000.parquet                   samples that could not be used, and why
              report.json
              classes.json                                 names of the data sets' classes
              fit.json                                     the fits, for jobs that apply them
              audit.json  report.html  csv/                from the above, by `report` too;
                                                           no hash holds them
              manifest.json                                written last: the run is complete

A run directory that grows (`mode: append`) holds a run of this kind for each batch, of which only
the compacted parts lie elsewhere, so that one read of `predictions/` has them all (see batches.py):

    <run_dir>/job.yaml  fingerprint.json  manifest.json  report.html
              batches/<batch>/                             as above
              <kind>/dataset=NAME/batch=<batch>/part-00000.parquet
              rejects/batch=<batch>/part-00000.parquet

A chunk's file has the chunk's name and appears whole or not at all, so a chunk is done if and only
if its file exists. A task that runs twice writes the same bytes twice. A mark says that all chunks
of a shard are there, so that a resumed run need not read the shard to know. `work/` goes when the
manifest is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import UserError
from dawin_ray.locking import LOCK
from dawin_ray.parquet_files import WRITE, own_parquet, read_table, table_bytes
from dawin_ray.storage import filesystem, join, unreadable, write_whole

Kind = Literal["experts", "rejects", "predictions"]
State = Literal["new", "unfinished", "finished"]

ABSENT = "absent"  # in the list of differences, of which MAX_DIFFERENCES are shown
MAX_DIFFERENCES = 20

FINGERPRINT, MIXTURE, MANIFEST = "fingerprint.json", "mixture.json", "manifest.json"
CLASSES, AUDIT, PAGE, CSV = "classes.json", "audit.json", "report.html", "csv"
WORK = "work"
BATCHES, SHARDS = "batches", "shards.jsonl"
# All that a run writes into its directory, besides the lock.
OURS = {
    FINGERPRINT, MIXTURE, MANIFEST, WORK, "job.yaml", "report.json", "experts", "predictions",
    "rejects", "cache", "fit.json", CLASSES, AUDIT, PAGE, CSV, BATCHES,
}  # fmt: skip
# Size of a compacted part, before its last row group: one PUT, and few files for a reader.
PART_BYTES = 128 << 20
ROW_GROUP = 1 << 16  # rows of a part that are read at a time


class RunDirectory:
    """One run's outputs, at a local path or any fsspec address. Cheap to make and to pickle."""

    def __init__(self, address: str, *, series: str | None = None):
        """Touches nothing yet; `series` is the directory that a batch belongs to."""
        self.address = address
        self.root = series or address  # what the paths in a manifest start from
        self.batch = posixpath.basename(address) if series else None

    @classmethod
    def at(cls, address: str) -> RunDirectory:
        """A run, or a batch where the address is `<run_dir>/batches/<batch>`."""
        above, folder, name = address.rstrip("/").rpartition(f"/{BATCHES}/")
        return cls(address.rstrip("/"), series=above) if folder and name else cls(address)

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

    def state(self, fingerprint: Mapping[str, Any]) -> State:
        """What is there, without claiming it; keys that `fingerprint` lacks are not compared.

        Raises:
            UserError: as `open`.
        """
        fs, path = self.path(FINGERPRINT)
        try:
            if not fs.exists(path):
                return "new"
            theirs = json.loads(fs.cat_file(path))
            finished = fs.exists(self.path(MANIFEST)[1])
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        ours = json.loads(json.dumps(fingerprint))
        self._check_same({k: v for k, v in theirs.items() if k in ours}, ours)
        return "finished" if finished else "unfinished"

    def open(self, fingerprint: Mapping[str, Any], job_yaml: str) -> State:
        """Claim the directory for a job: new, or the same job again.

        Raises:
            UserError: it holds the run of another job (the message shows what differs), or files
                of something else, or cannot be written.
        """
        state = self.state(fingerprint)
        fs, job_path = self.path("job.yaml")
        try:
            if state == "new":
                root = filesystem(self.address)[1]
                found = fs.ls(root, detail=False) if fs.exists(root) else []
                if any(posixpath.basename(path) not in (LOCK, SHARDS) for path in found):
                    raise UserError(
                        f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no "
                        "run directory. Give another run_dir, or empty this one."
                    )
                ours = json.dumps(fingerprint, indent=1)
                write_whole(fs, self.path(FINGERPRINT)[1], ours.encode())
            if not fs.exists(job_path):  # a new run, or a claim that was cut short
                write_whole(fs, job_path, job_yaml.encode())
        except UserError:
            raise
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        return state

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
        fs, path = self.path(WORK, kind, dataset, shard, f"{chunk}.parquet")
        write_whole(fs, path, table_bytes(table))

    def chunks(self, kind: Kind, dataset: str, shard: str) -> list[str]:
        """Names of a shard's committed chunks, sorted."""
        fs, folder = self.path(WORK, kind, dataset, shard)
        return [path.rsplit("/", 1)[1].removesuffix(".parquet") for path in _files(fs, folder)]

    def read(
        self, kind: Kind, dataset: str, shard: str, chunk: str, columns: list[str] | None = None
    ) -> pa.Table:
        """A committed chunk."""
        return read_table(*self.path(WORK, kind, dataset, shard, f"{chunk}.parquet"), columns)

    def read_shard(
        self, kind: Kind, dataset: str, shard: str, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """A shard's committed chunks, one at a time, in the order of their names."""
        for chunk in self.chunks(kind, dataset, shard):
            yield self.read(kind, dataset, shard, chunk, columns)

    def count(self, kind: Kind, dataset: str, shard: str, chunk: str) -> int:
        """Rows of a committed chunk; 0 where there is none."""
        fs, path = self.path(WORK, kind, dataset, shard, f"{chunk}.parquet")
        try:
            with own_parquet(fs, path) as file:
                return file.metadata.num_rows
        except FileNotFoundError:
            return 0

    def mark(self, kind: Kind, dataset: str, shard: str, mark: Mapping[str, Any]) -> None:
        """Note that a shard is complete in the pass of `kind`."""
        fs, path = self.path(WORK, "marks", kind, dataset, f"{shard}.json")
        write_whole(fs, path, json.dumps(mark).encode())

    def marks(self, kind: Kind, dataset: str) -> set[str]:
        """The shards that are complete in the pass of `kind`."""
        fs, folder = self.path(WORK, "marks", kind, dataset)
        found = _files(fs, folder, ".json")
        return {path.rsplit("/", 1)[1].removesuffix(".json") for path in found}

    def read_mark(self, kind: Kind, dataset: str, shard: str) -> dict[str, Any]:
        """What `mark` noted."""
        fs, path = self.path(WORK, "marks", kind, dataset, f"{shard}.json")
        return json.loads(fs.cat_file(path))

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
            write_whole(*self.output(name), data)
            parts.append({"path": name, "rows": rows, **_described(data)})

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
        """Compacted parts, a row group at a time, in the order of their names."""
        fs, path = self.output(self.folder(*folder))
        for part in _files(fs, path):
            with own_parquet(fs, part) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=columns)

    def rewrite_parts(
        self, folder: Sequence[str], keep: Callable[[pa.Table], pa.Array]
    ) -> list[dict[str, Any]]:
        """Leave only the rows of compacted parts that `keep` has true for; all parts, described.

        Part by part, each whole or not at all: done again, it changes nothing more.
        """
        fs, path = self.output(self.folder(*folder))
        described = []
        for part in _files(fs, path):
            data, table = fs.cat_file(part), read_table(fs, part)
            kept = table.filter(keep(table))
            if kept.num_rows < table.num_rows:
                write_whole(fs, part, data := table_bytes(kept))
            name = join(self.folder(*folder), posixpath.basename(part))
            described.append({"path": name, "rows": kept.num_rows, **_described(data)})
        return described

    def remove_parts(self) -> None:
        """Delete the compacted parts of an unfinished batch."""
        fs, root = filesystem(self.root)
        for kind in typing.get_args(Kind):
            for folder in (join(root, kind), *_folders(fs, join(root, kind))):
                if fs.exists(path := join(folder, f"batch={self.batch}")):
                    fs.rm(path, recursive=True)

    def remove_shard(self, dataset: str, shard: str) -> None:
        """Delete what was committed of a shard."""
        for kind in typing.get_args(Kind):
            fs, folder = self.path(WORK, kind, dataset, shard)
            if fs.exists(folder):
                fs.rm(folder, recursive=True)
            self.remove(join(WORK, "marks", kind, dataset, f"{shard}.json"))

    def remove_work(self) -> None:
        """Delete the files of chunks and marks; the manifest must be there."""
        fs, path = self.path(WORK)
        if fs.exists(path):
            fs.rm(path, recursive=True)

    def describe(self, name: str) -> dict[str, Any]:
        """Path from `root`, bytes and hash of a file of the run."""
        fs, path = self.path(name)
        shown = join(BATCHES, self.batch, name) if self.batch else name
        return {"path": shown, **_described(fs.cat_file(path))}

    def clear(self) -> None:
        """Delete a run's files, and no others.

        Raises:
            UserError: there are files, but it is no run directory.
        """
        fs, root = filesystem(self.address)
        found = fs.ls(root, detail=False, refresh=True) if fs.exists(root) else []
        names = {posixpath.basename(path.rstrip("/")): path for path in found}
        if names.keys() - {LOCK} and FINGERPRINT not in names:
            raise UserError(
                f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no run "
                "directory, and nothing in it was deleted. Give another run_dir."
            )
        # the fingerprint last: until then it is a run directory, and this can be done again
        for name in (*sorted(OURS - {FINGERPRINT}), FINGERPRINT):
            if name in names:
                fs.rm(names[name], recursive=True)

    def exists(self, name: str) -> bool:
        """Whether a file of the run is there."""
        fs, path = self.path(name)
        return fs.exists(path)

    def remove(self, name: str) -> None:
        """Delete a file of the run, if it is there."""
        fs, path = self.path(name)
        if fs.exists(path):
            fs.rm_file(path)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        fs, path = self.path(name)
        write_whole(fs, path, (json.dumps(value, indent=1) + "\n").encode())

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run."""
        write_whole(*self.path(name), text.encode())

    def read_text(self, name: str) -> str:
        """Read a text file of the run."""
        fs, path = self.path(name)
        return fs.cat_file(path).decode()

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run."""
        fs, path = self.path(name)
        return json.loads(fs.cat_file(path))


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


def _described(data: bytes) -> dict[str, Any]:
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


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, with dotted keys."""
    if isinstance(value, Mapping | list) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
