"""Many names in little memory: their bytes one after the other, and where each begins.

A name is a Python text, and as such takes some 60 bytes beside its letters; here it takes four.
Lone surrogates, which stand for bytes that are no UTF-8, are kept. The order of the bytes is that
of the texts.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 1 << 12  # texts that are made of their bytes at once

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
    """Texts in few bytes. A slice of them shares their bytes."""

    def __init__(self, content: bytes | bytearray, bounds: np.ndarray):
        """`bounds`, [N + 1], say where in the content each text begins and the last one ends."""
        self._content, self._bounds = content, bounds

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
        return len(self._bounds) - 1

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
            return Texts(self._content, self._bounds[start : max(start, stop) + 1])
        place = range(len(self))[index]  # raises IndexError
        begin, end = self._bounds[place : place + 2].tolist()
        return self._content[begin:end].decode(*CODEC)

    def __iter__(self) -> Iterator[str]:
        """One after the other, made in blocks."""
        for raw in self._raw():
            yield raw.decode(*CODEC)

    def __reduce__(self) -> tuple[Any, ...]:
        """A slice goes without the bytes of the others."""
        return Texts.of, (list(self),)

    def take(self, places: np.ndarray) -> Texts:
        """Those at these places, in this order."""
        growing = GrowingTexts()
        for at in range(0, len(places), BLOCK):
            some = places[at : at + BLOCK]
            for begin, end in zip(
                self._bounds[some].tolist(), self._bounds[some + 1].tolist(), strict=True
            ):
                growing.append_raw(self._content[begin:end])
        return growing.texts()

    def order(self) -> np.ndarray:
        """Places in the order of the texts; equal ones in their own order."""
        bounds = np.ascontiguousarray(self._bounds, dtype=np.int64)
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self._content)]
        found = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)
        return np.asarray(pc.array_sort_indices(found)).astype(np.int64)

    def _raw(self) -> Iterator[bytes | bytearray]:
        for at in range(0, len(self), BLOCK):
            bounds = self._bounds[at : at + BLOCK + 1].tolist()
            for begin, end in itertools.pairwise(bounds):
                yield self._content[begin:end]


class GrowingTexts:
    """Takes texts one after the other."""

    def __init__(self) -> None:
        """Has none yet."""
        self._content, self._ends = bytearray(), array("Q", [0])

    def append(self, text: str) -> None:
        """One more."""
        self.append_raw(text.encode(*CODEC))

    def append_raw(self, raw: bytes | bytearray) -> None:
        """One more, as its bytes."""
        self._content += raw
        self._ends.append(len(self._content))

    def texts(self) -> Texts:
        """All of them. None can be appended then."""
        narrow = np.uint32 if len(self._content) < 1 << 32 else np.uint64
        bounds = np.frombuffer(self._ends, dtype=np.uint64).astype(narrow)
        return Texts(self._content, bounds)
