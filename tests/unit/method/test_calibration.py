"""Temperatures by log loss, and log odds by right answers, of a few labels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from dawin_ray.method import calibration
from dawin_ray.method.calibration import (
    CANDIDATES,
    TENTHS,
    choose_log_odds,
    ensemble_right,
    right_between,
    temperature_of,
    tempered,
)
from dawin_ray.method.coefficients import coefficients
from dawin_ray.method.expertise import entropy


def drawn(count: int, classes: int, seed: int, sharpness: float = 3.0):
    """Logits whose labels are drawn from their softmax at temperature `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (count, classes)).astype(np.float32)
    p = np.exp(logits / sharpness)
    p /= p.sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(classes, p=row) for row in p])


def by_lbfgs(groups) -> float:
    """The same by PyTorch's L-BFGS over log T."""
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=200, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-12, tolerance_change=1e-14)  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = sum(
            F.cross_entropy(torch.from_numpy(x).double() / log_t.exp(), torch.from_numpy(y),
                            reduction="sum")
            for x, y in groups
        )  # fmt: skip
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_t.detach().exp())


@pytest.mark.parametrize("count", [40, 200])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0, 8.0])
def test_a_temperature_is_that_of_an_independent_optimiser(sharpness, count):
    groups = [drawn(count, 5, count, sharpness), drawn(20, 11, 1, sharpness)]
    assert temperature_of(groups) == pytest.approx(by_lbfgs(groups), rel=1e-3)


def test_labels_that_are_drawn_at_a_temperature_give_it_back():
    assert temperature_of([drawn(20_000, 5, 0, 2.5)]) == pytest.approx(2.5, rel=0.03)


def test_where_the_loss_has_no_minimum_there_is_no_temperature():
    logits = np.random.default_rng(0).normal(0, 3, (40, 4))
    assert temperature_of([(logits, logits.argmax(axis=1))]) is None  # T = 0 would be best
    assert temperature_of([(logits, logits.argmin(axis=1))]) is None  # and here an infinite one


def test_log_odds_are_those_of_lambda():
    """lambda = sigmoid(H_0 - H_1 + d)."""
    h = np.array([[0.3, 1.2], [2.0, 0.1]])
    found = coefficients(np.array([0, 0.7]) - h)[:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(h[:, 0] - h[:, 1] + 0.7))))


def test_entropies_and_probabilities_are_those_of_each_experts_temperature():
    logits = np.random.default_rng(0).normal(0, 2, (7, 2, 5)).astype(np.float32)
    h, p = tempered(logits, [0.5, 3.0])
    for m, t in enumerate((0.5, 3.0)):
        of_expert = torch.from_numpy(logits[:, m])
        np.testing.assert_allclose(h[:, m], entropy(of_expert, t), rtol=1e-6)
        np.testing.assert_allclose(p[:, m], (of_expert / t).softmax(dim=-1), rtol=1e-5)


def only_below(threshold: float, hard=0.0, seed: int = 0):
    """Right where the second expert's weight is below it; a share of samples is always wrong."""

    def right(shares):
        never = np.random.default_rng(seed).random(len(shares)) < hard
        return (shares[:, 1] < threshold) & ~never

    return right


def no_guess(shares):
    raise AssertionError("two experts need none")


def test_log_odds_go_where_answers_are_right_and_no_further():
    h = np.random.default_rng(0).uniform(0, 2, (60, 2))
    right = only_below(0.3)
    found = choose_log_odds(h, right, no_guess)
    assert found.values[0] == 0
    at = right(coefficients(found.values - h))
    nearer = right(coefficients(found.values + np.array([0, 0.5]) - h))
    assert at.sum() > nearer.sum()
    assert at.mean() > 0.9
    assert found.better > 30
    assert (found.worse, found.count) == (0, 60)


@pytest.mark.parametrize("always", [True, False])
def test_where_all_weights_are_as_good_there_are_none(always):
    found = choose_log_odds(np.random.default_rng(1).uniform(0, 2, (40, 2)),
                            lambda shares: np.full(len(shares), always), no_guess)  # fmt: skip
    assert not found.values.any()
    assert (found.better, found.worse) == (0, 0)


def test_a_nat_has_to_bring_right_answers():
    """One sample alone, which only far log odds get right, moves nothing."""
    h = np.zeros((50, 2))

    def right(shares):
        found = np.ones(50, dtype=bool)
        found[0] = shares[0, 1] > 1 / (1 + np.exp(-3))
        return found

    assert not choose_log_odds(h, right, no_guess).values.any()
    assert choose_log_odds(h, right, no_guess, penalty=0).values.tolist() == [0, 3.25]


def test_the_gain_is_of_samples_that_the_log_odds_were_not_chosen_by():
    """Where nothing is to be gained, the choice fits its own samples, and is not believed."""
    gains, fitted = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        h, threshold = rng.uniform(0, 2, (30, 2)), rng.uniform(0, 1, 30)
        upwards = rng.random(30) < 0.5  # as many are won as are lost, wherever one goes

        def right(shares, threshold=threshold, upwards=upwards):
            return (shares[:, 1] > threshold) == upwards

        found = choose_log_odds(h, right, no_guess)
        gains.append((found.better - found.worse) / 30)
        at = right(coefficients(found.values - h)).mean()
        fitted.append(at - right(coefficients(-h)).mean())
    assert np.mean(fitted) > 0.08
    assert np.mean(gains) < np.mean(fitted) / 2


def test_of_more_experts_the_guess_is_searched_and_forwards_are_few():
    rng = np.random.default_rng(0)
    h, labels = rng.uniform(0.5, 1.5, (60, 4)), rng.integers(0, 5, 60)
    p = np.full((60, 4, 5), 0.05)
    says = rng.integers(0, 5, (60, 4))
    says[:, 2] = labels  # the third one knows
    np.put_along_axis(p, says[..., None], 0.8, axis=2)
    asked = []

    def right(shares):
        asked.append(len(shares))
        return ensemble_right(p, labels)(shares)

    found = choose_log_odds(h, right, ensemble_right(p, labels))
    assert found.values[0] == 0
    assert found.values.argmax() == 2
    assert asked == [60, 60]
    assert found.better > 10
    assert found.worse == 0


@pytest.mark.parametrize("seed", range(10))
def test_between_the_tenths_few_forwards_give_the_answers_of_all(seed):
    rng = np.random.default_rng(seed)
    flips, upwards = rng.uniform(0, 1, 80), rng.random(80) < 0.5
    asked = []

    def answers(shares_1):
        return (shares_1 > flips) == upwards

    def exact(rows, shares):
        asked.extend(rows)
        return (shares[:, 1] > flips[rows]) == upwards[rows]

    grid = np.stack([answers(np.full(80, t)) for t in TENTHS], axis=1)
    share = rng.uniform(0, 1, 80)
    share[:3] = 0, 1, 0.5
    found = right_between(grid, np.stack([1 - share, share], axis=1), exact)
    np.testing.assert_array_equal(found, answers(share))
    assert len(asked) < 25  # a tenth of them is expected


def test_the_candidates_have_none_among_them_and_the_penalty_is_small():
    assert 0 in CANDIDATES
    assert calibration.PENALTY <= 1
