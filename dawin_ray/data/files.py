"""The files of a data set as columns, of which there may be many millions: no object for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from dawin_ray.data.texts import Columns, GrowingTexts, Texts

# What labels are kept as: the first that holds them all, whose least number stands for none.
LABELS = (np.int16, np.int32, np.int64)

FolderImage = tuple[str, int, int | None]  # raw name, bytes, label


@dataclass(frozen=True, eq=False, repr=False)
class Files(Columns[tuple[str, int]]):
    """Names and bytes of N files, and the versions beside them."""

    names: Texts  # raw
    sizes: np.ndarray  # integers [N]: bytes
    versions: Texts

    def __len__(self) -> int:
        """How many they are."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> tuple[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Files: ...
    def __getitem__(self, index: int | slice) -> tuple[str, int] | Files:
        """One, or a slice, which shares what it is made of."""
        if isinstance(index, slice):
            return Files(self.names[index], self.sizes[index], self.versions[index])
        return self.names[index], int(self.sizes[index])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """One after the other, made in blocks."""
        return zip(self.names, _numbers(self.sizes), strict=True)

    def rows(self) -> Iterator[tuple[str, int, str]]:
        """Name, bytes and version of each."""
        return zip(self.names, _numbers(self.sizes), self.versions, strict=True)

    def take(self, places: Sequence[int] | array[int] | np.ndarray) -> Files:
        """Those at these places, in this order; themselves, where that is all."""
        places = np.asarray(places, dtype=np.int64)
        if len(places) == len(self) and (places == np.arange(len(self))).all():
            return self
        return Files(self.names.take(places), self.sizes[places], self.versions.take(places))

    def only(self, wanted: np.ndarray) -> Files:
        """Those that are `wanted`, bool [N], in their order; themselves, where that is all."""
        return self if wanted.all() else self.take(np.flatnonzero(wanted))


class GrowingFiles:
    """Takes files one after the other, in any order; of one name, the last counts."""

    def __init__(self) -> None:
        """Has none yet."""
        self._names, self._sizes, self._versions = GrowingTexts(), array("q"), GrowingTexts()
        self._last: str | None = None
        self._ordered = True

    def add(self, name: str, size: int, version: str) -> None:
        """One more file."""
        if self._last is not None and name <= self._last:
            self._ordered = False
        self._last = name
        self._names.append(name)
        self._sizes.append(size)
        self._versions.append(version)

    def in_turn(self) -> Files:
        """All of them, as they came. None can be added then."""
        sizes = np.frombuffer(self._sizes, dtype=np.int64)
        sizes = sizes.astype(np.min_scalar_type(sizes.max(initial=0)))  # most are below 4 GB
        return Files(self._names.texts(), sizes, self._versions.texts())

    def files(self) -> Files:
        """All of them, in the order of their names. None can be added then."""
        files = self.in_turn()
        if self._ordered:
            return files
        files = files.take(files.names.order())
        names = iter(files.names)
        last, lasting = next(names), array("q")
        for place, name in enumerate(names):
            if name != last:
                lasting.append(place)
            last = name
        lasting.append(len(files) - 1)
        return files.take(lasting)


def files_of(rows: Iterable[tuple[str, int, str]]) -> Files:
    """Files of these names, bytes and versions, in the order of their names."""
    growing = GrowingFiles()
    for row in rows:
        growing.add(*row)
    return growing.files()


@dataclass(frozen=True, eq=False, repr=False)
class Images(Columns[FolderImage]):
    """Images of a folder: names and bytes of N files, and their labels."""

    names: Texts
    sizes: np.ndarray  # integers [N]
    labels: np.ndarray  # integers [N]; the least that they may be where there is none

    @classmethod
    def of(cls, images: Iterable[FolderImage]) -> Images:
        """Those of such rows."""
        if isinstance(images, cls):
            return images
        rows = list(images)
        names, sizes, labels = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(Texts.of(names), np.array(sizes, dtype=np.int64), labels_of(labels))

    def __len__(self) -> int:
        """How many they are."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> FolderImage: ...
    @overload
    def __getitem__(self, index: slice) -> Images: ...
    def __getitem__(self, index: int | slice) -> FolderImage | Images:
        """One, or a slice, which shares what it is made of."""
        if isinstance(index, slice):
            return Images(self.names[index], self.sizes[index], self.labels[index])
        number, none = int(self.labels[index]), _none(self.labels)
        return self.names[index], int(self.sizes[index]), None if number == none else number

    def __iter__(self) -> Iterator[FolderImage]:
        """One after the other, made in blocks."""
        none = _none(self.labels)
        labels = (None if number == none else number for number in _numbers(self.labels))
        return zip(self.names, _numbers(self.sizes), labels, strict=True)

    def take(self, places: Sequence[int]) -> Images:
        """Those at these places, in this order."""
        at = np.asarray(places, dtype=np.int64)
        return Images(self.names.take(at), self.sizes[at], self.labels[at])


def labels_of(labels: Iterable[int | None]) -> np.ndarray:
    """Integers [N], as `Images` has them.

    Raises:
        OverflowError: one has more than 64 bits.
    """
    found = list(labels)
    given = [label for label in found if label is not None]
    least, largest = min(given, default=0), max(given, default=0)
    kinds = (np.iinfo(kind) for kind in LABELS)
    kind = next((k for k in kinds if k.min < least and largest <= k.max), np.iinfo(LABELS[-1]))
    return np.array([kind.min if label is None else label for label in found], dtype=kind.dtype)


def _none(labels: np.ndarray) -> int:
    """What stands for no label."""
    return int(np.iinfo(labels.dtype).min)


def _numbers(values: np.ndarray, block: int = 1 << 12) -> Iterator[int]:
    """As Python's, some at a time."""
    for at in range(0, len(values), block):
        yield from values[at : at + block].tolist()
