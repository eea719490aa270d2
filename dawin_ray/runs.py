"""The run directory: fingerprint, commit of outputs, resume or refuse.

    <run_dir>/job.yaml                                   the job, resolved
              fingerprint.json                           what the outputs depend on
              experts/dataset=NAME/<chunk>.parquet       pass 1
              rejects/<dataset>--<chunk>.parquet         samples that could not be used, and why
              mixture.json                               offsets and mixtures
              predictions/dataset=NAME/<chunk>.parquet   pass 2
              report.json
              manifest.json                              written last: the run is complete

A chunk's file has the chunk's name and appears whole or not at all, so a chunk is done if and only
if its file exists. A task that runs twice writes the same bytes twice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, join, unreadable, write_whole

Kind = Literal["experts", "predictions"]
State = Literal["new", "unfinished", "finished"]

ABSENT = "absent"  # in the list of differences, of which MAX_DIFFERENCES are shown
MAX_DIFFERENCES = 20

FINGERPRINT, MANIFEST = "fingerprint.json", "manifest.json"


class RunDirectory:
    """One run's outputs, at a local path or any fsspec address. Cheap to make and to pickle."""

    def __init__(self, address: str):
        """Touches nothing yet."""
        self.address = address

    def path(self, *parts: str) -> tuple[Any, str]:
        """The file system and the path of a file of the run."""
        fs, root = filesystem(self.address)
        return fs, join(root, *parts)

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
                if fs.exists(root) and fs.ls(root):
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
                "must not mix. Give another run_dir, or remove this one. They differ in:\n"
                + "\n".join(lines)
            )

    def commit(self, kind: Kind, dataset: str, chunk: str, table: pa.Table) -> None:
        """Write a chunk's table under its final name, whole or not at all."""
        fs, path = self.path(kind, f"dataset={dataset}", f"{chunk}.parquet")
        write_whole(fs, path, _parquet_bytes(table))

    def commit_rejects(self, dataset: str, chunk: str, table: pa.Table) -> None:
        """Write a chunk's rejects; before the chunk itself, so that none is lost in between."""
        fs, path = self.path("rejects", f"{dataset}--{chunk}.parquet")
        write_whole(fs, path, _parquet_bytes(table))

    def chunks(self, kind: Kind, dataset: str, prefix: str = "") -> list[str]:
        """Names of the committed chunks that begin with `prefix`, sorted."""
        fs, folder = self.path(kind, f"dataset={dataset}")
        found = (path.rsplit("/", 1)[1] for path in _parquet_files(fs, folder))
        return [name.removesuffix(".parquet") for name in found if name.startswith(prefix)]

    def read(
        self, kind: Kind, dataset: str, chunk: str, columns: list[str] | None = None
    ) -> pa.Table:
        """A committed chunk."""
        fs, path = self.path(kind, f"dataset={dataset}", f"{chunk}.parquet")
        with fs.open(path, "rb") as stream:
            # ParquetFile, as read_table would take "dataset=..." in the path for a column
            return pq.ParquetFile(stream).read(columns=columns)

    def read_all(
        self, kind: Kind, dataset: str, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """All committed chunks, one at a time, in the order of their names."""
        for chunk in self.chunks(kind, dataset):
            yield self.read(kind, dataset, chunk, columns)

    def rejects(self) -> Iterator[pa.Table]:
        """All tables of rejects."""
        fs, folder = self.path("rejects")
        for path in _parquet_files(fs, folder):
            with fs.open(path, "rb") as stream:
                yield pq.ParquetFile(stream).read()

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        fs, path = self.path(name)
        write_whole(fs, path, (json.dumps(value, indent=1) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run."""
        fs, path = self.path(name)
        return json.loads(fs.cat_file(path))


def _parquet_files(fs: Any, folder: str) -> list[str]:
    """Sorted paths. No glob: the run directory's own name may hold `[` or `*`."""
    try:
        found = fs.ls(folder, detail=False, refresh=True)  # other processes write there
    except FileNotFoundError:
        return []
    return sorted(path for path in found if path.endswith(".parquet"))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, with dotted keys."""
    if isinstance(value, Mapping | list) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
