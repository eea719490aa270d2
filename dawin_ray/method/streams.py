"""A stream of any length in fixed memory: moments, quantiles, a histogram, a subsample.

A `Stream` is read as often as it takes and never held, so that a fit's memory does not depend on
how many samples there are; a `Parted` one is read part by part, by as many tasks, whose small
results come together here. What is exact while samples are few says what it loses when they are
many.

Shapes: N samples, B samples of a batch, M experts, Q quantiles, P points of a histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate, chain
from typing import Protocol, TypeVar

import numpy as np

from dawin_ray.method.mixture import simplex_rows

R = TypeVar("R")

# A stream of log-expertises [B, M], the same at every call.
Stream = Callable[[], Iterable[np.ndarray]]


class Parted(Protocol):
    """A stream in parts."""

    @property
    def sizes(self) -> Sequence[int]:
        """Samples of each part."""

    def each(self, task: Callable[[Stream, int], R]) -> Iterator[R]:
        """What `task` makes of each part and its number, in their order.

        Task and results are pickled, where parts are read by other processes.
        """


Samples = Stream | Parted

# Up to here the mixture is fitted from the samples one by one, as the reference does; it covers
# the paper's data sets (ImageNet's 50,000) with room to spare and takes seconds.
MAX_SAMPLES = 200_000

QUANTILE_BINS, QUANTILE_LIMITS = 40_000, (1e-8, 20.0)  # nats; no head has e^20 classes


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Running moments of the experts' uncertainties (-log e): float64, mergeable, O(M) memory."""

    count: int
    mean: np.ndarray  # [M]
    squares: np.ndarray  # [M], sum of squared deviations from the mean

    @classmethod
    def of(cls, uncertainty_NM: np.ndarray) -> Moments:
        """The moments of N samples (N may be 0)."""
        values = np.asarray(uncertainty_NM, dtype=np.float64)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        return cls(count=len(values), mean=mean, squares=((values - mean) ** 2).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        if not count:
            return self
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * (other.count / count),
            squares=self.squares + other.squares + delta**2 * (self.count * other.count / count),
        )

    @property
    def std(self) -> np.ndarray:
        """Unbiased standard deviation [M]; 0 for fewer than two samples."""
        deviations_M: np.ndarray = np.sqrt(self.squares / max(self.count - 1, 1))
        return deviations_M


def each_part(samples: Samples, task: Callable[[Stream, int], R]) -> Iterator[R]:
    """What `task` makes of each part; a stream is one."""
    return iter([task(samples, 0)]) if callable(samples) else samples.each(task)


def few(samples: Samples, *, max_samples: int = MAX_SAMPLES) -> Samples:
    """The samples in memory, batch by batch as they are, while there are at most so many."""
    if callable(samples) or sum(samples.sizes) > max_samples:
        return samples
    batches = list(batches_of(samples))
    return lambda: batches


def batches_of(samples: Samples) -> Iterator[np.ndarray]:
    """All batches, in their order; a part's at a time are in memory."""
    return chain.from_iterable(each_part(samples, _batches))


def moments_of(samples: Samples, experts: int) -> Moments:
    """Moments of all samples: those of batches merged in their order, then those of parts."""
    none = Moments.of(np.empty((0, experts)))
    return reduce(Moments.merge, each_part(samples, partial(_moments, experts)), none)


def entropy_quantiles(
    samples: Samples,
    experts: int,
    count: int,
    quantiles: Sequence[float],
    *,
    max_samples: int = MAX_SAMPLES,
) -> np.ndarray:
    """Quantiles of each expert's entropies [Q, M], from `count` log-expertises -H.

    Exact up to `max_samples`; beyond, to the width of QUANTILE_BINS bins on a logarithmic scale,
    0.05 % of the value.
    """
    if count <= max_samples:
        values = -np.concatenate(list(batches_of(samples)))
        exact_QM: np.ndarray = np.quantile(values.astype(np.float64), quantiles, axis=0)
        return exact_QM
    edges = np.geomspace(*QUANTILE_LIMITS, QUANTILE_BINS + 1)
    counts_MB = reduce(np.add, each_part(samples, partial(_entropy_counts, experts, edges)))
    below_MB = counts_MB.cumsum(axis=1)
    at_QM = np.array([(below_MB < count * q).sum(axis=1) for q in quantiles])
    middles_QM: np.ndarray = np.sqrt(edges[at_QM] * edges[at_QM + 1])
    return middles_QM


