"""The mixtures: what they recover, what they survive, and that all ways to the same fit agree.

Shapes: N samples, M experts, K clusters.
"""

import dataclasses
import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.special import logsumexp

from dawin_ray.errors import UserError
from dawin_ray.method.mixture import Mixture, MixtureConfig, MixtureNotConverged, fit_mixture
from dawin_ray.method.streams import LambdaHistogram
from tests.unit.method.made import (
    DIRICHLETS,
    THREE_BETAS,
    THREE_WEIGHTS,
    random_coefficients,
    simulate,
    three_betas,
)

ESTIMATORS = ["moments", "maximum_likelihood"]


def pairs(*lambdas):
    """Coefficients [N, 2] of given lambdas."""
    lambda_N = np.array(lambdas, dtype=np.float64)
    return np.column_stack([1 - lambda_N, lambda_N])


def config(clusters=3, **changes):
    return MixtureConfig(clusters=clusters, **changes)


def assert_same(left, right, *, tolerance):
    np.testing.assert_allclose(left.means, right.means, atol=tolerance)
    np.testing.assert_allclose(left.weights, right.weights, atol=tolerance)
    np.testing.assert_allclose(left.mean_log_likelihood, right.mean_log_likelihood, atol=tolerance)


def scipy_log_joint(mixture, coefficients_NM):
    """log(weight) + log-density of each component by scipy [N, K]."""
    columns = [
        np.log(weight) + stats.dirichlet.logpdf(coefficients_NM.T, concentration_M)
        for weight, concentration_M in zip(mixture.weights, mixture.concentrations, strict=True)
    ]
    return np.stack(columns, axis=1)


# --- what it recovers


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_recovers_the_betas_it_was_drawn_from(estimator):
    fit = fit_mixture(three_betas(N=20_000), config(estimator=estimator, tolerance=1e-7))
    truth = THREE_BETAS / THREE_BETAS.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fit.means, truth, atol=0.01)
    np.testing.assert_allclose(fit.weights, THREE_WEIGHTS, atol=0.015)
    np.testing.assert_allclose(fit.concentrations, THREE_BETAS, rtol=0.12)
    assert fit.converged


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", DIRICHLETS)
def test_recovers_the_dirichlets_it_was_drawn_from(name, estimator):
    concentrations_KM, weights_K = map(np.array, DIRICHLETS[name])
    samples = simulate(concentrations_KM, weights_K, 10_000)
    fit = fit_mixture(samples, config(len(weights_K), estimator=estimator, tolerance=1e-7))
    truth = concentrations_KM / concentrations_KM.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fit.means, truth, atol=0.01)
    np.testing.assert_allclose(fit.weights, weights_K, atol=0.015)
    np.testing.assert_allclose(fit.concentrations.sum(1), concentrations_KM.sum(1), rtol=0.08)


def test_two_experts_are_a_beta_over_the_coefficient_of_the_last():
    samples = three_betas()
    fit = fit_mixture(samples, config(1))
    beta, alpha = fit.concentrations[0]
    density = stats.beta.logpdf(samples[:, 1], alpha, beta)
    assert fit.mean_log_likelihood == pytest.approx(density.mean(), abs=1e-10)
    assert fit.means[0, 1] == pytest.approx(samples[:, 1].mean(), abs=1e-12)


@pytest.mark.parametrize("name", DIRICHLETS)
def test_likelihood_and_probabilities_are_those_of_the_kept_parameters(name):
    concentrations_KM, weights_K = DIRICHLETS[name]
    samples = simulate(concentrations_KM, weights_K, 500)
    fit = fit_mixture(samples, config(len(weights_K)))
    log_joint_NK = scipy_log_joint(fit, samples)
    log_density_N = logsumexp(log_joint_NK, axis=1)
    assert fit.mean_log_likelihood == pytest.approx(log_density_N.mean(), abs=1e-10)
    np.testing.assert_allclose(
        fit.log_probabilities(samples), log_joint_NK - log_density_N[:, None], atol=1e-8
    )
    np.testing.assert_array_equal(fit.predict(samples), log_joint_NK.argmax(axis=1))
    np.testing.assert_allclose(fit.predict_probabilities(samples).sum(axis=1), 1, atol=1e-12)


# --- likelihood


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("K", [1, 2, 4])
def test_maximum_likelihood_is_never_below_moments(seed, K):
    samples = random_coefficients(seed)
    moments, likelihood = (
        fit_mixture(samples, config(K, estimator=estimator)).mean_log_likelihood
        for estimator in ESTIMATORS
    )
    assert likelihood >= moments - 1e-12


