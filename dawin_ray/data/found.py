"""What lies at the address of a data set, and what is told of it.

What is left out is counted, so that it can be said.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field

import fsspec

from dawin_ray.data.datasets import Beside
from dawin_ray.data.files import Files, GrowingFiles, files_of
from dawin_ray.data.splits import NAMED
from dawin_ray.data.versions import local_version, version_of
from dawin_ray.names import shown
from dawin_ray.storage import is_local, join, unreadable

# What systems and tools leave in a folder, beside what begins with a dot.
SYSTEM_FOLDERS = frozenset({
    "__macosx", "lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information",
    "__pycache__",
})  # fmt: skip

SYSTEM_HIDDEN = (".ipynb_checkpoints", ".trash")  # begin names

MOST_SUFFIXES = 8  # that a note names

SUFFIX_LENGTH = 16  # longer ones are part of a name


@dataclass(kw_only=True)
class Found:
    """What lies at an address. Names are raw, and relative to the root."""

    fs: fsspec.AbstractFileSystem
    root: str
    what: str  # it is, for errors
    pattern: bool = False  # the path chooses by a glob or braces
    folder: bool = False  # the path is a folder
    taken: GrowingFiles = field(default_factory=GrowingFiles)  # while they are found
    files: Files = field(default_factory=lambda: files_of(()))  # of all that were taken
    folders: set[str] = field(default_factory=set)  # directly in the root, empty ones too
    dangling: list[str] = field(default_factory=list)  # links to nothing
    looping: list[str] = field(default_factory=list)  # links to a folder above them
    special: dict[str, str] = field(default_factory=dict)  # name -> FIFO, socket, device
    hidden: int = 0
    system: set[str] = field(default_factory=set)  # folders
    partly: bool = False  # there is more than was looked at
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


def leaves_out(found: Found, folder: str) -> bool:
    """Whether a folder of this name is not entered, which is noted."""
    if is_system(folder):
        found.system.add(folder)
    elif folder.startswith("."):
        found.hidden += 1
    else:
        return False
    return True


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
    if not (is_local(found.fs) or found.folder):  # where the path is one, they were found with it
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
    names = itertools.chain(found.files.names, found.dangling)
    used = {name.split("/", 1)[0] for name in names if "/" in name}
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
