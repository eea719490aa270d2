import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dawin_ray.method.coefficients import CoefficientConfig, Offset, coefficients
from dawin_ray.method.expertise import cross_entropy, entropy, log_expertise, pseudo_labels
from dawin_ray.method.streams import Moments

METRICS = ("entropy", "cross_entropy", "max_logit", "confidence", "margin")


def logits(n=50, c=7, seed=0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * 3


def test_entropy_of_uniform_logits_is_ln_c():
    assert entropy(torch.zeros(3, 11)).tolist() == pytest.approx([math.log(11)] * 3)


def test_entropy_of_a_certain_prediction_is_zero_and_never_negative():
    certain = torch.tensor([[200.0, 0, 0], [torch.inf, 0, 0], [0, -torch.inf, -torch.inf]])
    assert (entropy(certain[[0, 2]]) == 0).all()
    assert (entropy(logits(1000) * 30) >= 0).all()


def test_temperature_divides_the_logits():
    x = logits()
    torch.testing.assert_close(entropy(x, 2.5), entropy(x / 2.5))
    assert (entropy(x, 5.0) > entropy(x, 1.0)).all()


def test_entropy_is_taken_in_float32_whatever_comes_in():
    assert entropy(logits().half()).dtype == torch.float32


def test_cross_entropy_takes_classes_and_probabilities():
    x, classes = logits(), torch.arange(50) % 7
    one_hot = torch.nn.functional.one_hot(classes, 7).float()
    torch.testing.assert_close(cross_entropy(x, classes), cross_entropy(x, one_hot))
    torch.testing.assert_close(cross_entropy(x, x.softmax(-1)), entropy(x))


@pytest.mark.parametrize("metric", METRICS)
def test_the_surer_expert_gets_more_weight(metric):
    target = torch.zeros(1, dtype=torch.long)
    sure, unsure = torch.tensor([[6.0, 1.0, 1.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    weights = coefficients(log_expertise(metric, [unsure, sure], [1, 1], target).numpy())
    assert weights[0, 1] > 0.5
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_experts_share_evenly_and_swapped_ones_swap(metric):
    target, a, b = torch.arange(50) % 7, logits(seed=1), logits(seed=2)
    even = coefficients(log_expertise(metric, [a, a, a], [1, 1, 1], target).numpy())
    np.testing.assert_allclose(even, 1 / 3, atol=1e-12)
    one = coefficients(log_expertise(metric, [a, b], [1.1, 0.9], target).numpy())
    other = coefficients(log_expertise(metric, [b, a], [0.9, 1.1], target).numpy())
    np.testing.assert_array_equal(one, other[:, ::-1])


def test_coefficients_are_the_softmax_over_negative_entropies():
    x = [logits(seed=s) for s in range(4)]
    ours = coefficients(log_expertise("entropy", x, [1.0] * 4).numpy())
    entropies = torch.stack([entropy(e) for e in x], dim=1).double()
    np.testing.assert_allclose(ours, (-entropies).softmax(-1).numpy(), atol=1e-7)


def test_confidence_and_margin_read_each_expert_on_its_own():
    a, b = logits(seed=1), logits(seed=2)
    p, q = (x.softmax(-1).sort(descending=True).values.double().numpy() for x in (a, b))
    confidence = coefficients(log_expertise("confidence", [a, b], [1, 1]).numpy())[:, 1]
    e = np.exp(np.stack([p[:, 0], q[:, 0]]))
    np.testing.assert_allclose(confidence, e[1] / e.sum(axis=0), atol=1e-6)
    margin = coefficients(log_expertise("margin", [a, b], [1, 1]).numpy())[:, 1]
    e = np.exp(np.stack([p[:, 0] - p[:, 1], q[:, 0] - q[:, 1]]))
    np.testing.assert_allclose(margin, e[1] / e.sum(axis=0), atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_head_of_one_class_leaves_nothing_to_choose(metric):
    target = torch.zeros(2, dtype=torch.long)
    log_e = log_expertise(metric, [torch.ones(2, 1)] * 2, [1, 1], target)
    assert (coefficients(log_e.numpy()) == 0.5).all()


def test_expertise_too_small_for_float32_still_has_a_ratio():
    weights = coefficients(np.array([[-500.0, -501.0], [-5000.0, -5000.0]]))
    np.testing.assert_allclose(weights[:, 0], [1 / (1 + math.exp(-1)), 0.5])


def test_a_negative_maximum_logit_stays_within_the_simplex():
    weights = coefficients(
        log_expertise("max_logit", [-torch.ones(1, 3), torch.ones(1, 3)], [1, 1]).numpy()
    )
    assert 0 <= weights[0, 0] < 1e-5


def test_ensemble_pseudo_labels_average_the_tempered_outputs():
    a, b = logits(seed=1), logits(seed=2)
    soft = pseudo_labels("soft_ensemble", [a, b], [2.0, 0.5])
    torch.testing.assert_close(soft, ((a / 2).softmax(-1) + (b * 2).softmax(-1)) / 2)
    hard = pseudo_labels("hard_ensemble", [a, b], [2.0, 0.5])
    assert (hard == soft.argmax(-1)).all()


def test_merged_pseudo_labels_need_the_merged_logits_and_labels_are_none():
    a = logits()
    assert (pseudo_labels("hard_merged", [a, a], [1, 1], -a) == (-a).argmax(-1)).all()
    torch.testing.assert_close(pseudo_labels("soft_merged", [a, a], [1, 1], -a), (-a).softmax(-1))
    with pytest.raises(ValueError, match="evenly merged"):
        pseudo_labels("soft_merged", [a, a], [1, 1])
    with pytest.raises(ValueError, match="no pseudo labels"):
        pseudo_labels("labels", [a, a], [1, 1])


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
