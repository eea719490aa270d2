"""Dirichlet mixtures of task experts' coefficients against an independent implementation.

`multitask/mixture.json` and `.npz`; see README.md beside this file for where they come from. The
hardest case, K = 5 of all tasks at M = 8, was reached there by 2 of 45 starts.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from dawin_ray.method import MixtureConfig, fit_mixture

FOLDER = Path(__file__).parent / "multitask"
GOLDEN = json.loads((FOLDER / "mixture.json").read_text())
ROWS = np.load(FOLDER / "mixture.npz")


def fit(key, **settings):
    """Coefficients [N, M] of a key, and the mixture fitted to them with M's own defaults."""
    data, clusters = key.split("|K=")
    rows_NM = ROWS[data]
    return rows_NM, fit_mixture(rows_NM, MixtureConfig(clusters=int(clusters), **settings))


def test_the_fixture_is_whole():
    assert len(GOLDEN) == 30
    assert {key.partition("|")[2] for key in GOLDEN} == {"K=1", "K=3", "K=5"}
    assert {ROWS[key.partition("|")[0]].shape[1] for key in GOLDEN} == {3, 8}


@pytest.mark.parametrize("key", [key for key in GOLDEN if key.endswith("K=1")])
def test_one_component_is_the_dirichlet_of_the_highest_likelihood(key):
    golden = GOLDEN[key]
    _, mixture = fit(key, estimator="maximum_likelihood")
    assert mixture.mean_log_likelihood == pytest.approx(golden["mean_log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(mixture.means, golden["mean"], atol=1e-6)
    np.testing.assert_allclose(mixture.concentrations, golden["concentration"], rtol=1e-4)


@pytest.mark.parametrize("key", [key for key in GOLDEN if not key.endswith("K=1")])
def test_the_default_for_more_experts_finds_the_highest_likelihood(key):
    golden = GOLDEN[key]
    rows_NM, mixture = fit(key)
    assert mixture.mean_log_likelihood >= golden["mean_log_likelihood"] - 1e-6
    np.testing.assert_allclose(mixture.means, golden["mean"], atol=1e-5)
    np.testing.assert_allclose(mixture.weights, golden["weight"], atol=1e-5)
    np.testing.assert_allclose(mixture.concentrations, golden["concentration"], rtol=1e-4)
    assert (mixture.predict(rows_NM) == golden["label"]).mean() >= 0.999
    assert mixture.converged


@pytest.mark.parametrize("data", ["M3_joint_images", "M8_alpha_images"])
def test_one_cluster_of_more_experts_is_the_mean_coefficient(data):
    """As the reference merges once for a data set; the highest likelihood has another mean."""
    rows_NM, mixture = fit(f"{data}|K=1")
    np.testing.assert_allclose(mixture.means[0], rows_NM.mean(axis=0), atol=1e-6)
    assert np.abs(mixture.means[0] - GOLDEN[f"{data}|K=1"]["mean"][0]).max() > 1e-4
