"""The search for the highest likelihood: starts that differ, swaps, many samples, narrow spikes."""

import numpy as np
import pytest

from dawin_ray.method import likelihood
from dawin_ray.method.em import Effort, Samples, maximise
from dawin_ray.method.likelihood import search
from dawin_ray.method.newton import climb
from dawin_ray.method.starts import RANDOM_STARTS, log_ratios, partitions, swaps
from tests.unit.method.made import DIRICHLETS, simulate

EFFORT = Effort(restarts=2, seed=1, tolerance=1e-8, max_iterations=1000)
FOUR = ([[30.0, 3, 3], [3, 30.0, 3], [3, 3, 30.0], [12.0, 12, 12]], [0.3, 0.3, 0.2, 0.2])


def ones(rows_NM):
    return np.ones(len(rows_NM))


def test_starts_of_all_kinds_differ_and_are_the_same_again():
    rows_NM = simulate(*DIRICHLETS["M=4, K=3"], 300)
    first, again = (partitions(rows_NM, ones(rows_NM), 3, 2, seed=5) for _ in range(2))
    assert first.shape == (2 * 2 * (1 + RANDOM_STARTS), 3, 300)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first.sum(axis=1), 1)
    # names of clusters aside
    together = {tuple((of.T @ of).astype(bool).ravel()) for of in first}
    assert len(together) >= 8


def test_log_ratios_know_small_coefficients_apart():
    ratios = log_ratios(np.array([[0.98, 0.019, 0.001], [0.98, 0.001, 0.019]]))
    np.testing.assert_allclose(ratios.sum(axis=1), 0, atol=1e-12)
    assert np.abs(ratios[0] - ratios[1]).max() == pytest.approx(np.log(19))


def test_a_swap_leaves_an_optimum_that_starts_of_its_kind_do_not():
    """Two components on one group and one on two others: EM alone stays there."""
    rows_NM = simulate(*FOUR, 1500)
    samples = Samples.of(rows_NM, ones(rows_NM))
    first = rows_NM[:, 0] > 0.6
    poor_KN = np.stack([
        first & (rows_NM[:, 1] > rows_NM[:, 2]), first & (rows_NM[:, 1] <= rows_NM[:, 2]),
        ~first & (rows_NM[:, 1] > 0.6), ~first & (rows_NM[:, 1] <= 0.6),
    ]).astype(float)  # fmt: skip
    stuck = climb(samples, *maximise(samples, poor_KN), EFFORT)
    starts_RKN = swaps(rows_NM, samples, stuck)
    assert starts_RKN.shape == (12, 4, 1500)
    np.testing.assert_allclose(starts_RKN.sum(axis=1), 1, atol=1e-12)
    swapped = max(
        climb(samples, *maximise(samples, start_KN), EFFORT).likelihood for start_KN in starts_RKN
    )
    truth = climb(samples, *map(np.array, FOUR), EFFORT).likelihood
    assert stuck.likelihood < truth - 0.01
    assert swapped == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_search_ends_where_a_climb_from_the_truth_does(seed):
    rows_NM = simulate(*FOUR, 1500, seed=seed)
    found = search(rows_NM, ones(rows_NM), 4, EFFORT)
    truth = climb(Samples.of(rows_NM, ones(rows_NM)), *map(np.array, FOUR), EFFORT)
    assert found.likelihood >= truth.likelihood - 1e-8
    assert found.converged


def test_many_samples_are_searched_by_a_few_and_climbed_by_all(monkeypatch):
    rows_NM = simulate(*FOUR, 9000)
    whole = search(rows_NM, ones(rows_NM), 4, EFFORT)
    monkeypatch.setattr(likelihood, "SEARCHED", 500)
    few = search(rows_NM, ones(rows_NM), 4, EFFORT)
    assert few.likelihood == pytest.approx(whole.likelihood, abs=1e-8)
    np.testing.assert_allclose(np.sort(few.weights), np.sort(whole.weights), atol=1e-5)


def test_a_few_samples_hold_all_values_where_there_are_few(monkeypatch):
    monkeypatch.setattr(likelihood, "SEARCHED", 10)
    rows_NM = np.repeat([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], [1000, 12], axis=0)
    found = search(rows_NM, ones(rows_NM), 2, EFFORT)
    np.testing.assert_allclose(np.sort(found.weights), [12 / 1012, 1000 / 1012], atol=1e-9)


def test_two_samples_that_nearly_meet_are_no_component():
    """Their likelihood grows with the precision up to its bound, and says nothing."""
    rows_NM = simulate([[6.0, 4.0, 5.0]], [1.0], 30)
    rows_NM[1] = rows_NM[0] * [1, 1 + 1e-7, 1 - 1e-7]
    rows_NM /= rows_NM.sum(axis=1, keepdims=True)
    samples = Samples.of(rows_NM, ones(rows_NM))
    spike_KN = np.stack([np.arange(30) < 2, np.arange(30) >= 2]).astype(float)
    spike = climb(samples, *maximise(samples, spike_KN), EFFORT)
    found = search(rows_NM, ones(rows_NM), 2, EFFORT)
    assert spike.likelihood > found.likelihood + 0.1
    assert spike.concentrations.sum(axis=1).max() > 1e6
    assert found.concentrations.sum(axis=1).max() < 1e6
    assert (found.weights * 30).min() > 4
