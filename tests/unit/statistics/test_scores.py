"""Against independent implementations, and against what intervals and tests promise."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dawin_ray.statistics import scores as statistics

# Of coverage at 95 %: 1.5 points, as asked; its own standard error is 0.35 points at 4,000 trials.
TRIALS, SLACK = 4_000, 0.015


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (37, 50), (9_000, 10_000)])
def test_wilson(right, n):
    found = statistics.accuracy(right, n)
    low, high = proportion_confint(right, n, 0.05, method="wilson")
    assert (found.value, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (7, 3), (40, 40), (300, 250)])
def test_mcnemar(better, worse):
    theirs = their_mcnemar([[10, better], [worse, 10]], exact=True).pvalue
    expected = 1.0 if better == worse == 0 else theirs
    assert statistics.mcnemar(better, worse) == pytest.approx(min(expected, 1), abs=1e-12)


def test_holm():
    p = [0.04, 0.001, 0.03, 0.5, 0.001, 0.9]
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())
    assert statistics.holm([]) == []


def test_means():
    values = np.random.default_rng(0).exponential(size=500)
    found = statistics.mean(len(values), values.sum(), values @ values)
    sem = stats.sem(values)
    expected = stats.norm.interval(0.95, values.mean(), sem)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_covers():
    draw = np.random.default_rng(1)
    for p, n in ((0.8, 200), (0.95, 400)):
        drawn = draw.binomial(n, p, size=TRIALS)
        intervals = {right: statistics.accuracy(int(right), n) for right in set(drawn.tolist())}
        inside = np.mean([intervals[r].low <= p <= intervals[r].high for r in drawn.tolist()])
        assert abs(inside - 0.95) < SLACK, (p, n, inside)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_paired_bootstrap_covers(groups):
    draw, shares = np.random.default_rng(2), np.array([0.12, 0.08, 0.8])
    inside = 0
    for trial in range(TRIALS // 2):
        counts = [(int(b), int(w), 500) for b, w, _ in draw.multinomial(500, shares, size=groups)]
        found = statistics.paired_differences(counts, seed=trial, resamples=1_000)
        inside += found.low <= 0.04 <= found.high
    assert abs(inside / (TRIALS // 2) - 0.95) < SLACK


@pytest.mark.parametrize("groups", [1, 3])
def test_the_bootstrap_of_ratios_covers(groups):
    draw, shares = np.random.default_rng(3), np.array([0.6, 0.1, 0.2, 0.1])
    inside = 0
    for trial in range(TRIALS // 2):
        counts = [(*map(int, drawn[:3]), 500) for drawn in draw.multinomial(500, shares, groups)]
        found = statistics.paired_ratios(counts, seed=trial, resamples=1_000)
        inside += found.low <= 0.7 / 0.8 <= found.high
    assert abs(inside / (TRIALS // 2) - 0.95) < SLACK


def test_ratios():
    found = statistics.paired_ratios([(30, 10, 20, 100), (5, 0, 0, 10)])
    assert found.value == pytest.approx((40 / 50 + 1) / 2)
    assert found.n == 110
    assert statistics.paired_ratios([(7, 0, 0, 9)]).low == 1  # the same answers, whatever is drawn
    rare = statistics.paired_ratios([(1, 0, 0, 1), (1, 1, 0, 3)])  # draws without a denominator
    assert np.isfinite([rare.low, rare.high]).all()


def test_the_bootstrap_of_counts_is_that_of_samples():
    """The quantiles of a plain bootstrap over samples, to the noise of 20,000 resamples."""
    draw = np.random.default_rng(3)
    values = draw.choice([1, -1, 0], p=[0.1, 0.05, 0.85], size=300)
    plain = np.array([draw.choice(values, 300).mean() for _ in range(20_000)])
    counts = (int((values == 1).sum()), int((values == -1).sum()), 300)
    found = statistics.paired_differences([counts], resamples=20_000)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=2e-3)


@pytest.mark.parametrize("discordant", [0.02, 0.2])
def test_mcnemar_keeps_its_level(discordant):
    draw = np.random.default_rng(4)
    n = draw.binomial(400, discordant, size=TRIALS)
    better = draw.binomial(n, 0.5)
    p = [statistics.mcnemar(int(b), int(m - b)) for b, m in zip(better, n, strict=True)]
    assert np.mean(np.array(p) < 0.05) <= 0.05


def test_calibration_against_a_plain_loop():
    draw = np.random.default_rng(5)
    confidence = draw.uniform(0.1, 1, size=1_000).astype(np.float32)
    confidence[:3] = [1.0, 1 / 15, 2 / 15]
    right = draw.random(1_000) < confidence
    bins = statistics.calibration_bin(confidence)
    counts = [np.bincount(bins, w, 15) for w in (np.ones(1_000), confidence, right)]
    error, curve = statistics.calibration(*counts)
    expected = 0.0
    for low in range(15):
        c = confidence.astype(np.float64)
        inside = (c > low / 15) & (c <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(c[inside].mean() - right[inside].mean())
    assert error == pytest.approx(expected, abs=1e-12)
    assert sum(b["n"] for b in curve) == 1_000


def test_shrinkage():
    found = statistics.shrunk(np.array([1, 0, 2, 0]), np.array([1, 0, 3, 0]))
    assert found[0] == pytest.approx((1 + 10 * 0.75) / 11)
    assert found[1] == pytest.approx(0.75)


def test_rank_correlation():
    a, b = np.random.default_rng(8).random((2, 50))
    assert statistics.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert statistics.rank_correlation(a, np.ones(50)) is None


def test_paired_gains_are_those_of_newcombes_example():
    """Statistics in Medicine 17, 1998: 36, 12, 2 and 0 pairs give 0.0569 to 0.3404 by method 10."""
    found = statistics.paired_gains(*np.array([[36, 36], [12, 2], [2, 12], [50, 50]]))
    assert found[:, 0] == pytest.approx([0.2, 0.0569, 0.3404], abs=5e-5)
    assert found[:, 1] == pytest.approx([-0.2, -0.3404, -0.0569], abs=5e-5)


def test_paired_gains_of_few_samples_stay_within_bounds():
    counts = np.array([c for c in np.ndindex(5, 5, 5, 5) if sum(c)]).T
    value, low, high = statistics.paired_gains(*counts[:3], counts.sum(axis=0))
    assert (low >= -1 - 1e-12).all()
    assert (low <= value).all()
    assert (value <= high).all()
    assert (high <= 1 + 1e-12).all()


@pytest.mark.parametrize("n", [20, 60])
def test_paired_gains_cover(n):
    draw, shares = np.random.default_rng(4), np.array([0.6, 0.15, 0.1, 0.15])
    drawn = draw.multinomial(n, shares, size=TRIALS).T
    _, low, high = statistics.paired_gains(*drawn[:3], np.full(TRIALS, n))
    assert 0.94 < np.mean((low <= 0.05) & (high >= 0.05)) < 0.985
