"""Where a run's files lie, and how they are written: whole, and only while the run holds its lock.

What lies there is known to others: `work` (while it runs), `parts` (when it has ended), and
`directory`, which is the run.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Any, TypeVar

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.records import Record, read_record, to_json
from dawin_ray.runs.layout import BATCHES
from dawin_ray.storage import Fence, filesystem, folders_in, join, read_many, write_whole

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that a run wrote, as a manifest lists it."""

    path: str  # from the run's root
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part(Output):
    """A compacted Parquet file, whose rows are counted too."""

    rows: int


def output_of(path: str, content: bytes) -> Output:
    """A file of some content."""
    return Output(path=path, bytes=len(content), sha256=_hash(content))


def part_of(path: str, content: bytes, rows: int) -> Part:
    """A Parquet file of some content."""
    return Part(path=path, bytes=len(content), sha256=_hash(content), rows=rows)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class RunFolder:
    """The files of one run, at a local path or any fsspec address. Cheap to make and to pickle."""

    def __init__(self, address: str, *, series: str | None = None, fence: Fence | None = None):
        """Touches nothing yet; `series` is the directory that a batch belongs to.

        Every write passes the `fence`, where there is one.
        """
        self.address, self.fence = address, fence
        self.root = series or address  # what the paths in a manifest start from
        self.batch = posixpath.basename(address) if series else None

    def guard(self, *, closely: bool = False) -> None:
        """Stop before a write if the lease of the directory is lost; see `storage.Fence`."""
        if self.fence is not None:
            self.fence.check(closely=closely)

    def write(self, where: tuple[Any, str], data: bytes, *, closely: bool = False) -> None:
        """Write a file whole, or raise; `where` is what `path` or `output` gave."""
        self.guard(closely=closely)
        write_whole(*where, data)

    def path(self, *parts: str) -> tuple[Any, str]:
        """The file system and the path of a file of the run."""
        fs, root = filesystem(self.address)
        return fs, join(root, *parts)

    def output(self, name: str) -> tuple[Any, str]:
        """The file system and path of what is named from `root`, as in a manifest."""
        fs, root = filesystem(self.root)
        return fs, join(root, name)

    def folders(self, *parts: str) -> list[str]:
        """Names of the folders in a folder of the run, sorted."""
        return [posixpath.basename(path) for path in folders_in(*self.path(*parts))]

    def exists(self, name: str) -> bool:
        """Whether a file of the run is there."""
        fs, path = self.path(name)
        return bool(fs.exists(path))

    def remove(self, name: str) -> None:
        """Delete a file of the run, if it is there."""
        self.guard()
        fs, path = self.path(name)
        if fs.exists(path):
            fs.rm_file(path)

    def describe(self, name: str) -> Output:
        """A file of the run as the manifest is to list it."""
        shown = join(BATCHES, self.batch, name) if self.batch else name
        return output_of(shown, self.read_bytes(name))

    def read_bytes(self, name: str) -> bytes:
        """A file of the run."""
        fs, path = self.path(name)
        content: bytes = fs.cat_file(path)
        return content

    def content(self, where: tuple[Any, str], output: Output) -> bytes:
        """A file as it was written, by one request; `where` is what `path` or `output` gave.

        Raises:
            FileNotFoundError: it is not there.
            DamagedFileError: it is not what was written.
        """
        (content,) = read_many(where[0], [where[1]])
        if isinstance(content, Exception):
            raise content
        if _hash(content) != output.sha256:
            raise DamagedFileError(where[1], "its sha256 is another")
        return content

    def read_text(self, name: str) -> str:
        """Read a text file of the run."""
        return self.read_bytes(name).decode()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run."""
        self.write(self.path(name), text.encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run, all of which hold an object.

        Raises:
            UserError: it is damaged.
        """
        content = self.read_bytes(name)
        try:
            value = json.loads(content)
            if not isinstance(value, dict):
                raise ValueError(f"it holds a {type(value).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, error) from error
        return value

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        data = (json.dumps(value, indent=1) + "\n").encode()
        self.write(self.path(name), data, closely=True)

    def read_record(self, kind: type[R], name: str) -> R:
        """Read a record of the run.

        Raises:
            UserError: it is damaged, or a newer version wrote it.
        """
        return read_record(kind, self.read_bytes(name), join(self.address, name))

    def write_record(self, name: str, record: Record) -> None:
        """Write a record of the run."""
        self.write_json(name, to_json(record))

    def damaged(self, name: str, error: Exception) -> UserError:
        """The error for a file of the run that cannot be what was written."""
        return UserError(
            f"The file {join(self.address, name)!r} is damaged: {error}. Restore it, give another "
            "run_dir, or start this one anew with --restart."
        )
