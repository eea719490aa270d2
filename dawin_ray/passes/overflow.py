"""Logits that are not finite: which sample, and which model.

Sound experts may merge to a model that overflows, and a model that holds in float32 may overflow in
a lower precision. Its softmax would be NaN, and its argmax the first class: no prediction at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from dawin_ray.data import Chunk
from dawin_ray.models import Precision

FINITE = "finite: "  # begins the names of what only says whether a model's logits are finite


def finite(logits_BC: torch.Tensor) -> torch.Tensor:
    """Whether all logits of a sample are finite, bool [B]."""
    return torch.isfinite(logits_BC).all(dim=-1)


def overflow(
    chunk: Chunk, fine_n: torch.Tensor, what: str, precision: Precision
) -> FloatingPointError:
    """The error for the first sample that is not `fine`, for which `what` made it so."""
    sample_id = chunk.sample_ids[int((~fine_n).nonzero()[0])]
    remedy = (
        "check the scale of the checkpoints' weights, and whether they descend from one model"
        if precision == "float32"
        else "set compute.precision: float32; if it stays, check the checkpoints' weights"
    )
    return FloatingPointError(
        f"The logits of sample '{sample_id}' in data set '{chunk.dataset}' are not finite: "
        f"{what} overflows in {precision}. No prediction is made of them: {remedy}."
    )


def listed(coefficients: Iterable[float]) -> str:
    """In a line, for people."""
    return ", ".join(f"{value:.3g}" for value in coefficients)
