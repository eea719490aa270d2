"""Intervals, tests and scores of predictions: plain arrays in, plain numbers out.

Intervals are two-sided at LEVEL. What scipy has is scipy's; what is here is what it lacks, and the
conventions that a reader of a report must know.

Shapes: N samples, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which imports scipy.stats, 50 MB, when something of it is first used

LEVEL = 0.95

BINS = 15  # of the calibration error: equal width, as in Guo et al. (ICML 2017)

COVERAGES = (0.8, 0.9, 0.95)

RESAMPLES = 10_000

# Samples' worth of the overall accuracy that each class's is shrunk with.
CLASS_PRIOR = 10


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its interval and what it was counted from."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """Plain JSON types."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def accuracy(right: int, n: int) -> Interval:
    """A share with Wilson's interval.

    Raises:
        ValueError: n is 0.
    """
    found = scipy.stats.binomtest(int(right), int(n)).proportion_ci(LEVEL, method="wilson")
    return Interval(value=right / n, low=float(found.low), high=float(found.high), n=int(n))


def mean(n: int, total: float, squares: float) -> Interval:
    """A mean with the normal interval of its standard error, of n values' sum and squares' sum.

    NaN of no values.
    """
    if not n:
        return Interval(value=math.nan, low=math.nan, high=math.nan, n=0)
    value = total / n
    variance = max(0.0, squares - total * value) / (n - 1) if n > 1 else 0.0
    reach = float(scipy.stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(variance / n)
    return Interval(value=value, low=value - reach, high=value + reach, n=n)


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p-value of McNemar's test from the discordant counts; 1 without any."""
    if better + worse == 0:
        return 1.0
    return float(scipy.stats.binomtest(int(better), int(better + worse), 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down procedure, in the order given."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def paired_differences(
    counts: Sequence[tuple[int, int, int]],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Mean over groups of the difference of two accuracies, with a paired bootstrap's interval.

    `counts` are of each group: samples that only the first got right, that only the second did,
    and all. Resampling the samples of a group with replacement changes nothing but these counts,
    so that they are drawn from their multinomial, whatever N is. One group is a data set; several
    are a suite, whose sets weigh the same.
    """
    draw = np.random.default_rng(seed)
    value, totals = 0.0, np.zeros(resamples)
    for better, worse, n in counts:
        value += (better - worse) / n / len(counts)
        shares = [better / n, worse / n, (n - better - worse) / n]
        drawn = draw.multinomial(n, shares, size=resamples)
        totals += (drawn[:, 0] - drawn[:, 1]) / n / len(counts)
    low, high = np.quantile(totals, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=sum(n for *_, n in counts))


def paired_gains(
    both_G: np.ndarray, better_G: np.ndarray, worse_G: np.ndarray, n_G: np.ndarray
) -> np.ndarray:
    """The difference of two accuracies on each group's samples, with its limits [3, G].

    Of samples that both got right, that only the first or the second did, and all (from 1 on).
    Newcombe's interval of paired shares (Statistics in Medicine 17, 1998, method 10) needs no
    resampling, and holds where a group has few samples: Wilson's limits of the two, put together
    with the correlation of their answers.
    """
    neither_G = n_G - both_G - better_G - worse_G
    cross_G = both_G * neither_G - better_G * worse_G
    spread_G = np.sqrt(
        (both_G + better_G)
        * (worse_G + neither_G)
        * (both_G + worse_G)
        * (better_G + neither_G).astype(float)
    )
    corrected_G = np.where(cross_G > 0, np.maximum(cross_G - n_G / 2, 0), cross_G)
    phi_G = np.divide(corrected_G, spread_G, out=np.zeros(len(n_G)), where=spread_G > 0)
    (low_1, high_1), (low_2, high_2) = (
        np.abs(_wilson(right_G, n_G) - right_G / n_G)
        for right_G in (both_G + better_G, both_G + worse_G)
    )
    value_G = (better_G - worse_G) / n_G
    below_G, above_G = (
        np.sqrt(np.maximum(a * a - 2 * phi_G * a * b + b * b, 0))
        for a, b in ((low_1, high_2), (high_1, low_2))
    )
    return np.stack([value_G, value_G - below_G, value_G + above_G])


def _wilson(right_G: np.ndarray, n_G: np.ndarray) -> np.ndarray:
    """Limits of shares, as `accuracy` has them [2, G]."""
    z = float(scipy.stats.norm.ppf((1 + LEVEL) / 2))
    share_G, part_G = right_G / n_G, z * z / n_G
    reach_G = np.sqrt(part_G * share_G * (1 - share_G) + part_G * part_G / 4)
    middle_G = share_G + part_G / 2
    limits: np.ndarray = np.stack([middle_G - reach_G, middle_G + reach_G]) / (1 + part_G)
    return limits


def paired_ratios(
    counts: Sequence[tuple[int, int, int, int]], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean over groups of the ratio of two accuracies, with a paired bootstrap's interval.

    `counts` are of each group: samples that both got right, that only the first did, that only the
    second did, and all. Drawn as in `paired_differences`; a draw in which the second got nothing
    right has no ratio and is left out.

    Raises:
        ZeroDivisionError: the second got nothing right in a group.
    """
    draw = np.random.default_rng(seed)
    value, totals = 0.0, np.zeros(resamples)
    for both, first, second, n in counts:
        value += (both + first) / (both + second) / len(counts)
        shares = [both / n, first / n, second / n, (n - both - first - second) / n]
        drawn = draw.multinomial(n, shares, size=resamples).astype(float)
        denominator = drawn[:, 0] + drawn[:, 2]
        denominator[denominator == 0] = np.nan
        totals += (drawn[:, 0] + drawn[:, 1]) / denominator / len(counts)
    low, high = np.nanquantile(totals, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=sum(n for *_, n in counts))


def macro_accuracy(
    counts: Sequence[tuple[int, int]], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of the accuracies of several data sets, with a bootstrap's interval.

    `counts` are right answers and samples of each set.
    """
    return paired_differences([(right, 0, n) for right, n in counts], seed, resamples)


def calibration_bin(confidence_N: np.ndarray) -> np.ndarray:
    """Which of BINS equal bins over [0, 1], open on the left, each confidence is in [N]."""
    confidence_N = np.asarray(confidence_N, dtype=np.float64)
    bins_N: np.ndarray = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    return bins_N


def calibration(
    n_B: np.ndarray, confidence_B: np.ndarray, right_B: np.ndarray
) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error, and the reliability curve: confidence, accuracy, n of each bin.

    Of samples, sums of confidences and right answers in each `calibration_bin`; those that are
    empty are left out.
    """
    used = n_B > 0
    error = np.abs(right_B[used] - confidence_B[used]).sum() / n_B.sum()
    curve = [
        {"confidence": float(c / n), "accuracy": float(r / n), "n": int(n)}
        for c, r, n in zip(confidence_B[used], right_B[used], n_B[used], strict=True)
    ]
    return float(error), curve


def shrunk(right_G: np.ndarray, n_G: np.ndarray) -> np.ndarray:
    """Accuracies of groups, those of few samples drawn towards the overall one.

    As if each group had CLASS_PRIOR more samples of the overall accuracy.
    """
    overall = right_G.sum() / n_G.sum()
    shrunk_G: np.ndarray = (right_G + CLASS_PRIOR * overall) / (n_G + CLASS_PRIOR)
    return shrunk_G


def rank_correlation(a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    """Spearman's; None where one of them is constant."""
    if len(a_N) < 2 or np.ptp(a_N) == 0 or np.ptp(b_N) == 0:
        return None
    return float(scipy.stats.spearmanr(a_N, b_N).statistic)
