"""Sketches: exact while values are few, within what they say where they are many."""

import numpy as np
import pytest
from scipy import stats

from dawin_ray.statistics import Sketch, distance, sketch

SHARES = np.arange(101) / 100


def values_of(draw, n):
    """Of many sizes, of both signs, some tied."""
    values = draw.choice([-1, 1, 1, 1], n) * 10.0 ** draw.uniform(-9, 1, n)
    values[draw.random(n) < 0.2] = 0.5
    values[:2] = [0.0, -0.0]
    return values.astype(np.float32)


def sketches(draw, n, most, monkeypatch):
    values = values_of(draw, n)
    monkeypatch.setattr(sketch, "MAX_BINS", most)
    return values.astype(np.float64), Sketch.of(values)


def test_of_few_values_all_is_as_numpy_and_scipy_have_it():
    draw = np.random.default_rng(0)
    values = values_of(draw, 2_000)
    found, values = Sketch.of(values), values.astype(np.float64)
    assert (found.level, found.width, found.count) == (0, 0, 2_000)
    np.testing.assert_array_equal(found.quantiles(SHARES), np.quantile(values, SHARES))
    places = np.r_[values[:100], draw.normal(size=100), 100]
    assert found.below(places).tolist() == [(values < p).sum() for p in places]
    assert found.at_most(places).tolist() == [(values <= p).sum() for p in places]
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    edges = np.linspace(0, 5, 51)
    expected = np.histogram(values.clip(0, 5), 50, (0, 5))[0]
    assert found.histogram(edges).tolist() == expected.tolist()
    other = values_of(draw, 500)
    expected = stats.wasserstein_distance(values, other.astype(np.float64))
    assert distance(found, Sketch.of(other)) == pytest.approx(expected, rel=1e-12)
    assert distance(found, Sketch.of(np.zeros(0, np.float32))) is None


@pytest.mark.parametrize("most", [3_000, 1_000, 300])
def test_of_many_values_errors_are_within_what_is_said(most, monkeypatch):
    draw = np.random.default_rng(1)
    values, found = sketches(draw, 20_000, most, monkeypatch)
    assert found.level > 0
    assert len(found.key) <= most
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert abs(found.std**2 - values.var(ddof=1)) <= found.width**2 / 2
    ordered, relative = np.sort(values), 2.0 ** (found.level - 23)
    places = (SHARES * (len(values) - 1)).astype(int)
    errors = np.abs(found.quantiles(places / (len(values) - 1)) - ordered[places])
    assert (errors <= relative * np.abs(ordered[places]) + 1e-45).all()
    assert errors.max() <= found.width
    for place in draw.choice(values, 50):
        assert found.below([place])[0] <= (values < place).sum()
        assert found.at_most([place])[0] >= (values <= place).sum()
    other, coarse = sketches(draw, 9_000, most, monkeypatch)
    exact = stats.wasserstein_distance(values, other)
    assert abs(distance(found, coarse) - exact) <= found.width + coarse.width


def test_the_level_is_the_smallest_that_fits(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 100)
    values = np.float32(1) + np.arange(101, dtype=np.float32) * np.float32(2.0**-20)
    found = Sketch.of(values)
    assert (found.level, len(found.key)) == (4, 51)  # spacing is 2^3 units: 101 of them are left
    assert Sketch.of(values[:100]).level == 0


def test_merged_in_any_grouping_it_is_that_of_all(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 200)
    draw = np.random.default_rng(2)
    values = values_of(draw, 5_000)
    whole = Sketch.of(values)
    for _ in range(10):
        cuts = np.sort(draw.integers(0, 5_000, 6))
        parts = [Sketch.of(part) for part in np.split(draw.permutation(values), cuts)]
        left = Sketch.merge([parts[0], Sketch.merge(parts[1:4])])
        merged = Sketch.merge([Sketch.merge(parts[4:]), left])
        assert merged.level == whole.level
        np.testing.assert_array_equal(merged.plain, whole.plain)


def test_a_tied_value_stays_where_it_is_among_many(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 200)
    values = np.random.default_rng(3).random(20_000).astype(np.float32)
    values[:10_000] = 1 / 3
    assert Sketch.of(values).quantiles([0.5])[0] == pytest.approx(1 / 3, rel=2e-4)
