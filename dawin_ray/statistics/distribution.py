"""How samples lay: moments, percentiles and histograms, and where the experts disagree.

What a fit says of the samples that it was fitted to, so that a later batch can be held against it.

Shapes: N samples, M experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def summary_of(values_N: np.ndarray, limits: tuple[float, float]) -> dict[str, Any]:
    """Moments (with N - 1), percentiles, and a histogram of BINS bins between the limits.

    `below` and `at_most` count the values up to each percentile, itself out and in: where values
    are tied, a percentile does not say it.
    """
    values_N = np.sort(np.asarray(values_N, dtype=np.float64))
    quantiles = np.quantile(values_N, QUANTILES)
    return {
        "n": len(values_N),
        "mean": float(values_N.mean()),
        "std": float(values_N.std(ddof=1)) if len(values_N) > 1 else 0.0,
        "quantiles": dict(zip(map(str, QUANTILES), quantiles.tolist(), strict=True)),
        "below": np.searchsorted(values_N, quantiles, side="left").tolist(),
        "at_most": np.searchsorted(values_N, quantiles, side="right").tolist(),
        "limits": list(limits),
        "histogram": np.histogram(values_N.clip(*limits), BINS, limits)[0].tolist(),
    }
