"""The Beta mixture against the paper's own code.

`beta_mixture.json` was computed with the functions of naver-ai/dawin, commit 310e0e1, on the CPU in
float32, with scikit-learn 1.9 and torch 2.15: for two data sets (the entropy-ratio coefficients of
random logits, and draws of three Betas) and K = 1, 2, 3, 5, the input `x` (lambda), the fitted
`alpha`, `beta`, `mean` and `weight` in arbitrary order, `mean_log_likelihood` and `label`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from dawin_ray.method.mixture import MixtureConfig, fit_mixture

GOLDEN = json.loads((Path(__file__).parent / "beta_mixture.json").read_text())


def fit(key, estimator):
    """Coefficients [N, 2] of a key, and the mixture fitted to them."""
    lambda_N = np.array(GOLDEN[key]["x"])
    coefficients_N2 = np.column_stack([1 - lambda_N, lambda_N])
    config = MixtureConfig(clusters=len(GOLDEN[key]["mean"]), estimator=estimator)
    return coefficients_N2, fit_mixture(coefficients_N2, config)


def test_the_fixture_is_whole():
    assert len(GOLDEN) == 8
    assert {len(golden["mean"]) for golden in GOLDEN.values()} == {1, 2, 3, 5}


@pytest.mark.parametrize("key", [key for key in GOLDEN if len(GOLDEN[key]["mean"]) <= 3])
def test_moments_find_the_components_of_the_reference(key):
    golden = GOLDEN[key]
    coefficients_N2, mixture = fit(key, "moments")
    order_K = np.argsort(golden["mean"])
    np.testing.assert_allclose(mixture.means[:, 1], np.array(golden["mean"])[order_K], atol=5e-3)
    np.testing.assert_allclose(mixture.weights, np.array(golden["weight"])[order_K], atol=1e-2)
    label_N = np.argsort(order_K)[golden["label"]]
    assert (mixture.predict(coefficients_N2) == label_N).mean() >= 0.99


@pytest.mark.parametrize("key", GOLDEN)
def test_likelihood_is_that_of_the_reference_or_higher(key):
    _, moments = fit(key, "moments")
    _, likelihood = fit(key, "maximum_likelihood")
    assert moments.mean_log_likelihood >= GOLDEN[key]["mean_log_likelihood"] - 1e-3
    assert likelihood.mean_log_likelihood >= moments.mean_log_likelihood
