"""How samples lay: moments, percentiles and histograms, and where the experts disagree.

What a fit says of the samples that it was fitted to, so that a later batch can be held against it.

Shapes: N samples, M experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUANTILES = tuple(i / 100 for i in range(101))

BINS = 50  # of the histograms


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """How a data set's samples lay: of each sample, and of each expert."""

    entropy: np.ndarray  # in nats, [N, M]
    coefficient: np.ndarray  # they sum to 1, [N, M]
    cluster: np.ndarray | None  # [N]; None in the exact mode
    expert_prediction: np.ndarray  # classes, [N, M]


def disagreements(expert_prediction_NM: np.ndarray) -> int:
    """The number of samples on which the experts do not all predict the same class."""
    return int((expert_prediction_NM != expert_prediction_NM[:, :1]).any(axis=1).sum())


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How the values of one quantity lay.

    `below` and `at_most` count the values up to each percentile, itself out and in: where values
    are tied, a percentile does not say it.
    """

    n: int
    mean: float
    std: float  # with N - 1
    quantiles: dict[str, float]  # the percentiles, by their share as text
    below: tuple[int, ...]
    at_most: tuple[int, ...]
    limits: tuple[float, float]  # of the histogram
    histogram: tuple[int, ...]  # BINS bins between the limits

    @classmethod
    def of(cls, values_N: np.ndarray, limits: tuple[float, float]) -> Distribution:
        """Of values, which are clipped to the limits in the histogram alone."""
        values_N = np.sort(np.asarray(values_N, dtype=np.float64))
        quantiles = np.quantile(values_N, QUANTILES)
        return cls(
            n=len(values_N),
            mean=float(values_N.mean()),
            std=float(values_N.std(ddof=1)) if len(values_N) > 1 else 0.0,
            quantiles=dict(zip(map(str, QUANTILES), quantiles.tolist(), strict=True)),
            below=tuple(np.searchsorted(values_N, quantiles, side="left").tolist()),
            at_most=tuple(np.searchsorted(values_N, quantiles, side="right").tolist()),
            limits=limits,
            histogram=tuple(np.histogram(values_N.clip(*limits), BINS, limits)[0].tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class ReferenceRows:
    """How the samples of a data set lay, small enough to keep: what a later batch is held against.

    Entropies and coefficients are by expert.
    """

    entropy: dict[str, Distribution]
    coefficient: dict[str, Distribution]
    clusters: tuple[int, ...] | None  # samples of each; None in the exact mode
    disagreements: int  # samples on which not all experts predict the same class


def distributions_of(
    names: Sequence[str], values_NM: np.ndarray, most: float
) -> dict[str, Distribution]:
    """Of each expert's values, which lie in [0, most]."""
    return {name: Distribution.of(values_NM[:, i], (0.0, most)) for i, name in enumerate(names)}
