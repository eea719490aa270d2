import math
import typing

import numpy as np
import pytest
import torch

from dawin_ray.method.coefficients import coefficients
from dawin_ray.method.expertise import (
    METRICS,
    ExpertiseMetric,
    Metric,
    cross_entropy,
    entropy,
    log_expertise,
    pseudo_labels,
)


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


def test_the_type_of_job_files_has_the_metrics_of_the_table():
    assert typing.get_args(Metric) == tuple(METRICS)


def test_a_metric_is_a_function_and_an_entry(monkeypatch):
    norm = ExpertiseMetric(log_expertise=lambda logits, temperature, target: logits.norm(dim=-1))
    monkeypatch.setitem(METRICS, "norm", norm)
    a, b = logits(seed=1), logits(seed=2)
    found = log_expertise("norm", [a, b], [1, 1])
    torch.testing.assert_close(found, torch.stack([a.norm(dim=-1), b.norm(dim=-1)], dim=-1))


def test_a_metric_that_needs_a_target_says_so():
    with pytest.raises(ValueError, match="cross_entropy needs a target"):
        log_expertise("cross_entropy", [logits()], [1])
