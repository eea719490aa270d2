"""Newton's method on a whole mixture: its derivatives, and where it ends."""

import numpy as np
import pytest

from dawin_ray.method import newton
from dawin_ray.method.em import Effort, Samples, expect, maximise
from dawin_ray.method.newton import climb, derivatives
from tests.unit.method.made import random_coefficients, simulate

EFFORT = Effort(restarts=1, seed=1, tolerance=1e-12, max_iterations=200)


def samples_of(seed=0):
    """Samples of uneven weights, and three components that are no optimum."""
    rows_NM = random_coefficients(seed)
    draw = np.random.default_rng(seed)
    samples = Samples.of(rows_NM, draw.uniform(0.2, 3.0, len(rows_NM)))
    return samples, draw.gamma(2.0, 2.0, (3, rows_NM.shape[1])) + 0.3, np.array([0.2, 0.5, 0.3])


def objective(samples, logs_P, K):
    """Mean log-likelihood less the sum of the weights, of the logs of all parameters."""
    logs_KD = logs_P.reshape(K, -1)
    weights_K = np.exp(logs_KD[:, -1])
    log_density_N, _ = expect(samples.log_x, np.exp(logs_KD[:, :-1]), weights_K)
    return samples.mean(log_density_N) - weights_K.sum()


@pytest.mark.parametrize("seed", range(3))
def test_the_derivatives_are_those_of_the_likelihood(seed, monkeypatch):
    monkeypatch.setattr(newton, "BLOCK", 100)  # so that there are several
    samples, concentrations_KM, weights_K = samples_of(seed)
    _, log_probability_KN = expect(samples.log_x, concentrations_KM, weights_K)
    gradient_P, hessian_PP = derivatives(samples, concentrations_KM, weights_K, log_probability_KN)
    logs_P = np.log(np.column_stack([concentrations_KM, weights_K])).ravel()
    step, axes_PP = 1e-4, np.eye(len(logs_P))

    def value(*directions):
        return objective(samples, logs_P + step * sum(directions), 3)

    numeric_P = [(value(axis) - value(-axis)) / (2 * step) for axis in axes_PP]
    np.testing.assert_allclose(gradient_P, numeric_P, atol=1e-6)
    numeric_PP = [
        [
            (value(a, b) - value(a, -b) - value(-a, b) + value(-a, -b)) / (4 * step**2)
            for b in axes_PP
        ]
        for a in axes_PP
    ]
    np.testing.assert_allclose(hessian_PP, numeric_PP, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_climb_never_goes_down_and_ends_where_nothing_rises(seed):
    samples, concentrations_KM, weights_K = samples_of(seed)
    start = samples.mean(expect(samples.log_x, concentrations_KM, weights_K)[0])
    steps = [
        climb(samples, concentrations_KM, weights_K, Effort(
            restarts=1, seed=1, tolerance=1e-12, max_iterations=steps
        )).likelihood
        for steps in range(1, 12)
    ]  # fmt: skip
    assert (np.diff([start, *steps]) >= 0).all()
    top = climb(samples, concentrations_KM, weights_K, EFFORT)
    assert top.converged
    _, log_probability_KN = expect(samples.log_x, top.concentrations, top.weights)
    gradient_P, _ = derivatives(samples, top.concentrations, top.weights, log_probability_KN)
    assert np.abs(gradient_P).max() < 1e-5
    # a step of EM moves nothing either
    again, _ = maximise(samples, np.exp(log_probability_KN), top.concentrations)
    np.testing.assert_allclose(again, top.concentrations, rtol=1e-2)


def test_it_ends_in_a_few_steps_where_em_takes_hundreds():
    rows_NM = simulate([[4.0, 3.0, 2.0], [2.0, 3.0, 4.0], [8.0, 8.0, 8.0]], [0.3, 0.3, 0.4], 2000)
    samples = Samples.of(rows_NM, np.ones(2000))
    labels_N = rows_NM.argmax(axis=1)
    start = maximise(samples, (labels_N == np.arange(3)[:, None]).astype(float))
    top = climb(samples, *start, EFFORT)
    assert top.converged
    assert top.iterations <= 20
    concentrations_KM, weights_K = start
    for _ in range(10 * top.iterations):
        _, log_probability_KN = expect(samples.log_x, concentrations_KM, weights_K)
        concentrations_KM, weights_K = maximise(
            samples, np.exp(log_probability_KN), concentrations_KM
        )
    em = samples.mean(expect(samples.log_x, concentrations_KM, weights_K)[0])
    assert top.likelihood > em + 1e-6


def test_a_component_without_samples_moves_nothing():
    samples, concentrations_KM, _ = samples_of(1)
    top = climb(samples, concentrations_KM, np.array([0.6, 0.4, 1e-15]), EFFORT)
    assert np.isfinite(top.concentrations).all()
    assert (top.weights > 0).all()
    assert top.weights.sum() == pytest.approx(1)
