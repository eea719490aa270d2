"""Finding files: all below a folder, those of a glob or a brace expression, or one.

Local folders are walked here: fsspec leaves out what it cannot list and does not enter links. A
folder that cannot be listed stops; links to files and folders are followed; what is no file (FIFOs,
sockets, devices) is never opened. What is left out is counted, so that it can be said. Remote
folders are listed by `remote`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import fsspec
from fsspec.utils import glob_translate

from dawin_ray.data import remote
from dawin_ray.data.found import Found, is_system, leaves_out
from dawin_ray.data.splits import expand, has_braces
from dawin_ray.data.versions import REQUESTS, local_version, version_of
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import filesystem, is_local, join, unreadable

MAGIC = re.compile(r"[*?\[]")

KINDS = {
    stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device",
}  # fmt: skip


class LocalFile(NamedTuple):
    """A local file that is taken."""

    name: str
    size: int
    version: str


class LocalFolder(NamedTuple):
    """A local folder that is entered."""

    prefix: str  # the names of its files begin with, which puts it among them in their order
    path: str
    above: tuple[tuple[int, int], ...]  # device and inode of the folders it lies in, itself too


def find(address: str, what: str) -> Found:
    """All files of an address, in the order of their names.

    `what` it is goes into errors.

    Raises:
        UserError: nothing is there, or something cannot be listed.
    """
    fs, path = filesystem(address, what)
    try:
        if not is_pattern(fs, path):
            return _at(fs, path, what)
        found = Found(fs=fs, root=_root_of(path), what=what, pattern=True)
        plain = []
        for one in expand(path):
            if MAGIC.search(one):
                found.regexes.append(re.compile(glob_translate(one)))
                _glob(found, one)
            else:
                plain.append(one)
        with ThreadPoolExecutor(1 if is_local(fs) else REQUESTS) as threads:
            there = list(threads.map(lambda one: _if_there(fs, one, what), plain))
        for one, below in zip(plain, there, strict=True):
            if below is None:
                found.absent.append(posixpath.relpath(one, found.root))
            else:
                _add(found, below)
        found.files = found.taken.files()
        return found
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"The path {address!r} of {what} cannot be read: {error}.") from error
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, what, error) from error


def is_pattern(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether a path chooses by a glob or braces, and is no name of something that is there."""
    if is_local(fs):
        return bool(MAGIC.search(path) or has_braces(path)) and not os.path.lexists(path)
    if "*" in path or "?" in path:
        return True
    return ("[" in path or has_braces(path)) and not fs.exists(path)


def _root_of(path: str) -> str:
    """The folder that holds all that a pattern can take."""
    first = min(m.start() for m in (MAGIC.search(path), re.search(r"\{", path)) if m)
    return posixpath.dirname(path[:first])


def _at(fs: fsspec.AbstractFileSystem, path: str, what: str) -> Found:
    if is_local(fs):
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            found = Found(fs=fs, root=path, what=what, folder=True)
            _walk(found, None)
        else:
            found = Found(fs=fs, root=posixpath.dirname(path), what=what)
            if kind := _kind(status):
                raise ValueError(f"it is a {kind}, not a file or a folder")
            found.taken.add(posixpath.basename(path), status.st_size, local_version(status))
    elif fs.isdir(path):
        found = Found(fs=fs, root=path, what=what, folder=True)
        for infos in remote.below(found, None):
            take(found, infos)
    else:
        found = Found(fs=fs, root=posixpath.dirname(path), what=what)
        take(found, {path: fs.info(path)})
    found.files = found.taken.files()
    return found


def _if_there(fs: fsspec.AbstractFileSystem, path: str, what: str) -> Found | None:
    try:
        return _at(fs, path, what)
    except FileNotFoundError:
        return None


def _add(found: Found, one: Found) -> None:
    """What lies at one path of a brace expression, a file or a folder."""
    prefix = posixpath.relpath(one.root, found.root)

    def ours(name: str) -> str:
        return posixpath.normpath(join(prefix, name))

    for name, size, version in one.files.rows():
        found.taken.add(ours(name), size, version)
    found.dangling.extend(map(ours, one.dangling))
    found.looping.extend(map(ours, one.looping))
    found.special.update({ours(name): kind for name, kind in one.special.items()})
    found.hidden += one.hidden
    found.system |= one.system


