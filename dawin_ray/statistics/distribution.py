"""How samples lay: moments, percentiles and histograms, and where the experts disagree.

What a fit says of the samples that it was fitted to, so that a later batch can be held against it.

Shapes: N samples, M experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.statistics.sketch import Sketch

QUANTILES = tuple(i / 100 for i in range(101))

BINS = 50  # of the histograms


def disagreements(expert_prediction_NM: np.ndarray) -> int:
    """The number of samples on which the experts do not all predict the same class."""
    return int((expert_prediction_NM != expert_prediction_NM[:, :1]).any(axis=1).sum())


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """How a data set's samples lay: of each sample, and of each expert."""

    entropy: tuple[Sketch, ...]  # in nats, [M]
    coefficient: tuple[Sketch, ...]  # they sum to 1, [M]
    clusters: np.ndarray | None  # samples of each [K]; None in the exact mode
    disagreements: int  # samples on which not all experts predict the same class

    @classmethod
    def of(
        cls,
        *,
        entropy: np.ndarray,
        coefficient: np.ndarray,
        cluster: np.ndarray | None,
        expert_prediction: np.ndarray,
    ) -> ScoredRows:
        """Of arrays [N, M], and of a cluster for each sample [N]."""
        return cls(
            entropy=tuple(map(Sketch.of, entropy.T)),
            coefficient=tuple(map(Sketch.of, coefficient.T)),
            clusters=None if cluster is None else np.bincount(cluster),
            disagreements=disagreements(expert_prediction),
        )

    @property
    def count(self) -> int:
        """Of samples."""
        return self.entropy[0].count


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How the values of one quantity lay.

    `below` and `at_most` count the values up to each percentile, itself out and in: where values
    are tied, a percentile does not say it. Values are as a `Sketch` has them, which drops bits of
    more than MAX_BINS different ones: `level` of them.
    """

    n: int
    mean: float
    std: float  # with N - 1
    quantiles: dict[str, float]  # the percentiles, by their share as text
    below: tuple[int, ...]
    at_most: tuple[int, ...]
    limits: tuple[float, float]  # of the histogram
    histogram: tuple[int, ...]  # BINS bins between the limits
    level: int = 0

    @classmethod
    def of(cls, values: Sketch, limits: tuple[float, float]) -> Distribution:
        """Of values, which are clipped to the limits in the histogram alone.

        Raises:
            ValueError: there are none.
        """
        quantiles = values.quantiles(QUANTILES)
        return cls(
            n=values.count,
            mean=values.mean,
            std=values.std,
            quantiles=dict(zip(map(str, QUANTILES), quantiles.tolist(), strict=True)),
            below=tuple(values.below(quantiles).tolist()),
            at_most=tuple(values.at_most(quantiles).tolist()),
            limits=limits,
            histogram=tuple(values.histogram(np.linspace(*limits, BINS + 1)).tolist()),
            level=values.level,
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
    names: Sequence[str], values: Sequence[Sketch], most: float
) -> dict[str, Distribution]:
    """Of each expert's values, which lie in [0, most]."""
    return {
        name: Distribution.of(sketch, (0.0, most))
        for name, sketch in zip(names, values, strict=True)
    }
