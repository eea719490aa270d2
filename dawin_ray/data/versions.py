"""Versions of files: how a storage tells that one has changed, and the look when it is opened.

A version is an etag, a generation or a time of change, whatever the storage calls it. Where it has
none, the content's hash stands in (`sha256:...`), which is taken once, when the data are listed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fsspec

from dawin_ray.data.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import READ_BLOCK, filesystem, is_local, join, unreadable

# What storages call it, without case and punctuation, the surest first: s3fs ETag, adlfs etag,
# gcsfs etag and generation, http ETag, Content-MD5 and Last-Modified, sftp mtime, memory created.
VERSION_KEYS = (
    "etag", "generation", "contentmd5", "md5", "md5hash", "md5checksum", "digest", "sha",
    "mtime", "lastmodified", "updated", "modified", "modifiedtime", "datetime", "created",
)  # fmt: skip

MD5 = re.compile("[0-9a-f]{32}")  # what may be a hash of the content, as S3's etags mostly are

HASHED = "sha256:"  # begins a version that is the content's hash

REQUESTS = 32  # files that a storage is asked about at once

_File = tuple[str, int, str]  # name, bytes, version


def version_of(info: Mapping[str, Any]) -> str:
    """A file's version as its storage's listing tells it; "" where it tells none."""
    return next(iter(_versions(info)), "")


def local_version(status: os.stat_result) -> str:
    """A local file's version: the time of its last change, in ns."""
    return str(status.st_mtime_ns)


def ask(fs: fsspec.AbstractFileSystem, paths: Sequence[str], what: str) -> list[tuple[int, str]]:
    """Bytes and version of remote files, each asked for by itself.

    Raises:
        UserError: one of them cannot be read.
    """

    def one(path: str) -> tuple[int, str]:
        try:
            info = fs.info(path)
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(fs.unstrip_protocol(path), what, error) from error
        return int(info.get("size") or 0), version_of(info)

    with ThreadPoolExecutor(REQUESTS) as threads:
        return list(threads.map(one, paths))


def hashes(fs: fsspec.AbstractFileSystem, paths: Sequence[str], what: str) -> list[tuple[int, str]]:
    """Bytes and version of files of which nothing but the content tells a version.

    Raises:
        UserError: one of them cannot be read.
    """

    def one(path: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        try:
            with fs.open(path, "rb") as stream:
                while block := stream.read(READ_BLOCK):
                    digest.update(block)
                    size += len(block)
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(fs.unstrip_protocol(path), what, error) from error
        return size, HASHED + digest.hexdigest()

    with ThreadPoolExecutor(REQUESTS) as threads:
        return list(threads.map(one, paths))


def check_unchanged(shard: Shard) -> None:
    """Look again at a shard's files, which are about to be read; at some, `check_read` does.

    A version "" is not checked, nor is a hash, which only reading could tell. An image that is gone
    is left to the reader, which makes a reject of it.

    Raises:
        UserError: a file is another one than was listed, or a shard is gone.
    """
    if shard.beside is not None:
        address, size, version = shard.beside
        check_unchanged(replace(shard, address=address, bytes=size, version=version, beside=None))
    if not shard.images:
        _check(shard, [("", shard.bytes, shard.version)])
        return
    fs, _ = filesystem(shard.address, "shard")
    files = _images(shard)
    if not is_local(fs):  # these are told by their content: see `check_read`
        files = [file for file in files if not MD5.fullmatch(file[2])]
    _check(shard, files)


def check_read(shard: Shard, contents: Mapping[int, bytes]) -> None:
    """Look whether what was read of a shard's remote images is what was listed, by its hash.

    S3 has the MD5 of a file for its etag as a rule, and only where it has not it is asked again:
    so most images cost one request, not two. `contents` are by their ordinals in the shard.

    Raises:
        UserError: as `check_unchanged`.
    """
    fs, _ = filesystem(shard.address, "shard")
    if not is_local(fs):
        files = _images(shard)
        others = [
            files[ordinal]
            for ordinal, content in contents.items()
            if MD5.fullmatch(files[ordinal][2])
            and hashlib.md5(content, usedforsecurity=False).hexdigest() != files[ordinal][2]
        ]
        _check(shard, others)


def _images(shard: Shard) -> list[_File]:
    versions = shard.versions or itertools.repeat("")
    images = zip(shard.images, versions, strict=False)
    return [(name, size, version) for (name, size, _), version in images]


def _check(shard: Shard, files: Sequence[_File]) -> None:
    """Ask for a shard's files again; a name is below its address, "" for the address itself.

    Raises:
        UserError: as `check_unchanged`.
    """
    files = [f for f in files if f[2] and not f[2].startswith(HASHED)]
    if not files:
        return
    fs, root = filesystem(shard.address, "shard")
    paths = [join(root, name) if name else root for name, _, _ in files]
    if is_local(fs):
        found: Iterable[tuple[int | None, tuple[str, ...]] | None] = map(_look, paths)
    else:
        with ThreadPoolExecutor(REQUESTS) as threads:
            found = list(threads.map(lambda path: _ask_again(fs, path), paths))
    for (name, size, version), now in zip(files, found, strict=True):
        if now is None and shard.images:
            continue
        if now is not None and now[0] in (size, None) and (version in now[1] or not now[1]):
            continue
        if now is None:
            what = "it is gone"
        elif now[0] not in (size, None):
            what = f"it had {size:,} bytes and has {now[0]:,}"
        else:
            what = f"its version was {version} and is {now[1][0]}"
        raise UserError(
            f"A file of data set '{shard.dataset}' has changed since it was listed: "
            f"{shown(join(shard.address, name) if name else shard.address)!r}: {what}. What is "
            "scored must be one state of the data: put the old file back and run again, or start "
            "anew with --restart (with mode: append, just run again)."
        )


def _look(path: str) -> tuple[int, tuple[str, ...]] | None:
    """Bytes and version of a local file; None where it is gone."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, "shard", error) from error
    if not stat.S_ISREG(status.st_mode):  # never opened: a FIFO would hang
        raise unreadable(path, "file", OSError("it was a file when it was listed, and is none now"))
    return status.st_size, (local_version(status),)


def _ask_again(
    fs: fsspec.AbstractFileSystem, path: str
) -> tuple[int | None, tuple[str, ...]] | None:
    """Bytes and all that may be called the version of a remote file; None where it is gone."""
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(fs.unstrip_protocol(path), "shard", error) from error
    return info.get("size"), tuple(_versions(info))


def _versions(info: Mapping[str, Any]) -> list[str]:
    plain = {re.sub(r"[^a-z0-9]", "", str(key).lower()): value for key, value in info.items()}
    return [_text(plain[key]) for key in VERSION_KEYS if plain.get(key) not in (None, "")]


def _text(value: Any) -> str:
    """The same whether a storage gives a time as seconds or as a date, here or elsewhere."""
    if isinstance(value, datetime):
        utc = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return str(utc.timestamp())
    return str(value).strip('"')
