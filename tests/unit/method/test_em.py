"""The steps of EM, alone: what they maximise, side by side as one by one, and never downhill."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma

from dawin_ray.method.em import (
    Samples,
    expect,
    match_moments,
    maximise,
    maximise_likelihood,
    within_precision,
)
from tests.unit.method.made import random_coefficients, three_betas


def samples_of(rows_NM):
    return Samples.of(rows_NM, np.ones(len(rows_NM)))


def test_moments_of_two_experts_are_the_beta_formula_of_the_reference():
    mean, variance = 0.3, 0.01
    scale = mean * (1 - mean) / variance - 1
    mean_square = (mean**2 + variance) + ((1 - mean) ** 2 + variance)
    matched = match_moments(np.array([[1 - mean, mean]]), np.array([mean_square]))
    np.testing.assert_allclose(matched, [[scale * (1 - mean), scale * mean]], rtol=1e-12)


def test_moments_of_many_experts_give_the_dirichlet_back():
    a_M = np.array([2.0, 3.0, 7.0, 0.5])
    law = stats.dirichlet(a_M)
    matched = match_moments(law.mean()[None], np.array([(law.mean() ** 2 + law.var()).sum()]))
    np.testing.assert_allclose(matched, a_M[None], rtol=1e-10)


def test_newton_ends_where_the_gradient_vanishes_from_anywhere():
    draw = np.random.default_rng(3)
    for M in (2, 3, 5):
        truth_M = draw.gamma(2.0, 4.0, M) + 0.1
        mean_log_M = digamma(truth_M) - digamma(truth_M.sum())
        start_KM = np.stack(
            [np.full(M, 1e-3), np.ones(M), np.full(M, 1e5), draw.gamma(1.0, 9.0, M)]
        )
        for _ in range(5):  # as in EM, each M-step starts where the last one ended
            start_KM = maximise_likelihood(np.tile(mean_log_M, (4, 1)), start_KM)
        np.testing.assert_allclose(start_KM, np.tile(truth_M, (4, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("truth", "start"),
    [
        ([210.0, 32.0], [150.0, 18.0]),
        ([16.0, 5.6], [18.0, 8.2]),
        ([28.0, 0.27, 19.0], [42.0, 0.24, 24.0]),
    ],
    ids=str,
)
def test_newton_never_goes_downhill(truth, start):
    # From here a whole step of Newton's lands on positive values of a lower likelihood.
    truth_M, start_M = np.array(truth), np.array(start)
    mean_log_M = digamma(truth_M) - digamma(truth_M.sum())
    np.testing.assert_allclose(maximise_likelihood(mean_log_M, start_M), truth_M, rtol=1e-4)


def test_a_precision_beyond_the_bound_keeps_its_mean():
    bounded = within_precision(np.array([[3e9, 1e9], [3.0, 1.0]]))
    np.testing.assert_allclose(bounded, [[7.5e7, 2.5e7], [3.0, 1.0]], rtol=1e-12)


def test_a_cluster_that_lost_its_samples_stays_finite():
    responsibilities_KN = np.stack([np.ones(50), np.zeros(50)])
    for warm in (None, np.ones((2, 2))):
        concentrations, weights = maximise(samples_of(three_betas(N=50)), responsibilities_KN, warm)
        np.testing.assert_allclose(concentrations[1], concentrations[0], rtol=1e-6)
        assert 0 < weights[1] < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_no_step_of_likelihood_lowers_it(seed):
    samples = samples_of(random_coefficients(seed))
    draw = np.random.default_rng(seed)
    concentrations_KM = draw.gamma(2.0, 2.0, (3, len(samples.log_x))) + 0.1
    weights_K, likelihoods = np.full(3, 1 / 3), []
    for _ in range(25):
        log_density_N, log_probability_KN = expect(samples.log_x, concentrations_KM, weights_K)
        likelihoods.append(samples.mean(log_density_N))
        concentrations_KM, weights_K = maximise(
            samples, np.exp(log_probability_KN), concentrations_KM
        )
    assert (np.diff(likelihoods) >= -1e-12).all()
    assert likelihoods[-1] > likelihoods[0] + 1e-3


def test_starts_side_by_side_go_the_way_that_each_goes_alone():
    samples = samples_of(random_coefficients(2))
    draw = np.random.default_rng(0)
    starts_RKN = draw.dirichlet(np.ones(3), (4, len(samples.weights))).transpose(0, 2, 1)
    for warm_RKM in (None, draw.gamma(2.0, 2.0, (4, 3, len(samples.log_x))) + 0.1):
        together = maximise(samples, starts_RKN, warm_RKM)
        density_RN, probability_RKN = expect(samples.log_x, *together)
        for r, start_KN in enumerate(starts_RKN):
            alone = maximise(samples, start_KN, None if warm_RKM is None else warm_RKM[r])
            density_N, probability_KN = expect(samples.log_x, *alone)
            np.testing.assert_allclose(together[0][r], alone[0], rtol=1e-7)
            np.testing.assert_allclose(together[1][r], alone[1], rtol=1e-12)
            np.testing.assert_allclose(density_RN[r], density_N, atol=1e-7)
            np.testing.assert_allclose(probability_RKN[r], probability_KN, atol=1e-6)
