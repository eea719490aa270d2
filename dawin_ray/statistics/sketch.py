"""A multiset of float32 values in at most MAX_BINS exact counts: quantiles, ranks, distances.

Values are counted by their key (`bits`), all of them while they are at most MAX_BINS different
ones. Where they are more, low bits of all keys are dropped, no more than needed: the level follows
from the multiset alone, and counts add, so that any order and grouping of merges gives the same
bits. An interval of values is weighed by their mean, which it knows from the sum of the bits that
were dropped.

What is said is exact at level 0. At level L, a value is off by at most the width of its interval,
2^(L - 23) of it: `width`. B intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import scipy  # which imports scipy.stats, 50 MB, when something of it is first used

from dawin_ray.statistics.bits import MANTISSA, keys_of, level_of, values_of

MAX_BINS = 1 << 16


@dataclass(frozen=True, eq=False)
class Counted:
    """Counts of keys. Column 0 is how many values there are; the others are sums over them."""

    level: int  # low bits that were dropped
    key: np.ndarray  # without them, uint32 [B], rising
    columns: np.ndarray  # uint64 [W, B]; they add modulo 2^64

    @property
    def n(self) -> np.ndarray:
        """Values in each interval, int64 [B]."""
        n: np.ndarray = self.columns[0].astype(np.int64)
        return n

    @property
    def count(self) -> int:
        """Of all values."""
        return int(self.columns[0].sum())

    @classmethod
    def merge(cls, sketches: Sequence[Self]) -> Self:
        """Of all values together. Any order and grouping gives the same bits."""
        level = max(sketch.level for sketch in sketches)
        keys = np.concatenate([s.key >> np.uint32(level - s.level) for s in sketches])
        columns = np.concatenate([s.columns for s in sketches], axis=1)
        order = np.argsort(keys, kind="stable")
        return cls._fitted(level, keys[order], columns[:, order])

    @classmethod
    def _fitted(cls, level: int, key: np.ndarray, columns: np.ndarray) -> Self:
        """Of keys in order, equal ones among them."""
        key, columns = _gathered(key, columns)
        if dropped := level_of(key, MAX_BINS):
            key, columns = _gathered(key >> np.uint32(dropped), columns)
        return cls(level + dropped, key, columns)

    def coarse(self, level: int) -> Self:
        """The same with at least `level` bits dropped."""
        if level <= self.level:
            return self
        shifted = self.key >> np.uint32(level - self.level)
        return type(self)(level, *_gathered(shifted, self.columns))

    @property
    def plain(self) -> np.ndarray:
        """Small numbers that tell all but the level, uint64 [1 + W, B]."""
        steps = np.diff(self.key, prepend=np.uint32(0)).astype(np.uint64)
        return np.concatenate([steps[None], self.columns - self._known(self.columns[0])])

    @classmethod
    def of_plain(cls, level: int, plain: np.ndarray) -> Self:
        """The reverse.

        Raises:
            ValueError: it is of no such counts.
        """
        if type(level) is not int or not 0 <= level <= MANTISSA:
            raise ValueError(f"a sketch has no level {level!r}")
        if plain.ndim != 2 or len(plain) != 3 or plain.shape[1] > MAX_BINS:
            raise ValueError(f"a sketch has no {plain.shape} numbers")
        steps, n = plain[:2]
        key = np.cumsum(steps)
        if (steps[1:] == 0).any() or (steps >> np.uint64(32)).any() or (n == 0).any():
            raise ValueError("a sketch counts a key twice, or none")
        if len(key) and int(key[-1]) >> (32 - level):
            raise ValueError("a sketch has a key that no value has")
        found = cls(level, key.astype(np.uint32), plain[1:])
        return cls(level, found.key, plain[1:] + found._known(n))

    def _known(self, n: np.ndarray) -> np.ndarray:
        """What of the columns follows from keys and n, and need not be written [W, B]."""
        return np.zeros_like(self.columns)


class Sketch(Counted):
    """Counts of values by size. Columns: n, and the sum of the whole keys."""

    @classmethod
    def of(cls, values_N: np.ndarray) -> Sketch:
        """Of float32 values, which are finite."""
        key, n = _counts(np.sort(keys_of(values_N, "value")))
        return cls._fitted(0, key, np.stack([n, n * key.astype(np.uint64)]))

    def _known(self, n: np.ndarray) -> np.ndarray:
        first = self.key.astype(np.uint64) << np.uint64(self.level)
        return np.stack([np.zeros_like(n), n * first])

    @property
    def values(self) -> np.ndarray:
        """The mean of the values in each interval, float64 [B]; rising."""
        low_B = (self.columns - self._known(self.columns[0]))[1]
        first_B = values_of(self.key << np.uint32(self.level), "value")
        values_B: np.ndarray = first_B + self._unit * (low_B / self.columns[0])
        return values_B

    @property
    def _unit(self) -> np.ndarray:
        """Between neighbouring values of an interval."""
        first = self.key << np.uint32(self.level)
        if self.level == 0:
            return np.zeros(len(first))
        following = values_of(first + np.uint32(1), "value")
        unit_B: np.ndarray = following - values_of(first, "value")
        return unit_B

    @property
    def width(self) -> float:
        """The widest interval: no value is told with a larger error. 0 where all is exact."""
        return float(self._unit.max(initial=0.0) * 2.0**self.level)

    @property
    def mean(self) -> float:
        """Exact at any level; NaN without values."""
        return _mean(self.values, self.n)

    def mean_of_first(self, count: int) -> float | None:
        """Of the `count` smallest values, which are whole intervals; None of none."""
        last = np.searchsorted(np.cumsum(self.n), count) + 1
        return _mean(self.values[:last], self.n[:last]) if count else None

    def mean_of_last(self, count: int) -> float | None:
        """Of the largest ones."""
        first = np.searchsorted(np.cumsum(self.n), self.count - count, side="right")
        return _mean(self.values[first:], self.n[first:]) if count else None

    @property
    def std(self) -> float:
        """With N - 1; 0 of one value. Its square is off by at most width^2 / 2."""
        if self.count < 2:
            return 0.0
        squares_B = (self.values - self.mean) ** 2
        return float(np.sqrt(squares_B @ self.columns[0] / (self.count - 1)))

    def quantiles(self, shares: Sequence[float]) -> np.ndarray:
        """Interpolated as numpy does, float64; off by at most the width at them.

        Raises:
            ValueError: there are no values.
        """
        if not self.count:
            raise ValueError("quantiles of no values")
        place = np.asarray(shares, dtype=np.float64) * (self.count - 1)
        ends_B, values_B = np.cumsum(self.n), self.values
        lower = np.floor(place)
        share = place - lower
        a, b = (
            values_B[np.searchsorted(ends_B, k.astype(np.int64), side="right")]
            for k in (lower, np.minimum(lower + 1, self.count - 1))
        )
        quantiles: np.ndarray = np.where(
            share < 0.5, a + (b - a) * share, b - (b - a) * (1 - share)
        )
        return quantiles

    def below(self, values: np.ndarray) -> np.ndarray:
        """How many values are smaller, int64; those of the same interval are not."""
        return self._before(np.asarray(values, dtype=np.float64), "left")

    def at_most(self, values: np.ndarray) -> np.ndarray:
        """How many are smaller or equal, int64; those of the same interval are."""
        return self._before(np.asarray(values, dtype=np.float64), "right")

    def _before(self, values: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        ends: np.ndarray = np.r_[0, np.cumsum(self.n)]
        if self.level == 0:
            found: np.ndarray = ends[np.searchsorted(self.values, values, side=side)]
            return found
        rounded = values.astype(np.float32)
        over = rounded > values  # an interval holds what lies between its values, too
        rounded = np.where(over, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        keys = keys_of(rounded, "value") >> np.uint32(self.level)
        found = ends[np.searchsorted(self.key, keys, side=side)]
        return found

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """Counts between edges, the last one's end within, int64; what is beyond counts as at them.

        Off by at most what lies in the intervals that hold an edge.
        """
        values_B, ends = self.values, np.r_[0, np.cumsum(self.n)]
        inner = ends[np.searchsorted(values_B, edges[1:-1], side="left")]
        return np.diff(np.r_[0, inner, self.count])


def distance(a: Sketch, b: Sketch) -> float | None:
    """Wasserstein's, in the values' unit; None where one side is empty.

    Off by at most the width of a and of b.
    """
    if not a.count or not b.count:
        return None
    weights = (a.n.astype(np.float64), b.n.astype(np.float64))
    return float(scipy.stats.wasserstein_distance(a.values, b.values, *weights))


def _mean(values: np.ndarray, n: np.ndarray) -> float:
    return float(values @ n / n.sum()) if len(n) else math.nan


def _counts(sorted_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different keys and how often each is there, uint64."""
    starts = _starts(sorted_N)
    return sorted_N[starts], np.diff(np.r_[starts, len(sorted_N)]).astype(np.uint64)


def _starts(sorted_N: np.ndarray) -> np.ndarray:
    first_N = np.ones(len(sorted_N), dtype=bool)
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=first_N[1:])
    return np.flatnonzero(first_N)


def _gathered(key: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising keys, and sums of the columns over equal ones."""
    if not len(key):
        return key, columns
    starts = _starts(key)
    return key[starts], np.add.reduceat(columns, starts, axis=1)
