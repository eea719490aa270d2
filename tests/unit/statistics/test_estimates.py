"""Accuracies without labels: from what confidences are worth where labels are."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from dawin_ray.statistics import estimates_of
from dawin_ray.statistics.estimates import (
    BINS_PER_NAT,
    FINE,
    LEAST_SETS,
    above_threshold,
    calibrated_confidence,
    fine_bins,
)


def drawn(count: int, seed: int, level: float, worth: float = 1.0):
    """Confidences around a level of log odds; right as often as `worth` times the log odds say."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(level, 1.5, count)
    right = rng.random(count) < 1 / (1 + np.exp(-worth * log_odds))
    return (1 / (1 + np.exp(-log_odds))).astype(np.float32), right


def counted(confidence, right, labelled=True) -> np.ndarray:
    """[3, 1, FINE] of one method."""
    bins = fine_bins(confidence)
    rows = np.bincount(bins, minlength=FINE)
    if not labelled:
        return np.stack([0 * rows, 0 * rows, rows])[:, None]
    return np.stack([rows, np.bincount(bins[right], minlength=FINE), 0 * rows])[:, None]


def test_bins_rise_with_confidence_and_are_fine():
    c = np.sort(np.random.default_rng(0).uniform(0, 1, 5_000)).astype(np.float32)
    bins = fine_bins(c)
    assert (np.diff(bins) >= 0).all()
    for b in np.unique(bins)[1:-1]:
        inside = c[bins == b].astype(float)
        assert inside.max() - inside.min() <= 1 / (4 * BINS_PER_NAT) + 1e-6
    assert fine_bins(np.array([0, 1, 1 - 2**-24], np.float32)).tolist() == [0, FINE - 1, FINE - 3]


def test_calibrated_confidence_is_the_mean_of_an_isotonic_regression():
    (c, right), (there, _) = drawn(3_000, 0, 1.0, 0.5), drawn(500, 1, 0.0)
    bins, here = fine_bins(c), fine_bins(there)
    n, r = np.bincount(bins, minlength=FINE), np.bincount(bins[right], minlength=FINE)
    model = IsotonicRegression(out_of_bounds="clip").fit(bins, right)
    expected = model.predict(here).mean()
    found = calibrated_confidence(r, n, np.bincount(here, minlength=FINE))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_threshold_leaves_as_many_above_as_are_right():
    c, right = drawn(4_000, 0, 1.0)
    (n,), (r,), _ = counted(c, right)
    assert above_threshold(r, n, n) == pytest.approx(right.mean())
    there, _ = drawn(1_000, 1, 0.0)
    threshold = np.quantile(c, 1 - right.mean())
    (here,), *_ = counted(there, there > 2)
    assert above_threshold(r, n, here) == pytest.approx((there > threshold).mean(), abs=0.01)


@pytest.mark.parametrize("estimator", [calibrated_confidence, above_threshold])
@pytest.mark.parametrize("right", [0, 1])
def test_where_all_are_right_or_none_so_it_is_said(estimator, right):
    n = np.zeros(FINE, dtype=np.int64)
    n[[50, 90, 120]] = 10
    here = np.roll(n, 3)
    assert estimator(right * n, n, here) == pytest.approx(right, abs=1e-9)


def suite(count=4, worth=0.6, size=2_000):
    """Shifts that are less and less sure, whose confidences are all worth the same."""
    return {f"set{i}": counted(*drawn(size, i, 2.5 - 0.6 * i, worth)) for i in range(count)}


def test_a_data_set_without_labels_is_estimated_within_its_interval():
    found = 0
    for seed in range(20):
        c, right = drawn(1_000, 100 + seed, 0.5, 0.6)
        estimates = estimates_of(suite() | {"new": counted(c, right, labelled=False)}, ["m"])
        new = estimates.datasets["new"]["m"]
        assert new.true is None
        assert new.value == pytest.approx(right.mean(), abs=0.05)
        found += new.low <= right.mean() <= new.high
    assert found >= 16


def test_errors_are_those_of_labelled_sets_each_from_the_others():
    sets = suite()
    estimates = estimates_of(sets, ["m"])
    assert estimates.labelled == tuple(sets)
    apart = []
    for name in sets:
        others = {n: c for n, c in sets.items() if n != name}
        n, r = (sum(c[i, 0] for c in others.values()) for i in (0, 1))
        kind = {"calibrated confidence": calibrated_confidence, "threshold": above_threshold}
        value = kind[estimates.estimator](r, n, sets[name][0, 0])
        true = sets[name][1].sum() / sets[name][0].sum()
        assert estimates.datasets[name]["m"].value == pytest.approx(value)
        assert estimates.datasets[name]["m"].true == pytest.approx(true)
        apart.append(abs(value - true))
    assert estimates.mean_error["m"] == pytest.approx(np.mean(apart))
    (other,) = estimates.other_error.values()
    assert other >= estimates.mean_error["m"]


def test_sets_that_are_strangers_have_wide_intervals():
    """Where confidences are worth something else on one of the others, it is seen in the errors."""
    near, far = suite(), suite() | {"odd": counted(*drawn(2_000, 9, 1.0, -0.5))}
    reach = [
        (e := estimates_of(s | {"new": counted(*drawn(500, 5, 1.0), labelled=False)}, ["m"])
         .datasets["new"]["m"]).high - e.low
        for s in (near, far)
    ]  # fmt: skip
    assert reach[1] > 3 * reach[0]


def test_of_few_labelled_sets_nothing_is_said():
    few = {f"set{i}": counted(*drawn(100, i, 1.0)) for i in range(LEAST_SETS - 1)}
    assert estimates_of(few | {"new": counted(*drawn(9, 0, 1.0), labelled=False)}, ["m"]) is None
    assert estimates_of({}, []) is None


def test_a_set_with_some_labels_is_neither_estimated_nor_asked():
    mixed = counted(*drawn(100, 9, 1.0)) + counted(*drawn(100, 8, 1.0), labelled=False)
    found = estimates_of(suite() | {"mixed": mixed, "none": 0 * mixed}, ["m"])
    assert "mixed" not in found.datasets
    assert "none" not in found.datasets
    assert found == estimates_of(suite(), ["m"])