def _glob(found: Found, pattern: str) -> None:
    root, regex = _root_of(pattern), found.regexes[-1]
    rest = pattern[len(root) :].strip("/")
    depth = None if "**" in rest else rest.count("/")
    below = Found(fs=found.fs, root=root, what=found.what)
    if not is_local(found.fs):
        for infos in remote.below(below, depth):
            take(found, {path: info for path, info in infos.items() if regex.match(path)})
        return
    _walk(below, depth)

    def taken(name: str) -> bool:
        return regex.match(join(root, name)) is not None

    def ours(name: str) -> str:
        return posixpath.relpath(join(root, name), found.root)

    for name, size, version in below.taken.files().rows():
        if taken(name):
            found.taken.add(ours(name), size, version)
    found.dangling.extend(ours(n) for n in below.dangling if taken(n))
    found.looping.extend(ours(n) for n in below.looping if taken(n))
    found.special.update({ours(n): kind for n, kind in below.special.items() if taken(n)})


def _walk(found: Found, depth: int | None) -> None:
    """All below a local root, `depth` folders deep.

    Raises:
        UserError: a folder cannot be listed, or a file's status cannot be read; by name.
    """
    root = os.stat(found.root)
    # what is still to be taken, in the order of names from the last to the first
    waiting: list[LocalFolder | LocalFile] = [
        LocalFolder(prefix="", path=found.root, above=((root.st_dev, root.st_ino),))
    ]
    while waiting:
        first = waiting.pop()
        if isinstance(first, LocalFolder):
            below = below_local(found, first, depth)
            waiting += sorted(below, key=lambda one: one[0], reverse=True)
        else:
            found.taken.add(*first)


def below_local(
    found: Found, folder: LocalFolder, depth: int | None
) -> Iterator[LocalFolder | LocalFile]:
    """What is directly in a folder, as far as it is data."""
    for entry in _entries(folder.path, found.what):
        name = folder.prefix + entry.name
        status = _status_of(found, entry, name)
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            this = (status.st_dev, status.st_ino)
            if not leaves_out(found, entry.name) and _is_new(found, name, this, folder.above):
                if not folder.prefix:
                    found.folders.add(entry.name)
                if depth is None or name.count("/") < depth:
                    yield LocalFolder(name + "/", entry.path, (*folder.above, this))
        elif entry.name.startswith("."):
            found.hidden += 1
        elif kind := _kind(status):
            found.special[name] = kind
        else:
            yield LocalFile(name, status.st_size, local_version(status))


def _status_of(found: Found, entry: os.DirEntry[str], name: str) -> os.stat_result | None:
    """The status of what an entry leads to; None of a link to nothing, which is noted."""
    is_link = entry.is_symlink()
    try:
        return entry.stat()
    except (FileNotFoundError, NotADirectoryError):
        if is_link and not entry.name.startswith("."):
            found.dangling.append(name)
        return None  # else it was deleted just now
    except OSError as error:
        if is_link and error.errno == errno.ELOOP:
            found.looping.append(name)
            return None
        raise unreadable(shown(entry.path), f"file of {found.what}", error) from error


def _is_new(
    found: Found, name: str, this: tuple[int, int], above: tuple[tuple[int, int], ...]
) -> bool:
    """Whether a folder is none of those above it; where it is, that is noted."""
    if this in above:
        found.looping.append(name)
    return this not in above


def _entries(folder: str, what: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise unreadable(shown(folder), f"folder of {what}", error) from error


def _kind(status: os.stat_result) -> str | None:
    """What something is that is no file; None of a file."""
    kind = stat.S_IFMT(status.st_mode)
    return None if kind == stat.S_IFREG else KINDS.get(kind, "special file")


def take(found: Found, infos: Mapping[str, remote.Info]) -> None:
    """Files as a remote storage tells them, by path; what is no data is noted."""
    for where, info in infos.items():
        parts = posixpath.relpath(where, found.root).split("/")
        if info.get("type") == "directory" or where.endswith("/"):
            continue
        if system := next((p for p in parts[:-1] if is_system(p)), None):
            found.system.add(system)
        elif any(part.startswith(".") for part in parts):
            found.hidden += 1
        elif info.get("type") == "other":
            found.special["/".join(parts)] = "special file"
        else:
            found.taken.add("/".join(parts), int(info.get("size") or 0), version_of(info))
