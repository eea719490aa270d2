"""Selective risk against plain loops over rows."""

import numpy as np
import pytest

from dawin_ray.statistics import sketch
from dawin_ray.statistics.risks import Risks


def test_selective_accuracy_against_a_plain_loop():
    draw = np.random.default_rng(6)
    confidence, right = draw.random(501, np.float32), draw.random(501) < 0.7
    aurc, at, curve = Risks.of(confidence, right).selective()
    order = np.argsort(-confidence)
    risks = [1 - right[order[: k + 1]].mean() for k in range(501)]
    assert aurc == pytest.approx(np.mean(risks), abs=1e-12)
    for coverage in (0.8, 0.9, 0.95):
        k = int(np.ceil(coverage * 501))
        assert at[f"{coverage:g}"] == pytest.approx(right[order[:k]].mean(), abs=1e-12)
    assert curve[-1] == {"coverage": 1.0, "risk": pytest.approx(1 - right.mean())}


def test_equal_confidences_count_as_in_any_order():
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    right = np.array([True, True, False, False, True])
    _, _, curve = Risks.of(confidence, right).selective()
    draw, risks = np.random.default_rng(7), []
    for _ in range(20_000):
        order = [0, *draw.permutation([1, 2, 3]), 4]
        risks.append(np.cumsum(~right[order]) / np.arange(1, 6))
    assert [p["risk"] for p in curve] == pytest.approx(np.mean(risks, axis=0), abs=0.01)


def test_a_coarse_count_is_off_by_no_more_than_it_says(monkeypatch):
    draw = np.random.default_rng(8)
    confidence = (1 - draw.random(5_000) ** 4).astype(np.float32)
    right = draw.random(5_000) < confidence
    exact = Risks.of(confidence, right)
    assert (exact.level, exact.slack) == (0, 0)
    for most in (1_000, 200, 50):
        monkeypatch.setattr(sketch, "MAX_BINS", most)
        coarse = Risks.of(confidence, right)
        assert len(coarse.key) <= most
        assert coarse.level > 0
        assert 0 < abs(coarse.aurc - exact.aurc) <= coarse.slack < 0.03


def test_near_certainty_no_two_confidences_are_one():
    confidence = 1 - np.arange(1, 20).astype(np.float32) * 2.0**-24
    assert len(Risks.of(confidence.astype(np.float32), np.ones(19, dtype=bool)).key) == 19
    low = np.float32(0.25) + np.arange(9, dtype=np.float32) * np.float32(2.0**-25)
    assert len(Risks.of(low, np.ones(9, dtype=bool)).key) == 9
