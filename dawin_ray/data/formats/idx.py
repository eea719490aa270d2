"""MNIST's idx files: `NAME-images-idx3-ubyte`, with its labels in `NAME-labels-idx1-ubyte` beside.

After http://yann.lecun.com/exdb/mnist: a magic number (two zeros, the type of the values, the
number of axes), the size of each axis as big-endian int32, and the values. Both files may be
gzipped, and `images.idx3-ubyte` is as good; Fashion-MNIST, KMNIST and EMNIST are written so too.
The images are grey, without a header each.
"""

from __future__ import annotations

import gzip
import posixpath
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dawin_ray.data.datasets import Beside, Sample, Shard
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.format import Format, Told, Wanted
from dawin_ray.data.formats.pixels import Pixels, read_pixels, words_of
from dawin_ray.data.found import Found, file_of
from dawin_ray.data.labels import NO_LABELS, NOT_READ, Labelling
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import open_stream

PACKED = ".gz"

# Of a file of images, in lower case.
SUFFIXES = ("images-idx3-ubyte", "images.idx3-ubyte")

UNSIGNED_BYTE = 0x08  # the type of the values

GZIP = b"\x1f\x8b"

MOST_LABELS = 100_000_000  # of one file, a byte each

# What the content of a gzipped file raises; an OSError of the storage is a UserError already.
DAMAGED = (EOFError, OSError, zlib.error)


class _IdxError(ValueError):
    """A file that is no idx file of what is wanted, or is damaged."""


@contextmanager
def _pixels(shard: Shard) -> Iterator[Pixels]:
    """The images of a file, which is open meanwhile.

    Raises:
        _IdxError: it is no such file, or its labels are not of its images.
    """
    with _opened(shard.address) as stream:
        count, height, width = _sizes(stream, axes=3)
        if not 0 < height * width <= limits.MAX_MEMBER_BYTES:
            raise _IdxError(f"its images are of {height} x {width} pixels")

        def images() -> Iterator[bytes]:
            for _ in range(count):
                yield _exactly(stream, height * width)
            if stream.read(1):
                raise _IdxError("more bytes follow than its header says")

        yield Pixels(
            count=count,
            labels=_labels(shard, count),
            images=images(),
            as_pixels=lambda data: np.frombuffer(data, np.uint8).reshape(height, width),
        )


def _read(shard: Shard, wanted: Wanted) -> Iterator[Sample]:
    return read_pixels(shard, wanted, _pixels, (_IdxError, *DAMAGED))


def _labels(shard: Shard, count: int) -> bytes | None:
    """The labels of so many images, a byte each; None where there are none.

    Raises:
        _IdxError: they are not of so many, or their file is damaged.
    """
    if shard.beside is None or shard.label_column == NO_LABELS:
        return None
    address = shard.beside[0]
    name = shown(posixpath.basename(address))
    try:
        with _opened(address) as stream:
            [labels] = _sizes(stream, axes=1)
            if labels != count:
                raise _IdxError(f"it has {labels:,} labels for {count:,} images")
            if labels > MOST_LABELS:
                raise _IdxError(f"it has {labels:,} labels; at most {MOST_LABELS:,} are read")
            return _exactly(stream, labels)
    except (_IdxError, *DAMAGED) as failure:
        raise _IdxError(f"its labels, {name}: {words_of(failure)}") from failure


@contextmanager
def _opened(address: str) -> Iterator[Any]:
    """The content of a file, gzipped or not."""
    with open_stream(address, "shard") as stream:
        packed = stream.read(len(GZIP)) == GZIP
        stream.seek(0)
        if not packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield unpacked


def _sizes(stream: Any, axes: int) -> tuple[int, ...]:
    """The size of each axis, by the header."""
    magic = _exactly(stream, 4)
    if magic != bytes((0, 0, UNSIGNED_BYTE, axes)):
        raise _IdxError(
            f"it is no idx file of bytes with {axes} axes: it begins with {magic.hex(' ')}, not "
            f"00 00 08 0{axes}"
        )
    return struct.unpack(f">{axes}I", _exactly(stream, 4 * axes))


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise _IdxError("it ends too early")
    return data


def _count(shard: Shard, told: Told) -> int | None:
    """By reading the file, which is small: a header alone does not know of a break."""
    count = 0
    for sample in _read(shard, lambda row: False):
        if sample.broken:
            told(sample)
            return None
        count += 1
    return count


def _beside(found: Found, names: Sequence[str]) -> Mapping[str, Beside]:
    """The file of labels of each file of images, where there is one.

    Raises:
        UserError: a file is there twice, gzipped and not.
    """
    labels = {}
    for name in names:
        if name.lower().endswith(PACKED) and (plain := name[: -len(PACKED)]) in names:
            raise UserError(
                f"{found.what[0].upper()}{found.what[1:]} holds {shown(plain)!r} and "
                f"{shown(name)!r}, which are the same images twice. Name one of them in its path."
            )
        unpacked = name[: -len(PACKED)] if name.lower().endswith(PACKED) else name
        at = len(unpacked) - len(SUFFIXES[0])
        of_labels = unpacked[:at] + unpacked[at:].replace("images", "labels").replace(
            "idx3", "idx1"
        )
        candidates = [of_labels, of_labels + PACKED]
        if unpacked != name:
            candidates.reverse()
        for candidate in candidates:
            if (file := file_of(found, candidate)) is not None:
                labels[name] = file
                break
    return labels


def _where(found: Found, names: Sequence[str], asked: str | None) -> Labelling:
    if asked == NO_LABELS:
        return NOT_READ
    files = _beside(found, names)
    without = [shown(name) for name in names if name not in files]
    if not files:
        words = f"none: no labels-idx1-ubyte lies beside {without[0]}" if without else "none yet"
        return Labelling(words=words)
    first = shown(posixpath.basename(next(iter(files.values()))[0]))
    return Labelling(
        words=f"{first} and so on" if len(files) > 1 else first,
        notes=(f"{without[0]} has no labels beside it, as others have",) if without else (),
    )


IDX = Format(
    suffixes=(*SUFFIXES, *(suffix + PACKED for suffix in SUFFIXES)),
    files="idx files (images-idx3-ubyte)",
    told_by_suffix=False,
    read=_read,
    count=_count,
    numbered=True,
    counts_losses=True,
    labels=_where,
    beside=_beside,
)
