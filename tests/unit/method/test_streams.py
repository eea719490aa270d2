"""Moments, quantiles and histograms: parts give what the whole gives."""

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.method.mixture import MixtureConfig, fit_mixture
from dawin_ray.method.streams import (
    LambdaHistogram,
    Moments,
    batches_of,
    entropy_quantiles,
    few,
    moments_of,
    subsample,
)
from tests.unit.method.made import InParts


def pairs(*lambdas):
    """Coefficients [N, 2] of two experts."""
    return np.array([[1 - x, x] for x in lambdas])


def stream_of(values, size):
    return lambda: iter(np.split(values, range(size, len(values), size)))


def test_each_part_gets_the_task_and_its_number():
    """Task and result go to other processes and come back."""
    values = np.random.default_rng(0).gamma(2, size=(100, 3))
    samples = InParts(np.split(values, [30, 90]), 7)
    moments = moments_of(samples, 3)
    assert moments.count == 100
    np.testing.assert_allclose(moments.mean, -values.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(np.concatenate(list(batches_of(samples))), values)


def test_few_samples_are_held_as_they_came():
    values = np.random.default_rng(0).gamma(2, size=(100, 3))
    samples = InParts(np.split(values, [30, 90]), 7)
    assert few(samples, max_samples=99) is samples
    held = few(samples, max_samples=100)
    assert [len(batch) for batch in held()] == [7, 7, 7, 7, 2, *[7] * 8, 4, 7, 3]
    np.testing.assert_array_equal(np.concatenate(held()), values)
    assert few(held) is held


def test_moments_of_parts_merge_to_those_of_the_whole():
    values = np.random.default_rng(0).gamma(2, size=(1000, 3))
    whole = Moments.of(values)
    merged = Moments.of(values[:0])
    for part in np.split(values, [1, 10, 10, 700]):
        merged = merged.merge(Moments.of(part))
    assert merged.count == 1000
    np.testing.assert_allclose(merged.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.std, values.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(whole.std, merged.std, rtol=1e-12)


def test_quantiles_of_many_samples_are_within_a_bin():
    draw = np.random.default_rng(0)
    values = -draw.gamma(2, [0.001, 0.1, 1.0], size=(20_000, 3)).astype(np.float32)
    wanted = [0.01, 0.5, 0.99]
    exact = entropy_quantiles(stream_of(values, 999), 3, 20_000, wanted)
    np.testing.assert_allclose(exact, np.quantile(-values.astype(np.float64), wanted, axis=0))
    binned = entropy_quantiles(stream_of(values, 999), 3, 20_000, wanted, max_samples=100)
    parts = InParts(np.split(values, [5_000, 17_000]), 999)
    np.testing.assert_array_equal(
        entropy_quantiles(parts, 3, 20_000, wanted, max_samples=100), binned
    )
    np.testing.assert_allclose(binned, exact, rtol=3e-3)  # gaps of the tails are wider than bins


def test_points_of_a_histogram_keep_the_mean_of_their_samples():
    histogram = LambdaHistogram(bins=4)
    histogram.add(pairs(0.01, 0.02, 0.6))
    histogram.add(pairs(0.06, 1.0, 0.8))
    points, counts = histogram.points()
    np.testing.assert_array_equal(counts, [3, 1, 2])
    np.testing.assert_allclose(points, pairs(0.03, 0.6, 0.9), atol=1e-6)


def test_an_empty_histogram_has_no_points():
    points, counts = LambdaHistogram().points()
    assert points.shape == (0, 2)
    with pytest.raises(UserError, match="at least one sample"):
        fit_mixture(points, MixtureConfig(), weights=counts)


def test_a_histogram_is_for_two_experts():
    with pytest.raises(ValueError, match="2 experts, got 3"):
        LambdaHistogram().add(np.full((1, 3), 1 / 3))


def test_a_subsample_keeps_the_streams_order_however_it_is_cut():
    values = np.arange(100)[:, None]
    whole, cut = (
        subsample(lambda at=at: np.split(values, at), 100, 20, seed=3) for at in ([], [1, 7, 7, 60])
    )
    parts = subsample(InParts(np.split(values, [5, 40]), 7), 100, 20, seed=3)
    np.testing.assert_array_equal(whole, cut)
    np.testing.assert_array_equal(whole, parts)
    assert (np.diff(whole[:, 0]) > 0).all()
