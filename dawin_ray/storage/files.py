"""Addresses: local paths and everything that fsspec reads, and what can go wrong with them.

Faults that pass (a busy server, a broken connection) are retried with growing pauses by the
clients themselves, s3fs five times over botocore's five. What still fails after that is a UserError
that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec

from dawin_ray.errors import UserError
from dawin_ray.storage.credentials import check_address
from dawin_ray.storage.retries import listen

# Numbers of errors that are no fault of a path or of permissions.
OF_THE_DISK = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENOTCONN, errno.ENXIO)

T = TypeVar("T")

READ_BLOCK = 1 << 20  # bytes at a time, for hashing

# fsspec's options as this process found them: of its environment and its configuration files.
_FOUND = {protocol: dict(values) for protocol, values in fsspec.config.conf.items()}


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Set this process's options of file systems, by protocol, over those of its environment."""
    for protocol, values in options.items():
        fsspec.config.conf[protocol] = _FOUND.get(protocol, {}) | dict(values)


def filesystem(address: str, what: str = "address") -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        UserError: the protocol is unknown, what reads it is not installed, or the address holds
            credentials.
    """
    if address.startswith("/"):  # a path of this machine, whatever its names hold, "::" too
        return fsspec.filesystem("file"), address.rstrip("/") or "/"
    check_address(address, what)
    try:
        # no listings cache: other processes write what is listed here
        fs, path = fsspec.core.url_to_fs(os.path.expanduser(address), use_listings_cache=False)
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"Cannot open the {what} {address!r}: {error}. Expected a local path or an address "
            "such as s3://bucket/prefix."
        ) from error
    listen(fs)
    return fs, path.rstrip("/") or "/"


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether paths of this file system are paths of this machine."""
    return isinstance(fs, fsspec.implementations.local.LocalFileSystem)


def read_bytes(address: str, what: str) -> bytes:
    """The whole file at an address; `what` it is goes into the error."""
    fs, path = filesystem(address, what)
    try:
        content: bytes = fs.cat_file(path)
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, what, error) from error
    return content


class _File(Protocol):
    """What every storage client's open files can."""

    def read(self, size: int, /) -> bytes: ...
    def readinto(self, buffer: Any, /) -> int: ...
    def readline(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int, /) -> int: ...
    def tell(self) -> int: ...


class _Stream:
    """An open file whose failures are the storage's, told apart from those of its content."""

    def __init__(self, file: _File, address: str, what: str):
        self._file, self._address, self._what = file, address, what

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self._address, self._what, error) from error

    def read(self, size: int = -1) -> bytes:
        """As a file's, and so are the others."""
        return self._guarded(lambda: self._file.read(size))

    def readinto(self, buffer: Any) -> int:
        return self._guarded(lambda: self._file.readinto(buffer))

    def readline(self, size: int = -1) -> bytes:
        return self._guarded(lambda: self._file.readline(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's; a place that no file has was asked for by the content."""
        try:
            return self._file.seek(offset, whence)
        except (ValueError, OverflowError):
            raise
        except Exception as error:  # every storage client has its own exceptions
            if isinstance(error, OSError) and error.errno == errno.EINVAL:
                raise
            raise unreadable(self._address, self._what, error) from error

    def tell(self) -> int:
        return self._guarded(self._file.tell)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def open_stream(address: str, what: str) -> Iterator[Any]:
    """A file to read from, whose reads raise UserError; `what` it is goes into the error.

    So an OSError that a parser raises is about the content, and one of the network never is.
    """
    fs, path = filesystem(address, what)
    try:
        file = fs.open(path, "rb")
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, what, error) from error
    with file:
        yield _Stream(file, address, what)


def read_lines(address: str, what: str) -> tuple[str, ...]:
    """The lines of a text file without outer space, the empty ones left out.

    Raises:
        UserError: it cannot be read, is no UTF-8, or has no such line.
    """
    try:
        lines = read_bytes(address, what).decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"The {what} {address!r} is no UTF-8 text: {error}") from error
    kept = tuple(line.strip() for line in lines if line.strip())
    if not kept:
        raise UserError(f"The {what} {address!r} is empty; expected an entry a line.")
    return kept


def unreadable(address: str, what: str, error: Exception) -> UserError:
    """The error for something that should be there and is not, or may not be read."""
    reason = (
        "it does not exist" if isinstance(error, FileNotFoundError) and "bucket" not in str(error)
        else f"{type(error).__name__}: {error}"
    )  # fmt: skip
    remedy = "Check the path, and for a remote address its endpoint, credentials and permissions."
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "Raise the number of files that may be open (ulimit -n), and run again."
    elif isinstance(error, OSError) and error.errno in OF_THE_DISK:
        remedy = "Check the disk and its mount, and run again: the work done is kept."
    return UserError(f"Cannot read the {what} {address!r}: {reason}. {remedy}")


def unwritable(address: str, error: Exception) -> UserError:
    """The error for something that cannot be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"Cannot write {address!r}: no space is left there. Make room and run the job again: "
            "the work done is kept."
        )
    return UserError(
        f"Cannot write {address!r}: {type(error).__name__}: {error}. Check the path, and for a "
        "remote address its bucket, endpoint, credentials and permissions; run again afterwards, "
        "the work done is kept."
    )


def sha256(address: str, what: str) -> str:
    """Hash of a file's content, read as a stream."""
    digest = hashlib.sha256()
    with open_stream(address, what) as stream:
        while block := stream.read(READ_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_whole(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it.

    Locally by a temporary name beside it and a rename; elsewhere by one PUT of the whole object,
    which object stores make visible at once or not at all.

    Raises:
        UserError: it cannot be written; the message says why.
    """
    try:
        if is_local(fs):
            _write_local(Path(path), data)
        else:
            fs.pipe_file(path, data)
    except Exception as error:  # every storage client has its own exceptions
        address = path if is_local(fs) else fs.unstrip_protocol(path)
        raise unwritable(address, error) from error


def _write_local(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def join(*parts: str) -> str:
    """Parts of an address joined with '/', whatever the system's separator."""
    return posixpath.join(*parts)


_BEGINNING = b"version https://git-lfs.github.com/spec/"

LFS_POINTER = "it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`"


def lfs_pointer(first_bytes: bytes) -> bool:
    """Whether a file that begins so is a pointer; LFS_POINTER is what to say of it."""
    return first_bytes.startswith(_BEGINNING)
