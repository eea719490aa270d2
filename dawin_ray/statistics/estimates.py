"""How many of a data set's answers are right, from how sure they are: no label of it is needed.

Labels of other data sets say what a confidence is worth, by one of two estimators:

    calibrated confidence   the share of right answers among theirs that are as sure, made to rise
                            with confidence (isotonic regression), averaged over this one's answers
    threshold               the share of answers above the confidence that as many of theirs are
                            above as are right (ATC: Garg et al., ICLR 2022, arXiv 2201.04234)

What either is worth is seen where labels are: each labelled data set is estimated from the others.
On the demo's suites these two earned their place; plain mean confidence and the experts' agreement
were off by several times as much (report/README.md).

Shapes: N samples, Q methods, B = FINE bins of confidence, D data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which imports its parts, 50 MB, when something of them is first used

from dawin_ray.statistics.scores import LEVEL

# Of the log odds c / (1 - c) of a confidence: eight in a nat, from one in 3,000 to what float32 has
# next to 1.
BINS_PER_NAT, LEAST_LOG_ODDS, FINE = 8, -8.0, 200

LEAST_SETS = 3  # labelled data sets: of fewer, an error cannot be told

# Right answers and answers of others [B], and answers here [B] -> a share of right ones.
Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def fine_bins(confidence_N: np.ndarray) -> np.ndarray:
    """The bin of each confidence, int64 [N]; rising with it. What is outside [0, 1] is clipped."""
    c_N = np.nan_to_num(np.asarray(confidence_N, dtype=np.float64)).clip(0, 1)
    with np.errstate(divide="ignore"):
        log_odds_N = np.log(c_N) - np.log1p(-c_N)
    place_N = np.floor((log_odds_N - LEAST_LOG_ODDS) * BINS_PER_NAT)
    bins_N: np.ndarray = np.clip(place_N, 0, FINE - 1).astype(np.int64)
    return bins_N


def fine_counts(confidence_N: np.ndarray, known_N: np.ndarray, right_n: np.ndarray) -> np.ndarray:
    """Rows with a label, right ones among them, and rows without, by confidence [3, FINE].

    `known_N` says which have a label, and `right_n` of these which are right.
    """
    bin_N = fine_bins(confidence_N)
    of_known = bin_N[known_N]
    counted = (of_known, of_known[right_n], bin_N[~known_N])
    return np.stack([np.bincount(bins, minlength=FINE) for bins in counted])


def calibrated_confidence(right_B: np.ndarray, n_B: np.ndarray, here_B: np.ndarray) -> float:
    """Mean of the others' share of right answers at the confidences here; see above."""
    filled = np.flatnonzero(n_B)
    shares = right_B[filled] / n_B[filled]
    rising = scipy.optimize.isotonic_regression(shares, weights=n_B[filled]).x
    # between bins that the others have, and beyond them, the nearest
    whole_B = np.interp(np.arange(len(n_B)), filled, rising)
    return float(whole_B @ here_B / here_B.sum())


def above_threshold(right_B: np.ndarray, n_B: np.ndarray, here_B: np.ndarray) -> float:
    """Share of answers here above the others' threshold; within its bin in proportion."""
    wanted = right_B.sum()
    above_B = n_B[::-1].cumsum()[::-1] - n_B  # surer ones than those of the bin
    part_B = np.clip((wanted - above_B) / np.maximum(n_B, 1), 0, 1)
    part_B[n_B == 0] = (above_B < wanted)[n_B == 0]
    return float(part_B @ here_B / here_B.sum())


ESTIMATORS: Mapping[str, Estimator] = {
    "calibrated confidence": calibrated_confidence,
    "threshold": above_threshold,
}


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """An accuracy that no label of its data set was used for, with its interval."""

    value: float
    low: float
    high: float
    true: float | None = None  # of the labels, where there are any


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """By data set and method. The errors are those on labelled data sets, each from the others."""

    estimator: str
    labelled: tuple[str, ...]  # data sets
    mean_error: dict[str, float]  # absolute, by method
    other_error: dict[str, float]  # of the other estimators, over all methods
    datasets: dict[str, dict[str, Estimated]]


def estimates_of(counts: Mapping[str, np.ndarray], methods: Sequence[str]) -> Estimates | None:
    """The accuracies of `methods` on data sets, from others' labels; None with few labelled ones.

    `counts` are of each data set [3, Q, B]: rows with a label, right answers among them, and rows
    without. A data set is estimated if all its rows, or none of them, have a label. The estimator
    is the one with the least error over all methods; an interval holds what an error of the size
    of those allows (Student's t of as many data sets), and the chance that so many samples leave.
    """
    labelled = [name for name, c in counts.items() if c[0].any() and not c[2].any()]
    if len(labelled) < LEAST_SETS:
        return None
    true_DQ = np.array([counts[n][1].sum(axis=1) / counts[n][0].sum(axis=1) for n in labelled])
    found = {
        kind: np.array(
            [
                _each(estimator, counts, [o for o in labelled if o != name], counts[name][0])
                for name in labelled
            ]
        )
        for kind, estimator in ESTIMATORS.items()
    }
    errors = {kind: np.abs(of_kind - true_DQ).mean(axis=0) for kind, of_kind in found.items()}
    best = min(errors, key=lambda kind: float(errors[kind].mean()))
    missed_Q = np.sqrt(((found[best] - true_DQ) ** 2).mean(axis=0))
    students = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(labelled)))

    def spread(value_Q: np.ndarray, count: int) -> np.ndarray:
        chance_Q = value_Q * (1 - value_Q) / count
        deviation_Q: np.ndarray = np.sqrt((1 + 1 / len(labelled)) * missed_Q**2 + chance_Q)
        return deviation_Q

    estimated = dict(zip(labelled, found[best], strict=True)) | {
        name: _each(ESTIMATORS[best], counts, labelled, c[2])
        for name, c in counts.items()
        if c[2].any() and not c[0].any()
    }
    true = dict(zip(labelled, true_DQ.tolist(), strict=True))
    return Estimates(
        estimator=best,
        labelled=tuple(labelled),
        mean_error=dict(zip(methods, errors[best].tolist(), strict=True)),
        other_error={k: float(e.mean()) for k, e in errors.items() if k != best},
        datasets={
            name: {
                method: Estimated(
                    value=float(value_Q[q]),
                    low=float(max(value_Q[q] - reach_Q[q], 0)),
                    high=float(min(value_Q[q] + reach_Q[q], 1)),
                    true=true[name][q] if name in true else None,
                )
                for q, method in enumerate(methods)
            }
            for name, value_Q in estimated.items()
            for reach_Q in [students * spread(value_Q, int(counts[name][[0, 2], 0].sum()))]
        },
    )


def _each(
    estimator: Estimator,
    counts: Mapping[str, np.ndarray],
    others: Sequence[str],
    here_QB: np.ndarray,
) -> np.ndarray:
    """Of each method [Q], by the labels of the others."""
    n_QB, right_QB = (sum(counts[name][i] for name in others) for i in (0, 1))
    return np.array([estimator(r, n, h) for r, n, h in zip(right_QB, n_QB, here_QB, strict=True)])
