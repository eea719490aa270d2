"""The files that a run scores, kept in its directory: so that it can say which have changed.

    data.jsonl.gz    a line a file: [data set, name, bytes, version]

A run directory that grows has the same in the shards.jsonl of its batches. There may be many
millions: they are written, read and compared one after the other.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from functools import cached_property, partial

from dawin_ray.data import Files as Columns
from dawin_ray.data import GrowingFiles, Shard

SHOWN_FILES = 10

At = tuple[int, str]  # bytes and version of a file

Files = Mapping[str, Mapping[str, At]]  # data set -> file -> where it is

LEVEL = 9  # of gzip, as gzip.compress has it

LINES_AT_ONCE = 1 << 12


class FilesInTurn(Mapping[str, At]):
    """The files of a data set, gone through as often as is asked; a dict only for who looks up."""

    def __init__(self, rows: Callable[[], Iterable[tuple[str, At]]]):
        """`rows` begins anew each time."""
        self.rows = rows

    @cached_property
    def _by_name(self) -> dict[str, At]:
        return dict(self.rows())

    def __getitem__(self, name: str) -> At:
        """Bytes and version of a file."""
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        """Names, in their order."""
        return (name for name, _ in self.rows())

    def __len__(self) -> int:
        """How many they are."""
        return sum(1 for _ in self.rows())

    def items(self) -> ItemsView[str, At]:
        """Names with bytes and versions, in their order."""
        return _Items(self)


class _Items(ItemsView[str, At]):
    def __init__(self, files: FilesInTurn):
        super().__init__(files)
        self._files = files

    def __iter__(self) -> Iterator[tuple[str, At]]:
        return iter(self._files.rows())


def files_of(shards: Mapping[str, Iterable[Shard]]) -> dict[str, FilesInTurn]:
    """The files of shards, by data set."""
    return {dataset: FilesInTurn(partial(_of_shards, of_set)) for dataset, of_set in shards.items()}


def _of_shards(shards: Iterable[Shard]) -> Iterator[tuple[str, At]]:
    for shard in shards:
        yield from shard.files.items()


def pack(files: Files) -> bytes:
    """As a file's content; the same files give the same bytes."""
    lines = (
        json.dumps([dataset, name, size, version]) + "\n"
        for dataset, of_set in files.items()
        for name, (size, version) in of_set.items()
    )
    packing = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # gzip's, without a time
    content = bytearray()
    while block := "".join(itertools.islice(lines, LINES_AT_ONCE)):
        content += packing.compress(block.encode())
    return bytes(content + packing.flush())


def unpack(data: bytes) -> dict[str, FilesInTurn]:
    """What `pack` made a content of.

    Raises:
        ValueError, OSError, EOFError: it is damaged.
    """
    growing: dict[str, GrowingFiles] = {}
    with gzip.open(io.BytesIO(data), "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            dataset, name, size, version = json.loads(line)
            growing.setdefault(dataset, GrowingFiles()).add(name, size, version)
    return {
        dataset: FilesInTurn(partial(_of_columns, of_set.in_turn()))
        for dataset, of_set in growing.items()
    }


def _of_columns(files: Columns) -> Iterator[tuple[str, At]]:
    return ((name, (size, version)) for name, size, version in files.rows())


def changed_files(then: Files, now: Files) -> list[str]:
    """A line for each of the first files that are not as they were, and how many there are."""
    kinds: dict[str, list[str]] = {"changed": [], "new": [], "gone": []}
    for dataset in {**then, **now}:
        before, after = _differing(then.get(dataset, {}), now.get(dataset, {}))
        for name in {**before, **after}:
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


def _differing(
    then: Mapping[str, At], now: Mapping[str, At]
) -> tuple[dict[str, At], dict[str, At]]:
    """Files of each side that are not the same on the other one.

    Both go side by side, and what only one has shown so far waits for the other: where they are in
    one order, as listings are, that is little, however many files there are.
    """
    before: dict[str, At] = {}
    after: dict[str, At] = {}
    for old, new in itertools.zip_longest(then.items(), now.items()):
        if old == new:
            continue
        for file, ours, theirs in ((old, before, after), (new, after, before)):
            if file is None:
                continue
            name, at = file
            if theirs.get(name) == at:
                del theirs[name]
            else:
                ours[name] = at
    return before, after


def _told(at: At) -> str:
    size, version = at
    return f"{size:,} bytes" + (f" of version {version}" if version else "")
