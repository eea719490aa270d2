"""The files that a run scores, kept in its directory: so that it can say which have changed.

    data.jsonl.gz    a line a file: [data set, name, bytes, version]

A run directory that grows has the same in the shards.jsonl of its batches.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from dawin_ray.data import Shard

SHOWN_FILES = 10

Files = dict[str, dict[str, tuple[int, str]]]  # data set -> file -> its bytes and version


def files_of(shards: Mapping[str, Iterable[Shard]]) -> Files:
    """The files of shards, by data set."""
    return {
        dataset: {file: at for shard in of_set for file, at in shard.files.items()}
        for dataset, of_set in shards.items()
    }


def pack(files: Files) -> bytes:
    """As a file's content; the same files give the same bytes."""
    lines = [
        json.dumps([dataset, name, size, version]) + "\n"
        for dataset, of_set in files.items()
        for name, (size, version) in of_set.items()
    ]
    return gzip.compress("".join(lines).encode(), mtime=0)


def unpack(data: bytes) -> Files:
    """What `pack` made a content of.

    Raises:
        ValueError, OSError, EOFError: it is damaged.
    """
    files: Files = {}
    for line in gzip.decompress(data).decode().splitlines():
        dataset, name, size, version = json.loads(line)
        files.setdefault(dataset, {})[name] = (size, version)
    return files


def changed_files(then: Files, now: Files) -> list[str]:
    """A line for each of the first files that are not as they were, and how many there are."""
    kinds: dict[str, list[str]] = {"changed": [], "new": [], "gone": []}
    for dataset in {**then, **now}:
        before, after = then.get(dataset, {}), now.get(dataset, {})
        for name in {**before, **after}:
            if before.get(name) == after.get(name):
                continue
            kind = "new" if name not in before else "gone" if name not in after else "changed"
            told = f"{name!r} of data set '{dataset}' "
            if kind == "changed":
                told += f"has changed: {_told(before[name])} then, {_told(after[name])} now"
            else:
                told += "is new" if kind == "new" else "is gone"
            kinds[kind].append(told)
    lines = [line for of_kind in kinds.values() for line in of_kind]
    if len(lines) > SHOWN_FILES:
        counts = ", ".join(f"{len(found):,} {kind}" for kind, found in kinds.items() if found)
        lines = [*lines[:SHOWN_FILES], f"and more: {len(lines):,} files differ ({counts})"]
    return lines


def _told(at: tuple[int, str] | Any) -> str:
    size, version = at
    return f"{size:,} bytes" + (f" of version {version}" if version else "")
