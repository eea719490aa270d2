import json

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.fit import Fit, fit
from dawin_ray.method.mixture import MixtureConfig
from tests.unit.method.made import InParts

ENTROPY, TWO = CoefficientConfig(), MixtureConfig(clusters=2)
REFERENCE = CoefficientConfig(reference="clean")


def log_e(n, m=2, seed=0):
    """Two groups of samples: sure of expert 0, and sure of the last."""
    rng = np.random.default_rng(seed)
    entropies = rng.gamma(8, 0.05, (n, m))
    entropies[: n // 2, 0] += 2
    entropies[n // 2 :, -1] += 2
    return -rng.permutation(entropies).astype(np.float32)


def stream_of(values, size):
    return lambda: iter(np.split(values, range(size, len(values), size)))


def test_the_fit_does_not_depend_on_how_the_stream_is_cut():
    values = log_e(1000)
    config = CoefficientConfig(offset_adjustment=True)
    whole, parts = (fit(stream_of(values, s), 2, config, TWO) for s in (1000, 37))
    assert whole.samples == parts.samples == 1000
    np.testing.assert_allclose(parts.mixture.means, whole.mixture.means, atol=1e-9)
    assert parts.offset.bias == pytest.approx(whole.offset.bias, rel=1e-12)


@pytest.mark.parametrize(("experts", "source"), [(2, "histogram"), (3, "subsample")])
def test_many_samples_are_summarised_and_fit_nearly_the_same(experts, source):
    values = log_e(20_000, experts)
    exact = fit(stream_of(values, 999), experts, ENTROPY, TWO)
    bounded = fit(stream_of(values, 999), experts, ENTROPY, TWO, max_samples=5000)
    assert (exact.source, bounded.source) == ("samples", source)
    assert bounded.samples == 20_000
    # a histogram loses the spread within 1/4096; a subsample of 5,000 has an error of its own
    atol = 1e-3 if source == "histogram" else 1e-2
    np.testing.assert_allclose(bounded.mixture.means, exact.mixture.means, atol=atol)
    again = fit(stream_of(values, 500), experts, ENTROPY, TWO, max_samples=5000)
    np.testing.assert_allclose(again.mixture.means, bounded.mixture.means, atol=1e-9)


@pytest.mark.parametrize("experts", [2, 3])
def test_parts_of_few_samples_give_the_bits_of_one_stream(experts):
    values = log_e(1000, experts)
    parts = InParts(np.split(values, [100, 640]), 20)  # batches that are those of the stream
    one, other = (fit(s, experts, ENTROPY, TWO) for s in (stream_of(values, 20), parts))
    assert one.to_dict() == other.to_dict()


@pytest.mark.parametrize("experts", [2, 3])
def test_parts_of_many_samples_give_what_one_stream_gives(experts):
    values = log_e(20_000, experts)
    anchor = np.linspace(0.1, 0.5, experts)
    parts = InParts(np.split(values, [7_000, 7_100]), 500)
    one, other = (
        fit(s, experts, REFERENCE, TWO, reference=anchor, max_samples=5000)
        for s in (stream_of(values, 500), parts)
    )
    assert one.source == other.source
    np.testing.assert_array_equal(other.growth, one.growth)  # of counts
    np.testing.assert_allclose(other.mixture.means, one.mixture.means, atol=1e-12)


def test_the_offset_is_only_there_when_asked_for():
    values = log_e(100)
    assert fit(stream_of(values, 10), 2, ENTROPY, TWO).offset is None
    adjusted = fit(stream_of(values, 10), 2, CoefficientConfig(offset_adjustment=True), TWO)
    plain = fit(stream_of(values, 10), 2, ENTROPY, TWO).coefficients(values)
    # the offset pulls coefficients towards its shares
    assert adjusted.coefficients(values).std() < plain.std()


def test_a_fit_survives_json():
    fitted = fit(stream_of(log_e(100), 10), 2, CoefficientConfig(offset_adjustment=True), TWO)
    again = Fit.from_dict(json.loads(json.dumps(fitted.to_dict())))
    values = log_e(50, seed=1)
    np.testing.assert_array_equal(again.coefficients(values), fitted.coefficients(values))
    np.testing.assert_array_equal(
        again.mixture.predict(again.coefficients(values)),
        fitted.mixture.predict(fitted.coefficients(values)),
    )


def test_nothing_to_fit_is_an_error():
    with pytest.raises(UserError, match="no usable sample"):
        fit(lambda: iter([np.empty((0, 2))]), 2, ENTROPY, TWO)


def test_the_growth_over_the_reference_is_subtracted_from_the_scores():
    """score_m = -H_m - strength log(median H_m / median of the reference), then a softmax."""
    values = log_e(500, 3)
    anchor = np.array([0.1, 0.5, 1.0])
    for strength in (0.0, 0.5, 1.0):
        config = CoefficientConfig(reference="clean", strength=strength)
        fitted = fit(stream_of(values, 60), 3, config, TWO, reference=anchor)
        growth = np.log(np.median(-values.astype(np.float64), axis=0) / anchor)
        np.testing.assert_allclose(fitted.growth, strength * growth, atol=1e-12)
        scores = np.exp(values.astype(np.float64) - strength * growth)
        expected = scores / scores.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(fitted.coefficients(values), expected, atol=1e-12)
    plain = fit(stream_of(values, 60), 3, ENTROPY, TWO)
    zero = fit(
        stream_of(values, 60), 3, CoefficientConfig(reference="clean", strength=0), TWO,
        reference=anchor,
    )  # fmt: skip
    np.testing.assert_array_equal(zero.coefficients(values), plain.coefficients(values))


def test_an_expert_that_has_grown_alike_changes_nothing():
    values = log_e(300)
    here = np.median(-values.astype(np.float64), axis=0)
    fitted = fit(stream_of(values, 50), 2, REFERENCE, TWO, reference=here / 3)
    plain = fit(stream_of(values, 50), 2, ENTROPY, TWO)
    np.testing.assert_allclose(fitted.coefficients(values), plain.coefficients(values), atol=1e-12)


def test_tiny_medians_count_as_the_floor():
    values = np.full((10, 2), -1e-5)
    fitted = fit(stream_of(values, 3), 2, REFERENCE, MixtureConfig(clusters="exact"),
                 reference=np.array([1e-7, 1e-3]))  # fmt: skip
    np.testing.assert_array_equal(fitted.growth, [0.0, 0.0])


def test_a_fit_with_growth_survives_json():
    fitted = fit(stream_of(log_e(100), 10), 2, REFERENCE, TWO, reference=np.array([0.2, 0.4]))
    again = Fit.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.growth, fitted.growth)
    assert "log growth" in fitted.describe(["a", "b"])


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_fit_names_the_experts_that_its_clusters_are_of(count):
    names = [f"task_{i}" for i in range(count)]
    fitted = fit(stream_of(log_e(200, count), 50), count, ENTROPY, TWO)
    told = fitted.describe(names)
    assert told.startswith("2 clusters at ")
    assert told.endswith("; from all 200 samples")
    clusters = told.removeprefix("2 clusters at ").split("; ")[:2]
    for line, mean in zip(clusters, fitted.mixture.means, strict=True):
        pairs = line.split(", ")
        if count < 5:
            assert pairs == [f"{name} {share:.3f}" for name, share in zip(names, mean, strict=True)]
            continue
        order = np.argsort(-mean, kind="stable")
        assert pairs[:3] == [f"{names[i]} {mean[i]:.3f}" for i in order[:3]]
        assert pairs[3:] == [f"5 others {mean[order[3:]].sum():.3f}"]


def test_growth_is_told_by_name():
    fitted = Fit(samples=7, growth=np.array([0.25, -0.5]))
    assert fitted.describe(["a", "b"]) == "log growth a 0.25, b -0.50, no mixture, 7 samples"


def test_an_offset_is_for_two_experts():
    with pytest.raises(UserError, match=r"offset_adjustment is defined for 2 experts.* are 3"):
        fit(stream_of(log_e(100, 3), 10), 3, CoefficientConfig(offset_adjustment=True), TWO)
