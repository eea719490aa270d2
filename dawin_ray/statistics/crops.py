"""Crops by their hashes, in what adds: which are there with two labels, and which show nothing.

Copies of a crop have one hash, so those of the smallest hashes are kept with all their copies, in
whatever order they come: a crop is kept or left out as a whole.

N samples, k crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

KEPT = 1 << 16  # crops at most; a share of 1 % of as many has a standard error of 0.04 %

# Pixel values between the darkest and the brightest of a crop that shows nothing: what JPEG and a
# resize leave of an image of one colour.
FLAT_RANGE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Crops:
    """All that are known of while they are at most KEPT; in the order of hashes.

    What is flat is counted, and is no crop beside that: an image of one colour has many copies.
    """

    size: np.ndarray  # rows whose crop is known, and flat ones among them, int64 [2]
    hash: np.ndarray  # of different crops, uint64 [k]
    copies: np.ndarray  # int64 [k]
    lowest: np.ndarray  # label of its copies, int64 [k]; -1 without any
    highest: np.ndarray  # int64 [k]

    @classmethod
    def of(
        cls, hash_N: np.ndarray | None, range_N: np.ndarray | None, label_N: np.ndarray
    ) -> Crops:
        """Of rows: hashes uint64, ranges of pixel values uint8, labels int64, -1 for none.

        Runs of before have no hashes: then nothing is known.
        """
        if hash_N is None or range_N is None:
            nothing = np.zeros(0, dtype=np.int64)
            size = np.zeros(2, dtype=np.int64)
            none = nothing.astype(np.uint64)
            return cls(size=size, hash=none, copies=nothing, lowest=nothing, highest=nothing)
        shown_N = range_N > FLAT_RANGE
        label = label_N[shown_N].astype(np.int64)
        return _gathered(
            np.array([len(shown_N), len(shown_N) - shown_N.sum()], dtype=np.int64),
            hash_N[shown_N].astype(np.uint64),
            np.ones(len(label), dtype=np.int64),
            label,
            label,
        )

    @classmethod
    def merge(cls, crops: Sequence[Crops]) -> Crops:
        """Of all rows together."""
        size, *columns = (
            [getattr(c, f.name) for c in crops] for f in fields(cls)
        )  # as the fields stand
        return _gathered(np.sum(size, axis=0), *map(np.concatenate, columns))

    @property
    def known(self) -> int:
        """Rows whose crop is known."""
        return int(self.size[0])

    @property
    def flat(self) -> int:
        """Rows whose crop is of one colour."""
        return int(self.size[1])

    @property
    def conflicting(self) -> np.ndarray:
        """Of the kept crops, those whose copies have different labels, bool [k]."""
        differ: np.ndarray = (self.lowest != self.highest) & (self.lowest >= 0)
        return differ


def _gathered(
    size: np.ndarray,
    hashes: np.ndarray,
    copies: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
) -> Crops:
    """Equal hashes together, the smallest KEPT of them. An unknown label is smaller than any."""
    order = np.argsort(hashes, kind="stable")
    distinct, first = np.unique(hashes[order], return_index=True)
    distinct, first = distinct[: KEPT + 1], first[: KEPT + 1]
    if len(distinct) > KEPT:
        order = order[: first[KEPT]]
        distinct, first = distinct[:KEPT], first[:KEPT]
    if not len(distinct):
        first = np.zeros(0, dtype=np.int64)
        return Crops(size=size, hash=distinct, copies=first, lowest=first, highest=first)
    return Crops(
        size=size,
        hash=distinct,
        copies=np.add.reduceat(copies[order], first),
        lowest=np.minimum.reduceat(lowest[order], first),
        highest=np.maximum.reduceat(highest[order], first),
    )
