"""Scores of a prediction."""

import pytest
import torch
from sklearn.metrics import brier_score_loss

from dawin_ray.method.outcomes import outcome


def test_brier_of_two_classes_is_twice_scikit_learns():
    p = torch.rand(100, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(100) % 2
    found = outcome(torch.stack([1 - p, p], dim=1), labels)["brier"]
    assert found.mean().item() == pytest.approx(2 * brier_score_loss(labels, p))
