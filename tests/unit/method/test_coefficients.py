"""Coefficients of expertise, a data set's offset, and settings that contradict."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from dawin_ray.method.coefficients import CoefficientConfig, Offset, coefficients
from dawin_ray.method.expertise import METRICS
from dawin_ray.method.streams import Moments


def test_expertise_too_small_for_float32_still_has_a_ratio():
    weights = coefficients(np.array([[-500.0, -501.0], [-5000.0, -5000.0]]))
    np.testing.assert_allclose(weights[:, 0], [1 / (1 + math.exp(-1)), 0.5])


def test_offset_for_two_experts_is_the_reference_formula():
    h = np.random.default_rng(1).gamma(2, size=(200, 2))
    b = (h.std(axis=0, ddof=1) / h.mean(axis=0)).mean()
    w = h.mean(axis=0).sum() / h.mean(axis=0)[0]
    e = np.exp(-h)
    expected = (e[:, 1] + b / w) / (e.sum(axis=1) + b)
    ours = coefficients(-h, Offset.from_moments(Moments.of(h)))
    np.testing.assert_allclose(ours[:, 1], expected, rtol=1e-12)


def test_offset_for_more_experts_sums_to_one_and_treats_them_alike():
    h = np.random.default_rng(2).gamma(2, size=(100, 4))
    ours = coefficients(-h, Offset.from_moments(Moments.of(h)))
    np.testing.assert_allclose(ours.sum(axis=1), 1)
    order = [2, 0, 3, 1]
    moved = coefficients(-h[:, order], Offset.from_moments(Moments.of(h[:, order])))
    np.testing.assert_allclose(moved, ours[:, order], rtol=1e-12)


def test_there_is_no_offset_where_an_expert_is_always_certain():
    assert Offset.from_moments(Moments.of(np.array([[0.0, 1.0], [0.0, 2.0]]))) is None


def test_coefficients_of_no_samples_are_empty():
    assert coefficients(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "cross_entropy"}, "target goes with"),
        ({"metric": "entropy", "target": "labels"}, "target goes with"),
        ({"metric": "margin", "offset_adjustment": True}, "not for margin"),
        ({"metric": "nonsense"}, "entropy"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        CoefficientConfig(**settings)


@pytest.mark.parametrize("metric", METRICS)
def test_settings_follow_the_table_of_metrics(metric):
    target = {"target": "labels"} if METRICS[metric].needs_target else {}
    assert CoefficientConfig(metric=metric, **target).adjustable == METRICS[metric].adjustable
    if METRICS[metric].adjustable:
        CoefficientConfig(metric=metric, offset_adjustment=True, **target)
        return
    with pytest.raises(ValidationError, match=f"entropy and cross_entropy, not for {metric}"):
        CoefficientConfig(metric=metric, offset_adjustment=True, **target)
