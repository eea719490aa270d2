"""Addresses: local paths and everything that fsspec reads, behind three small functions."""

from __future__ import annotations

import hashlib
import os
import posixpath
import uuid
from pathlib import Path

import fsspec

from dawin_ray.errors import UserError

READ_BLOCK = 1 << 20  # bytes at a time, for hashing


def filesystem(address: str, what: str = "address") -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        UserError: the protocol is unknown, or what reads it is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(os.path.expanduser(address))
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"Cannot open the {what} {address!r}: {error}. Expected a local path or an address "
            "such as s3://bucket/prefix."
        ) from error
    return fs, path.rstrip("/") or "/"


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether paths of this file system are paths of this machine."""
    return isinstance(fs, fsspec.implementations.local.LocalFileSystem)


def read_bytes(address: str, what: str) -> bytes:
    """The whole file at an address; `what` it is goes into the error."""
    fs, path = filesystem(address)
    try:
        return fs.cat_file(path)
    except (OSError, ValueError) as error:
        raise unreadable(address, what, error) from error


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
        "it does not exist"
        if isinstance(error, FileNotFoundError)
        else f"{type(error).__name__}: {error}"
    )
    return UserError(
        f"Cannot read the {what} {address!r}: {reason}. Check the path, and for a remote address "
        "its endpoint, credentials and permissions."
    )


def sha256(address: str, what: str) -> str:
    """Hash of a file's content, read as a stream."""
    fs, path = filesystem(address)
    digest = hashlib.sha256()
    try:
        with fs.open(path, "rb") as stream:
            while block := stream.read(READ_BLOCK):
                digest.update(block)
    except (OSError, ValueError) as error:
        raise unreadable(address, what, error) from error
    return digest.hexdigest()


def write_whole(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it.

    Locally by a temporary name beside it and a rename; elsewhere by one PUT of the whole object,
    which object stores make visible at once or not at all.
    """
    if is_local(fs):
        target = Path(path)
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
    else:
        fs.pipe_file(path, data)


def join(*parts: str) -> str:
    """Parts of an address joined with '/', whatever the system's separator."""
    return posixpath.join(*parts)
