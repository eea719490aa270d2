"""SVHN's cropped digits: a MAT-file with X, uint8 [H, W, 3, N], and y [N, 1], where 10 is digit 0.

http://ufldl.stanford.edu/housenumbers, format 2 (`train_32x32.mat`, `test_32x32.mat`). The images
are read one by one, so that the 1.5 GB of the extra split need no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.format import Format, Told, Wanted, broken_shard
from dawin_ray.data.formats.pixels import Pixels, read_pixels
from dawin_ray.data.found import Found
from dawin_ray.data.labels import NO_LABELS, NOT_READ, Labelling
from dawin_ray.data.matlab import MatError, Variable, numbers, planes, variables
from dawin_ray.names import shown
from dawin_ray.storage import open_stream

IMAGES, LABELS = "X", "y"  # the variables

ZERO = 10  # the label of digit 0, as MATLAB counts from 1

MOST_IMAGES = 10_000_000  # of one file; the extra split has 531,131


@contextmanager
def _pixels(shard: Shard) -> Iterator[Pixels]:
    """The images of a file, which is open meanwhile.

    Raises:
        MatError: as `_contents`.
    """
    with open_stream(shard.address, "shard") as stream:
        images, labels = _contents(stream, shard)
        height, width, colours, count = images.shape

        def as_pixels(plane: bytes) -> np.ndarray:  # column after column
            plane_CWH = np.frombuffer(plane, np.uint8).reshape(colours, width, height)
            return plane_CWH.transpose(2, 1, 0)

        yield Pixels(
            count=count,
            labels=labels,
            images=planes(stream, images, limits.MAX_MEMBER_BYTES),
            as_pixels=as_pixels,
        )


def _read(shard: Shard, wanted: Wanted) -> Iterator[Sample]:
    return read_pixels(shard, wanted, _pixels, (MatError,))


def _contents(stream: object, shard: Shard) -> tuple[Variable, list[float] | None]:
    """The variable of images, and the labels as digits; None where they are not read.

    Raises:
        MatError: it is no file of such images, or labels and images are not of one number.
    """
    found = variables(stream)
    if IMAGES not in found:
        names = ", ".join(shown(name) for name in list(found)[:10])
        raise MatError(
            f"it has no variable {IMAGES!r} (its variables: {names or 'none'}); expected SVHN's "
            f"{IMAGES} [H, W, 3, N] and {LABELS} [N, 1], as in test_32x32.mat"
        )
    images = found[IMAGES]
    count = images.shape[-1]
    if len(images.shape) != 4 or images.shape[2] != 3 or not math.prod(images.shape[:2]):
        raise MatError(f"variable {IMAGES!r} is of shape {list(images.shape)}, not [H, W, 3, N]")
    if count > MOST_IMAGES:
        raise MatError(f"it says that it has {count:,} images; at most {MOST_IMAGES:,} are read")
    if shard.label_column == NO_LABELS or LABELS not in found:
        return images, None
    labels = numbers(stream, found[LABELS], MOST_IMAGES)
    if len(labels) != count:
        raise MatError(f"it has {len(labels):,} labels for {count:,} images")
    return images, np.where(labels == ZERO, 0, labels).astype(float).tolist()


def _count(shard: Shard, told: Told) -> int | None:
    with open_stream(shard.address, "shard") as stream:
        try:
            return _contents(stream, shard)[0].shape[-1]
        except MatError as failure:
            told(broken_shard(shard, 0, None, str(failure)))
            return None


def _labels(found: Found, names: Sequence[str], asked: str | None) -> Labelling:
    if asked == NO_LABELS:
        return NOT_READ
    return Labelling(words=f"variable {LABELS}, where there is one; {ZERO} is digit 0")


SVHN = Format(
    suffixes=(".mat",),
    files="MAT-files of SVHN's digits (.mat)",
    told_by_suffix=False,
    read=_read,
    count=_count,
    numbered=True,
    counts_losses=True,
    labels=_labels,
)
