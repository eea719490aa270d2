"""Finding files: all below a folder, those of a glob or a brace expression, or one.

Local folders are walked here: fsspec leaves out what it cannot list and does not enter links. A
folder that cannot be listed stops; links to files and folders are followed; what is no file (FIFOs,
sockets, devices) is never opened. What is left out is counted, so that it can be said.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.utils import glob_translate

from dawin_ray.data.datasets import Beside
from dawin_ray.data.splits import NAMED, expand, has_braces
from dawin_ray.data.versions import REQUESTS, local_version, version_of
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import filesystem, is_local, join, unreadable

# What systems and tools leave in a folder, beside what begins with a dot.
SYSTEM_FOLDERS = frozenset({
    "__macosx", "lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information",
    "__pycache__",
})  # fmt: skip

SYSTEM_HIDDEN = (".ipynb_checkpoints", ".trash")  # begin names

Info = dict[str, Any]  # what a storage tells of a file, in its own words

MAGIC = re.compile(r"[*?\[]")

MOST_SUFFIXES = 8  # that a note names

SUFFIX_LENGTH = 16  # longer ones are part of a name

KINDS = {
    stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device",
}  # fmt: skip


@dataclass(kw_only=True)
class Found:
    """What lies at an address. Names are raw, and relative to the root."""

    fs: fsspec.AbstractFileSystem
    root: str
    what: str  # it is, for errors
    pattern: bool = False  # the path chooses by a glob or braces
    folder: bool = False  # the path is a folder
    files: dict[str, tuple[int, str]] = field(default_factory=dict)  # name -> bytes, version
    folders: set[str] = field(default_factory=set)  # directly in the root, empty ones too
    dangling: list[str] = field(default_factory=list)  # links to nothing
    looping: list[str] = field(default_factory=list)  # links to a folder above them
    special: dict[str, str] = field(default_factory=dict)  # name -> FIFO, socket, device
    hidden: int = 0
    system: set[str] = field(default_factory=set)  # folders
    absent: list[str] = field(default_factory=list)  # names of a brace expression
    regexes: list[re.Pattern[str]] = field(default_factory=list)  # of a pattern's globs

    def chosen(self, name: str) -> bool:
        """Whether the path asks for a file of this name, if there were one."""
        if not self.pattern:
            return self.folder
        return any(regex.match(join(self.root, name)) for regex in self.regexes)


def is_system(name: str) -> bool:
    """Whether a folder of this name is the system's or a tool's, not the data's."""
    plain = name.casefold()
    return plain in SYSTEM_FOLDERS or plain.startswith(SYSTEM_HIDDEN)


def find(address: str, what: str) -> Found:
    """All files of an address, in the order of their names.

    `what` it is goes into errors.

    Raises:
        UserError: nothing is there, or something cannot be listed.
    """
    fs, path = filesystem(address, what)
    try:
        if not _is_pattern(fs, path):
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
        _sort(found)
        return found
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"The path {address!r} of {what} cannot be read: {error}.") from error
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, what, error) from error