def test_maximum_likelihood_lifts_the_cap_of_the_moments():
    samples = simulate([[0.4, 0.5]], [1.0], 4000)  # sum 0.9, where moments end at 3
    moments, likelihood = (fit_mixture(samples, config(1, estimator=e)) for e in ESTIMATORS)
    assert moments.concentrations.sum() == pytest.approx(3.0)
    np.testing.assert_allclose(likelihood.concentrations, [[0.4, 0.5]], rtol=0.1)
    assert likelihood.mean_log_likelihood > moments.mean_log_likelihood + 0.1


# --- the same fit, in other ways


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_histogram_and_samples_give_the_same_fit(estimator):
    samples = three_betas(N=20_000)
    histogram = LambdaHistogram()
    for start in range(0, len(samples), 777):
        histogram.add(samples[start : start + 777])
    points, counts = histogram.points()
    assert counts.sum() == len(samples)
    assert len(points) <= 4096
    settings = config(estimator=estimator, tolerance=1e-9)
    from_points = fit_mixture(points, settings, weights=counts)
    # 4096 bins blur lambda by at most 1 / 4096 each; the means move a hundred times less.
    assert_same(from_points, fit_mixture(samples, settings), tolerance=1e-4)
    assert from_points.samples == len(samples)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_integer_weights_are_repeated_rows(estimator):
    samples = three_betas(N=600)
    times = np.random.default_rng(1).integers(0, 5, len(samples))  # 0: the row does not count
    settings = config(estimator=estimator, tolerance=1e-10)
    weighted = fit_mixture(samples, settings, weights=times)
    assert_same(weighted, fit_mixture(samples.repeat(times, axis=0), settings), tolerance=1e-6)
    assert weighted.samples == times.sum()


