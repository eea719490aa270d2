"""Listing what is below a remote folder: its folders side by side, as a LIST takes so long.

A storage that lists all below a prefix gives a page of a thousand names or so at a time, each page
behind the one before it. So the folders in the root are put together in as many prefixes as there
will be pages, and these are listed beside each other; others are walked, folder by folder.

What comes is the same, in any case: whoever takes it orders it by name.
"""

from __future__ import annotations

import inspect
import itertools
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem

from dawin_ray.data.found import Found, leaves_out
from dawin_ray.data.versions import REQUESTS
from dawin_ray.storage import join, unreadable

Info = dict[str, Any]  # what a storage tells of a file, in its own words

PAGE = 1000  # names that one LIST gives, at most: S3's

Item = TypeVar("Item")
Result = TypeVar("Result")


def below(found: Found, depth: int | None) -> Iterator[dict[str, Info]]:
    """All that is below a remote root, `depth` folders deep, as the storage tells it; by path.

    A part at a time, so that what a storage tells of all need not be held. Notes the folders in the
    root.

    Raises:
        UserError: a folder or a prefix cannot be listed; by name.
    """
    if depth is None and _lists_at_once(found.fs):
        yield from _by_prefix(found)
    else:
        yield from _walked(found, depth)


def _by_prefix(found: Found) -> Iterator[dict[str, Info]]:
    fs, root = found.fs, found.root
    entries = _listed(found, root)
    yield {entry["name"]: entry for entry in entries if entry["type"] != "directory"}
    folders = sorted({posixpath.basename(e["name"].rstrip("/")) for e in entries
                      if e["type"] == "directory"})  # fmt: skip
    found.folders.update(folders)
    if not folders:
        return
    first = _found(found, f"{folders[0]}/")
    yield first
    others = folders[1:]
    pages = -(-len(first) * len(others) // PAGE)  # if others hold as much
    prefixes = prefixes_of(others, pages) if _takes_prefix(fs) else [f"{name}/" for name in others]
    before = join(root, folders[0]) + "/"
    for infos in beside(partial(_found, found), prefixes):
        yield {
            path: info
            for path, info in infos.items()
            # a prefix may be that of the first folder, and of files of the root, too
            if "/" in path[len(root) + 1 :] and not path.startswith(before)
        }


def _found(found: Found, prefix: str) -> dict[str, Info]:
    """All below the root whose names begin with a prefix; it may be a folder and "/"."""
    fs, path = found.fs, join(found.root, prefix)
    try:
        infos: dict[str, Info]
        if prefix.endswith("/"):
            infos = fs.find(path.rstrip("/"), detail=True)
        else:
            infos = fs.find(found.root, prefix=prefix, detail=True)
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(fs.unstrip_protocol(path), f"folder of {found.what}", error) from error
    return infos


def prefixes_of(folders: list[str], most: int) -> list[str]:
    """Beginnings of names, so that each folder's name has one of them; about `most` of them.

    Those of many folders are divided first. That of one is its whole name with a "/".
    """
    groups = {"": folders} if folders else {}
    while groups and len(groups) < most:
        prefix = max(groups, key=lambda name: len(groups[name]))
        if len(groups[prefix]) == 1:
            break
        of_group = groups.pop(prefix)
        length = len(posixpath.commonprefix(of_group)) + 1
        for name in of_group:
            groups.setdefault(f"{name}/"[:length], []).append(name)
    return sorted(f"{names[0]}/" if len(names) == 1 else name for name, names in groups.items())


def _walked(found: Found, depth: int | None) -> Iterator[dict[str, Info]]:
    """Folder by folder, those of a level beside each other."""
    at_once = _lists_at_once(found.fs)
    level = [found.root]
    for deep in itertools.count():
        below: list[str] = []
        for folder, entries in zip(level, _each_listed(found, level), strict=True):
            infos: dict[str, Info] = {}
            for entry in entries:
                path = entry["name"].rstrip("/")
                # an index of HTTP has links to anywhere
                if not path.startswith(folder.rstrip("/") + "/"):
                    continue
                if entry.get("type") != "directory":
                    infos[path] = entry
                    continue
                name = posixpath.basename(path)
                if not deep:
                    found.folders.add(name)
                # what lists all at once tells of hidden folders too, and so does its glob
                if (depth is None or deep < depth) and (at_once or not leaves_out(found, name)):
                    below.append(path)
            yield infos
        if not below:
            return
        level = below


def _each_listed(found: Found, folders: list[str]) -> Iterator[list[Info]]:
    """What is in each folder; beside each other where the client is made for that."""
    if isinstance(found.fs, AsyncFileSystem):
        return beside(partial(_listed, found), folders)
    return map(partial(_listed, found), folders)


def _listed(found: Found, folder: str) -> list[Info]:
    try:
        entries: list[Info] = found.fs.ls(folder, detail=True)
    except Exception as error:  # every storage client has its own exceptions
        address = found.fs.unstrip_protocol(folder)
        raise unreadable(address, f"folder of {found.what}", error) from error
    return entries


def beside(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What a call makes of each item, in their order; no more than REQUESTS are held."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(REQUESTS) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(call, item))
                if len(waiting) == REQUESTS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _lists_at_once(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a storage lists all below a prefix at once, and so raises where it may not.

    fsspec's own walk leaves out folders that cannot be listed, whatever `on_error` says.
    """
    base, name = fsspec.AbstractFileSystem, "find"
    if isinstance(fs, AsyncFileSystem):
        base, name = AsyncFileSystem, "_find"
    return getattr(type(fs), name) is not getattr(base, name)


def _takes_prefix(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a storage lists what begins with a part of a name."""
    find = getattr(type(fs), "_find" if isinstance(fs, AsyncFileSystem) else "find")
    return "prefix" in inspect.signature(find).parameters
