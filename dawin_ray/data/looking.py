"""A look at what lies at an address: some of its files, whatever number of them there is.

For whoever wants to know what data are, not all that they have. Of each folder the first names are
taken, as its storage gives them, and of the folders in it some, spread over their sorted names, are
entered: so class folders from `a` to `z` are seen. All folders of the root are known, as far as
their names are among those.
"""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import TypeVar

import fsspec

from dawin_ray.data.finding import LocalFolder, below_local, find, is_pattern, take
from dawin_ray.data.found import Found, leaves_out
from dawin_ray.data.remote import Info, beside
from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, first_entries, is_local, join, unreadable

MOST_NAMES = 10_000  # of one folder

MOST_FOLDERS = 16  # in one folder that are entered

MOST_LISTED = 200  # folders of an address, with those in them

MOST_DEPTH = 4  # folders below the root

Item = TypeVar("Item")

_Level = list[LocalFolder]


def find_some(address: str, what: str) -> Found:
    """Some files of a folder, in the order of their names; all of a glob, and one file.

    `what` it is goes into errors. `Found.partly` tells whether there is more.

    Raises:
        UserError: nothing is there, or a folder cannot be listed.
    """
    fs, path = filesystem(address, what)
    try:
        if is_pattern(fs, path) or not _is_folder(fs, path):
            return find(address, what)
        found = Found(fs=fs, root=path, what=what, folder=True)
        level, listed = [_root(found)], 0
        for depth in range(MOST_DEPTH + 1):
            entered = level[: MOST_LISTED - listed]
            listed += len(entered)
            found.partly |= len(entered) < len(level)
            level = []
            for inner in _each_listed(found, entered):
                chosen = spread(sorted(inner, key=lambda one: one.prefix), MOST_FOLDERS)
                found.partly |= len(chosen) < len(inner) or depth == MOST_DEPTH
                level += chosen
    except UserError:
        raise
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, what, error) from error
    found.files = found.taken.files()
    return found


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many of them at equal distances, the first and the last among them; all, if they are few.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(items) <= count:
        return list(items)
    last = len(items) - 1
    return [items[i * last // max(count - 1, 1)] for i in range(count)]


def _is_folder(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether something lies below a path; s3fs would list all of a bucket for its answer."""
    if hasattr(fs, "call_s3"):
        return bool(first_entries(fs, path, 1)[0])
    return bool(fs.isdir(path))


def _root(found: Found) -> LocalFolder:
    if not is_local(found.fs):
        return LocalFolder(prefix="", path=found.root, above=())
    status = os.stat(found.root)
    return LocalFolder(prefix="", path=found.root, above=((status.st_dev, status.st_ino),))


def _each_listed(found: Found, folders: _Level) -> Iterator[_Level]:
    """The folders in each; their files are taken."""
    if is_local(found.fs):
        return (_local(found, folder) for folder in folders)
    listed = beside(lambda folder: first_entries(found.fs, folder.path, MOST_NAMES), folders)
    return (_remote(found, *both) for both in zip(folders, listed, strict=True))


def _local(found: Found, folder: LocalFolder) -> _Level:
    inner: _Level = []
    entries = below_local(found, folder, None)
    for one in itertools.islice(entries, MOST_NAMES):
        if isinstance(one, LocalFolder):
            inner.append(one)
        else:
            found.taken.add(*one)
    found.partly |= next(entries, None) is not None
    return inner


def _remote(found: Found, folder: LocalFolder, listed: tuple[list[Info], bool]) -> _Level:
    inner: _Level = []
    entries, more = listed
    found.partly |= more
    for entry in entries:
        path = entry["name"].rstrip("/")
        name = posixpath.basename(path)
        if not path.startswith(folder.path.rstrip("/") + "/"):
            continue  # an index of HTTP has links to anywhere
        if entry.get("type") != "directory":
            take(found, {path: entry})
        elif not leaves_out(found, name):
            if not folder.prefix:
                found.folders.add(name)
            inner.append(LocalFolder(f"{join(folder.prefix, name)}/", path, ()))
    return inner