@pytest.mark.filterwarnings("ignore::dawin_ray.method.mixture.MixtureNotConverged")
def test_weights_count_in_the_start_too():
    samples = pairs(*np.linspace(0.05, 0.95, 91))
    times = np.where(samples[:, 1] < 0.3, 9, 1)
    settings = config(2, max_iterations=1)  # so that the start still shows
    weighted = fit_mixture(samples, settings, weights=times)
    assert_same(weighted, fit_mixture(samples.repeat(times, axis=0), settings), tolerance=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_same_data_and_seed_give_the_same_mixture(estimator):
    first, second = (fit_mixture(three_betas(N=500), config(estimator=estimator)) for _ in range(2))
    assert first.to_dict() == second.to_dict()


def test_order_of_rows_changes_nothing_beyond_rounding():
    # True where all k-means starts lead to one optimum, as with separated clusters; the draws of
    # the starts themselves do depend on the order.
    samples = three_betas(N=800)
    shuffled = np.random.default_rng(5).permutation(samples)
    settings = config(tolerance=1e-10)
    assert_same(fit_mixture(samples, settings), fit_mixture(shuffled, settings), tolerance=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_permuted_experts_have_permuted_means(estimator):
    samples = simulate(*DIRICHLETS["M=3, K=3"], 1500)
    order = [2, 0, 1]
    settings = config(estimator=estimator, tolerance=1e-8)
    straight, permuted = fit_mixture(samples, settings), fit_mixture(samples[:, order], settings)
    by_last = np.argsort(straight.means[:, order[-1]])
    np.testing.assert_allclose(permuted.means, straight.means[by_last][:, order], atol=1e-6)
    np.testing.assert_allclose(permuted.weights, straight.weights[by_last], atol=1e-6)


def test_components_come_by_mean_of_the_last_expert():
    for seed in range(1, 6):
        fit = fit_mixture(three_betas(N=400), config(5, restarts=1, seed=seed))
        assert (np.diff(fit.means[:, -1]) > 0).all()
        np.testing.assert_array_equal(fit.predict(fit.means), np.arange(5))


def test_the_best_restart_keeps_its_own_likelihood_and_flag():
    samples = three_betas(N=300, seed=4)
    settings = config(5, seed=1, restarts=4, max_iterations=25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixtureNotConverged)
        singles = [
            fit_mixture(samples, config(5, seed=seed, restarts=1, max_iterations=25))
            for seed in range(1, 5)
        ]
        kept = fit_mixture(samples, settings)
    assert len({single.iterations for single in singles}) > 1, "restarts do not differ: no test"
    best = max(singles, key=lambda single: single.mean_log_likelihood)
    assert kept.to_dict() == best.to_dict()


def test_arguments_are_left_alone():
    samples, weights = three_betas(N=100).astype(np.float32), np.arange(100.0)
    before = samples.copy(), weights.copy()
    fit_mixture(samples, config(), weights=weights).predict(samples)
    np.testing.assert_array_equal(samples, before[0])
    np.testing.assert_array_equal(weights, before[1])


# --- what it survives


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("M", [2, 3])
def test_coefficients_of_exactly_zero_and_one(M, estimator):
    inner = simulate([[9.0] * M], [1.0], 60)
    samples = np.concatenate([np.eye(M).repeat(30, axis=0), inner])
    fit = fit_mixture(samples, config(M + 1, estimator=estimator))
    assert np.isfinite(fit.concentrations).all()
    assert np.isfinite(fit.mean_log_likelihood)
    corners = fit.predict(np.eye(M))
    assert len(set(corners)) == M
    # Not nearer with moments, whose precision of at least 3 is wide for a corner.
    np.testing.assert_allclose(fit.means[corners], np.eye(M), atol=0.01)
    assert not np.isin(fit.predict(inner), corners).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_all_equal_is_one_component_of_bounded_density(value, estimator, caplog):
    samples = pairs(*[value] * 50)
    with caplog.at_level(logging.WARNING):
        fit = fit_mixture(samples, config(3, estimator=estimator))
    assert "3 clusters wanted, but 50 rows hold only 1 distinct" in caplog.text
    np.testing.assert_allclose(fit.means, pairs(value), atol=1e-5)
    # At the bounds (a coefficient of 1e-6, a precision of 1e8) the density is exp(15) at most.
    assert 5 < fit.mean_log_likelihood < 20
    assert fit.concentrations.sum() == pytest.approx(1e8)
    assert fit.converged


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_fewer_distinct_values_than_clusters_are_a_cluster_each(estimator):
    samples = pairs(*[0.8, 0.2] * 20)
    fit = fit_mixture(samples, config(5, estimator=estimator))
    np.testing.assert_allclose(fit.means, pairs(0.2, 0.8), atol=1e-5)
    np.testing.assert_allclose(fit.weights, 0.5, atol=1e-9)


def test_rounding_makes_no_second_value():
    samples = pairs(*(0.3 + 1e-9 * np.arange(40)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit_mixture(samples, config(3)).weights) == 1


@pytest.mark.parametrize("lambdas", [[0.4], [0.4, 0.7]])
def test_fewer_samples_than_clusters(lambdas, caplog):
    fit = fit_mixture(pairs(*lambdas), config(3))
    np.testing.assert_allclose(fit.means, pairs(*lambdas), atol=1e-5)
    np.testing.assert_array_equal(fit.predict(pairs(*lambdas)), np.arange(len(lambdas)))
    assert f"fitting {len(lambdas)}" in caplog.text


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_more_clusters_than_the_data_has(estimator):
    fit = fit_mixture(three_betas(N=40), config(8, estimator=estimator, restarts=1))
    assert np.isfinite(fit.concentrations).all()
    assert (fit.weights > 0).all()
    assert fit.weights.sum() == pytest.approx(1)


def test_no_samples_are_refused():
    with pytest.raises(UserError, match="at least one sample, got none"):
        fit_mixture(np.empty((0, 2)), config())
    with pytest.raises(UserError, match="at least one sample, got none"):
        fit_mixture(three_betas(N=4), config(), weights=np.zeros(4))


def test_a_row_of_no_weight_is_no_value_of_its_own():
    fit = fit_mixture(pairs(0.2, 0.5, 0.8), config(), weights=np.array([3, 0, 1]))
    np.testing.assert_allclose(fit.means, pairs(0.2, 0.8), atol=1e-5)


@pytest.mark.parametrize(
    "row", [[np.nan, 0.5], [np.inf, 0.5], [-0.1, 1.1], [0.5, 0.6], [0.0, 0.0]], ids=str
)
def test_the_first_row_off_the_simplex_is_named(row):
    samples = three_betas(N=10)
    samples[7] = samples[9] = row
    message = rf"row 7 are \[{row[0]}, {row[1]}\].* 2 of 10 rows are wrong"
    with pytest.raises(UserError, match=message):
        fit_mixture(samples, config())
    mixture = fit_mixture(samples[:7], config(1))
    with pytest.raises(UserError, match="row 7"):
        mixture.predict(samples)
    with pytest.raises(UserError, match="row 7"):
        LambdaHistogram().add(samples)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_a_weight_that_counts_nothing_is_refused(weight):
    weights = np.ones(10)
    weights[4] = weight
    with pytest.raises(UserError, match="weight of row 4"):
        fit_mixture(three_betas(N=10), config(), weights=weights)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(5,\)"):
        fit_mixture(np.full(5, 0.5), config())
    with pytest.raises(ValueError, match=r"shape \(10,\), got \(9,\)"):
        fit_mixture(three_betas(N=10), config(), weights=np.ones(9))
    with pytest.raises(ValueError, match="3 experts, the mixture was fitted to 2"):
        fit_mixture(three_betas(N=10), config(1)).predict(np.full((4, 3), 1 / 3))


def test_rounded_rows_are_renormalised():
    exact = three_betas(N=300)
    rounded = exact * (1 + 5e-5 * np.sign(np.arange(300) - 150))[:, None]
    assert_same(fit_mixture(rounded, config()), fit_mixture(exact, config()), tolerance=1e-9)


@pytest.mark.parametrize("N", [0, 1, 7, 5000])
def test_predict_takes_any_number_of_rows(N):
    fit = fit_mixture(three_betas(N=100), config())
    samples = three_betas(N=5000, seed=9)
    labels = fit.predict(samples[:N])
    assert labels.shape == (N,)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, fit.predict(samples)[:N])
    assert fit.predict_probabilities(samples[:N]).shape == (N, 3)


# --- how many clusters, convergence, settings, storage


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_auto_finds_the_number_of_clusters(estimator):
    settings = config("auto", estimator=estimator, max_clusters=4, restarts=1)
    assert len(fit_mixture(three_betas(N=2000), settings).weights) == 3
    one = simulate([[5.0, 8.0]], [1.0], 2000)
    assert len(fit_mixture(one, settings).weights) == 1


def test_auto_wants_no_more_clusters_than_values(caplog):
    fit = fit_mixture(pairs(*[0.2, 0.8] * 30), config("auto"))
    np.testing.assert_allclose(fit.means, pairs(0.2, 0.8), atol=1e-5)
    assert not caplog.records, "nobody asked for a number, so none was lowered"


def test_bic_counts_the_free_parameters():
    fit = fit_mixture(three_betas(N=250), config())
    expected = (3 * 2 + 2) * np.log(250) - 2 * 250 * fit.mean_log_likelihood
    assert fit.bic == pytest.approx(expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_fit_that_has_not_converged_warns(estimator):
    with pytest.warns(MixtureNotConverged, match=r"K = 3 .* N = 500 .* after 1 iter.* 1e-09"):
        fit = fit_mixture(
            three_betas(N=500), config(estimator=estimator, max_iterations=1, tolerance=1e-9)
        )
    assert not fit.converged
    assert fit.iterations == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_mixture(three_betas(N=500), config(estimator=estimator)).converged


@pytest.mark.parametrize(
    "settings",
    [{"clusters": "some"}, {"clusters": 0}, {"k": 3}, {"estimator": "map"}, {"restarts": 0}],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValidationError):
        MixtureConfig(**settings)


@pytest.mark.parametrize(
    ("experts", "clusters", "estimator"),
    [
        (2, 3, "moments"), (2, "auto", "moments"), (8, 1, "moments"), (8, "exact", "moments"),
        (3, 2, "maximum_likelihood"), (8, "auto", "maximum_likelihood"),
    ],
)  # fmt: skip
def test_the_estimator_is_the_references_for_two_and_likelihood_for_more(
    experts, clusters, estimator
):
    decided = config(clusters).for_experts(experts)
    assert decided.estimator == estimator
    by_moments = (decided.restarts, decided.tolerance) == (3, 1e-4)
    assert by_moments == (estimator == "moments")
    assert decided.for_experts(2) == decided
    named = config(clusters, estimator="moments", restarts=7, tolerance=0.5).for_experts(8)
    assert (named.estimator, named.restarts, named.tolerance) == ("moments", 7, 0.5)


def test_what_is_decided_is_what_is_fitted():
    samples = simulate(*DIRICHLETS["M=3, K=2"], 400)
    for estimator, open_config in (("moments", config(1)), ("maximum_likelihood", config(2))):
        named = config(open_config.clusters, estimator=estimator)
        assert fit_mixture(samples, open_config).to_dict() == fit_mixture(samples, named).to_dict()


def test_a_mixture_survives_json_to_the_last_bit():
    fit = fit_mixture(simulate(*DIRICHLETS["M=4, K=3"], 500), config())
    back = Mixture.from_dict(json.loads(json.dumps(fit.to_dict())))
    for field in dataclasses.fields(Mixture):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(fit, field.name))
        assert type(getattr(back, field.name)) is type(getattr(fit, field.name))
    samples = simulate(*DIRICHLETS["M=4, K=3"], 50, seed=2)
    np.testing.assert_array_equal(back.predict(samples), fit.predict(samples))


def test_what_a_fit_needs_is_imported_beside_what_goes_on():
    code = (
        "import sys\n"
        "from dawin_ray.method import import_soon\n"
        "assert 'sklearn.cluster' not in sys.modules\n"
        "import_soon().join()\n"
        "assert 'sklearn.cluster' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
