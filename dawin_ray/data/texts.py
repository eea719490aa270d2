"""Many names in little memory: blocks of their bytes, packed.

A name is a Python text, and as such takes some 60 bytes beside its letters; names of files differ
little from their neighbours, and here take some 5 bytes each. Lone surrogates, which stand for
bytes that are no UTF-8, are kept. The order of the bytes is that of the texts.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 1 << 12  # texts that are packed together, and made of their bytes at once

LEVEL = 1  # of zlib, which finds most of what names have in common at 100 MB/s and more

UNPACKED = 8  # blocks that are kept as they are, for who goes from one place to the next

CODEC = ("utf-8", "surrogatepass")  # any Python text to bytes and back


T = TypeVar("T")


class Columns(Sequence[T]):
    """A sequence that makes its items when they are asked for; equal to others of such items."""

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has equal items."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        """As a tuple's."""
        return hash(tuple(self))

    def __repr__(self) -> str:
        """As a tuple's."""
        return repr(tuple(self))


class Texts(Columns[str]):
    """Texts in few bytes. A slice of them shares their blocks."""

    def __init__(self, blocks: Sequence[bytes], start: int, stop: int):
        """Those from `start` to before `stop` of all that are packed in the blocks."""
        self._blocks, self._start, self._stop = blocks, start, stop

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Those that are given; themselves, where they are such already."""
        if isinstance(texts, cls):
            return texts
        growing = GrowingTexts()
        for text in texts:
            growing.append(text)
        return growing.texts()

    def __len__(self) -> int:
        """How many they are."""
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> str | Texts:
        """One, or a slice, which shares what it is made of."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            return Texts(self._blocks, self._start + start, self._start + max(start, stop))
        place = self._start + range(len(self))[index]  # raises IndexError
        content, bounds = unpacked(self._blocks[place // BLOCK])
        begin, end = bounds[place % BLOCK : place % BLOCK + 2]
        return content[begin:end].decode(*CODEC)

    def __iter__(self) -> Iterator[str]:
        """One after the other, made in blocks."""
        for raw in self._raw():
            yield raw.decode(*CODEC)

    def __reduce__(self) -> tuple[Any, ...]:
        """A slice goes without the bytes of the others."""
        return Texts.of, (list(self),)

    def take(self, places: np.ndarray) -> Texts:
        """Those at these places, in this order. Holds them all unpacked meanwhile."""
        growing, found = GrowingTexts(), self._array()
        for at in range(0, len(places), BLOCK):
            for raw in found.take(pa.array(places[at : at + BLOCK])).to_pylist():
                growing.append_raw(raw)
        return growing.texts()

    def order(self) -> np.ndarray:
        """Places in the order of the texts; equal ones in their own order."""
        return np.asarray(pc.array_sort_indices(self._array())).astype(np.int64)

    def _array(self) -> pa.Array:
        return pa.array(self._raw(), pa.large_binary(), size=len(self))

    def _raw(self) -> Iterator[bytes]:
        for at in range(self._start - self._start % BLOCK, self._stop, BLOCK):
            content, bounds = unpacked(self._blocks[at // BLOCK])
            first, last = max(0, self._start - at), min(BLOCK, self._stop - at)
            for begin, end in itertools.pairwise(bounds[first : last + 1]):
                yield content[begin:end]


class GrowingTexts:
    """Takes texts one after the other."""

    def __init__(self) -> None:
        """Has none yet."""
        self._blocks: list[bytes] = []
        self._last: list[bytes] = []  # those that are not packed yet

    def append(self, text: str) -> None:
        """One more."""
        self.append_raw(text.encode(*CODEC))

    def append_raw(self, raw: bytes) -> None:
        """One more, as its bytes."""
        self._last.append(raw)
        if len(self._last) == BLOCK:
            self._pack()

    def texts(self) -> Texts:
        """All of them. None can be appended then."""
        count = BLOCK * len(self._blocks) + len(self._last)
        if self._last:
            self._pack()
        return Texts(tuple(self._blocks), 0, count)

    def _pack(self) -> None:
        """Bounds and bytes of a block, as `unpacked` finds them."""
        bounds = np.cumsum([0, *map(len, self._last)], dtype=np.uint32)
        count = np.uint32(len(bounds))
        packed = zlib.compress(count.tobytes() + bounds.tobytes() + b"".join(self._last), LEVEL)
        self._blocks.append(packed)
        self._last = []


@lru_cache(maxsize=UNPACKED)
def unpacked(block: bytes) -> tuple[bytes, list[int]]:
    """Bytes of a block's texts, and where each begins and the last one ends."""
    raw = zlib.decompress(block)
    (count,) = np.frombuffer(raw, dtype=np.uint32, count=1).tolist()
    width = np.uint32().itemsize
    bounds = np.frombuffer(raw, dtype=np.uint32, count=count, offset=width).tolist()
    return raw[(1 + count) * width :], bounds
