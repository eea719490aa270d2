"""A stream of any length in fixed memory: moments, quantiles, a histogram, a subsample.

A `Stream` is read as often as it takes and never held, so that a fit's memory does not depend on
how many samples there are. What is exact while they are few says what it loses when they are many.

Shapes: N samples, B samples of a batch, M experts, Q quantiles, P points of a histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.method.mixture import simplex_rows

# A stream of log-expertises [B, M], the same at every call.
Stream = Callable[[], Iterable[np.ndarray]]

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


def entropy_quantiles(
    stream: Stream,
    experts: int,
    count: int,
    quantiles: Sequence[float],
    *,
    max_samples: int = MAX_SAMPLES,
) -> np.ndarray:
    """Quantiles of each expert's entropies [Q, M], from a stream of log-expertises -H.

    Exact up to `max_samples`; beyond, to the width of QUANTILE_BINS bins on a logarithmic scale,
    0.05 % of the value.
    """
    if count <= max_samples:
        values = -np.concatenate(list(stream())).astype(np.float64)
        exact_QM: np.ndarray = np.quantile(values, quantiles, axis=0)
        return exact_QM
    edges = np.geomspace(*QUANTILE_LIMITS, QUANTILE_BINS + 1)
    counts_MB = np.zeros((experts, QUANTILE_BINS), dtype=np.int64)
    for log_e in stream():
        inside = np.clip(-np.asarray(log_e, dtype=np.float64), *QUANTILE_LIMITS)
        for m in range(experts):
            counts_MB[m] += np.histogram(inside[:, m], edges)[0]
    below_MB = counts_MB.cumsum(axis=1)
    at_QM = np.array([(below_MB < count * q).sum(axis=1) for q in quantiles])
    middles_QM: np.ndarray = np.sqrt(edges[at_QM] * edges[at_QM + 1])
    return middles_QM


def subsample(batches: Iterable[np.ndarray], count: int, size: int, seed: int) -> np.ndarray:
    """`size` rows of a stream of `count`, drawn without replacement, in the stream's order."""
    chosen = np.sort(np.random.default_rng(seed).choice(count, size, replace=False, shuffle=False))
    picked, start = [], 0
    for batch in batches:
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

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [P, 2] and counts int64 [P] of the P bins that are not empty."""
        filled = self._counts > 0
        lambda_P = self._sums[filled] / self._counts[filled]
        return np.column_stack([1 - lambda_P, lambda_P]), self._counts[filled]