def file_of(found: Found, name: str) -> Beside | None:
    """Address, bytes and version of a file below the root, chosen by the path or not.

    None where there is no such file.

    Raises:
        UserError: the storage does not tell.
    """
    path = join(found.root, name)
    if is_local(found.fs):
        if not os.path.isfile(path):
            return None
        status = os.stat(path)
        return path, status.st_size, local_version(status)
    address = found.fs.unstrip_protocol(path)
    try:
        info = found.fs.info(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(address, f"file of {found.what}", error) from error
    return address, int(info.get("size") or 0), version_of(info)


def class_folders(found: Found) -> tuple[str, ...]:
    """All folders in the root: an empty class must not shift the labels after it.

    Raises:
        UserError: a remote root cannot be listed.
    """
    listed = set(found.folders)
    if not is_local(found.fs):
        try:
            entries = found.fs.ls(found.root, detail=True)
        except Exception as error:  # every storage client has its own exceptions
            address = found.fs.unstrip_protocol(found.root)
            raise unreadable(address, f"folder of {found.what}", error) from error
        listed = {
            posixpath.basename(entry["name"].rstrip("/"))
            for entry in entries
            if entry["type"] == "directory"
        }
    used = {name.split("/")[0] for name in (*found.files, *found.dangling) if "/" in name}
    return tuple(sorted({n for n in listed if not (n.startswith(".") or is_system(n))} | used))


def left_out(found: Found, others: Counter[str]) -> str:
    """Words for all that is no sample; "" where there is nothing. `others` are files by suffix."""
    common = others.most_common(MOST_SUFFIXES)
    more = sum(others.values()) - sum(count for _, count in common)
    parts = [f"{count:,} {suffix}" for suffix, count in common]
    if more:
        parts.append(f"{more:,} of other suffixes")
    if found.hidden:
        parts.append(f"{found.hidden:,} hidden (their names begin with a dot)")
    if found.system:
        names = sorted(map(shown, found.system))
        parts.append(f"the system's folder{'s' * (len(names) > 1)} {_some(names)}")
    for kind, count in sorted(Counter(found.special.values()).items()):
        first = min(name for name, k in found.special.items() if k == kind)
        parts.append(f"{count:,} {kind}{'s' * (count > 1)} ({shown(first)})")
    if found.looping:
        parts.append(
            f"{len(found.looping):,} link{'s' * (len(found.looping) > 1)} that lead back to "
            f"where they lie ({shown(min(found.looping))})"
        )
    return ", ".join(parts)


def suffix_of(name: str) -> str:
    """What a left out file is counted under."""
    file = posixpath.basename(name)
    if ".tar." in file.lower():
        return shown(file[file.lower().rindex(".tar.") :])[:SUFFIX_LENGTH]
    _, dot, suffix = file.rpartition(".")
    if not dot or len(suffix) > SUFFIX_LENGTH:
        return "without a suffix"
    return shown(f".{suffix.lower()}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" * (len(names) > NAMED))


def _is_pattern(fs: fsspec.AbstractFileSystem, path: str) -> bool:
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
            found.files[posixpath.basename(path)] = (status.st_size, local_version(status))
    elif fs.isdir(path):
        found = Found(fs=fs, root=path, what=what, folder=True)
        _take(found, _below(found, None))
    else:
        found = Found(fs=fs, root=posixpath.dirname(path), what=what)
        _take(found, {path: fs.info(path)})
    _sort(found)
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

    found.files.update({ours(name): file for name, file in one.files.items()})
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
        if _lists_at_once(found.fs):
            infos = found.fs.glob(pattern, detail=True)
        else:
            infos = _below(below, depth)
        _take(found, {path: info for path, info in infos.items() if regex.match(path)})
        return
    _walk(below, depth)

    def taken(name: str) -> bool:
        return regex.match(join(root, name)) is not None

    def ours(name: str) -> str:
        return posixpath.relpath(join(root, name), found.root)

    found.files.update({ours(n): file for n, file in below.files.items() if taken(n)})
    found.dangling.extend(ours(n) for n in below.dangling if taken(n))
    found.looping.extend(ours(n) for n in below.looping if taken(n))
    found.special.update({ours(n): kind for n, kind in below.special.items() if taken(n)})


def _sort(found: Found) -> None:
    found.files = dict(sorted(found.files.items()))


def _walk(found: Found, depth: int | None) -> None:
    """All below a local root, `depth` folders deep.

    Raises:
        UserError: a folder cannot be listed, or a file's status cannot be read; by name.
    """
    root = os.stat(found.root)
    # a folder, what its names begin with, and the folders it lies in, itself too
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [
        (found.root, "", ((root.st_dev, root.st_ino),))
    ]
    while waiting:
        folder, prefix, above = waiting.pop()
        for entry in _entries(folder, found.what):
            name = prefix + entry.name
            status = _status_of(found, entry, name)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                this = (status.st_dev, status.st_ino)
                if not _is_left_out(found, entry.name) and _is_new(found, name, this, above):
                    if not prefix:
                        found.folders.add(entry.name)
                    if depth is None or name.count("/") < depth:
                        waiting.append((entry.path, name + "/", (*above, this)))
            elif entry.name.startswith("."):
                found.hidden += 1
            elif kind := _kind(status):
                found.special[name] = kind
            else:
                found.files[name] = (status.st_size, local_version(status))


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


def _is_left_out(found: Found, folder: str) -> bool:
    """Whether a folder of this name is not entered, which is noted."""
    if is_system(folder):
        found.system.add(folder)
    elif folder.startswith("."):
        found.hidden += 1
    else:
        return False
    return True


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


def _lists_at_once(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a storage lists all below a prefix at once, and so raises where it may not.

    fsspec's own walk leaves out folders that cannot be listed, whatever `on_error` says.
    """
    base, name = fsspec.AbstractFileSystem, "find"
    if isinstance(fs, AsyncFileSystem):
        base, name = AsyncFileSystem, "_find"
    return getattr(type(fs), name) is not getattr(base, name)


def _below(found: Found, depth: int | None) -> dict[str, Info]:
    """All that is below a remote root, `depth` folders deep, as the storage tells it.

    Raises:
        UserError: a folder cannot be listed; by name.
    """
    fs = found.fs
    if depth is None and _lists_at_once(fs):
        at_once: dict[str, Info] = fs.find(found.root, detail=True)
        return at_once
    infos: dict[str, Info] = {}
    waiting = [(found.root, 0)]
    while waiting:
        folder, level = waiting.pop()
        try:
            entries = fs.ls(folder, detail=True)
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(fs.unstrip_protocol(folder), f"folder of {found.what}", error) from (
                error
            )
        for entry in entries:
            path = entry["name"].rstrip("/")
            # an index of HTTP has links to anywhere
            if not path.startswith(folder.rstrip("/") + "/"):
                continue
            if entry.get("type") != "directory":
                infos[path] = entry
            elif depth is not None and level >= depth:
                continue
            elif not _is_left_out(found, posixpath.basename(path)):
                waiting.append((path, level + 1))
    return infos


def _take(found: Found, infos: Mapping[str, Info]) -> None:
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
            found.files["/".join(parts)] = (int(info.get("size") or 0), version_of(info))
