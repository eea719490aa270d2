"""Images that lie in one file as plain pixels, with their labels: idx and MAT-files.

What a sample gets is an encoded image all the same: a PGM or PPM, which is a header and the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.formats.format import Wanted, broken_shard, labeller
from dawin_ray.names import shown


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """An open file: how many images it says that it has, their labels, and their bytes in turn."""

    count: int
    labels: Sequence[float] | None  # None: there are none, or they are not read
    images: Iterator[bytes]
    as_pixels: Callable[[bytes], np.ndarray]  # of one: uint8 [H, W], or [H, W, 3]


def read_pixels(
    shard: Shard,
    wanted: Wanted,
    opened: Callable[[Shard], AbstractContextManager[Pixels]],
    damaged: tuple[type[Exception], ...],
) -> Iterator[Sample]:
    """The samples of a file; where it is `damaged`, those before it and one that says so.

    A ValueError's own words are told, and those of another exception with its name.
    """
    done, count, label = 0, None, labeller(shard)
    try:
        with opened(shard) as pixels:
            count = pixels.count
            for data in pixels.images:
                image, found, error = None, None, None
                try:
                    found = label(None if pixels.labels is None else pixels.labels[done])
                except ValueError as failure:
                    error = str(failure)
                if wanted(done) and error is None:
                    image = as_pnm(pixels.as_pixels(data))
                done += 1
                yield Sample(
                    sample_id=f"{shown(shard.name)}/{done - 1}",
                    image=image,
                    label=found,
                    error=error,
                    position=shard.bytes * done // count,
                )
    except damaged as failure:
        where = f"the file breaks after image {done} of {count}: " if done else ""
        lost = None if count is None else count - done
        yield broken_shard(shard, done, lost, f"{where}{words_of(failure)}")


def words_of(failure: Exception) -> str:
    """What is wrong with a file: a ValueError's own words, or another exception's with its name."""
    return f"{'' if isinstance(failure, ValueError) else f'{type(failure).__name__}: '}{failure}"


def as_pnm(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 [H, W] or [H, W, 3], as a PGM or PPM, which is a header and the pixels."""
    height, width, *colours = pixels.shape
    assert pixels.dtype == np.uint8, "a byte each"
    assert colours in ([], [3]), "grey or RGB"
    return b"P%d %d %d 255\n" % (6 if colours else 5, width, height) + pixels.tobytes()