def subsample(samples: Samples, count: int, size: int, seed: int) -> np.ndarray:
    """`size` of `count` samples, drawn without replacement, in their order [size, M]."""
    chosen = np.sort(np.random.default_rng(seed).choice(count, size, replace=False, shuffle=False))
    starts = [0] if callable(samples) else [*accumulate(samples.sizes, initial=0)]
    return np.concatenate(list(each_part(samples, partial(_picked, chosen, starts))))


def _batches(stream: Stream, part: int) -> list[np.ndarray]:
    return list(stream())


def _moments(experts: int, stream: Stream, part: int) -> Moments:
    moments = Moments.of(np.empty((0, experts)))
    for log_e in stream():
        moments = moments.merge(Moments.of(-np.asarray(log_e, dtype=np.float64)))
    return moments


def _entropy_counts(experts: int, edges: np.ndarray, stream: Stream, part: int) -> np.ndarray:
    counts_MB = np.zeros((experts, QUANTILE_BINS), dtype=np.int64)
    for log_e in stream():
        inside = np.clip(-np.asarray(log_e, dtype=np.float64), *QUANTILE_LIMITS)
        for m in range(experts):
            counts_MB[m] += np.histogram(inside[:, m], edges)[0]
    return counts_MB


def _picked(chosen: np.ndarray, starts: Sequence[int], stream: Stream, part: int) -> np.ndarray:
    picked, start = [], starts[part]
    for batch in stream():
        low, high = np.searchsorted(chosen, (start, start + len(batch)))
        picked.append(batch[chosen[low:high] - start])
        start += len(batch)
    return np.concatenate(picked)


class LambdaHistogram:
    """The coefficients of M = 2 experts in fixed memory, however many samples are added.

    A bin holds the count of its samples and the sum of their lambda (weight of expert 1), so that
    its point is the mean of its samples, not its middle. What is lost is the spread within a bin,
    a variance of at most 1 / (4 bins^2).
    """

    def __init__(self, bins: int = 4096) -> None:
        """Start empty, with `bins` equal bins over [0, 1]."""
        self._counts = np.zeros(bins, dtype=np.int64)
        self._sums = np.zeros(bins, dtype=np.float64)

    def add(self, coefficients: np.ndarray) -> None:
        """Count a batch [B, 2]; raises as `fit_mixture` does."""
        rows_B2 = simplex_rows(coefficients)
        if rows_B2.shape[1] != 2:
            raise ValueError(f"the histogram is for 2 experts, got {rows_B2.shape[1]}")
        lambda_B, bins = rows_B2[:, 1], len(self._counts)
        bin_B = (lambda_B * bins).astype(np.int64)  # the last at most: lambda is below 1
        self._counts += np.bincount(bin_B, minlength=bins)
        self._sums += np.bincount(bin_B, weights=lambda_B, minlength=bins)

    def merge(self, other: LambdaHistogram) -> LambdaHistogram:
        """The histogram of both sets together; of as many bins."""
        both = LambdaHistogram(len(self._counts))
        both._counts, both._sums = self._counts + other._counts, self._sums + other._sums
        return both

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [P, 2] and counts int64 [P] of the P bins that are not empty."""
        filled = self._counts > 0
        lambda_P = self._sums[filled] / self._counts[filled]
        return np.column_stack([1 - lambda_P, lambda_P]), self._counts[filled]


def histogram_of(
    to_coefficients: Callable[[np.ndarray], np.ndarray], stream: Stream, part: int
) -> LambdaHistogram:
    """A part's samples in a histogram of their coefficients."""
    histogram = LambdaHistogram()
    for batch in stream():
        histogram.add(to_coefficients(batch))
    return histogram
