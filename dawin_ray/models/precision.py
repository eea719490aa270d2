"""What numbers the towers run in. Entropies, coefficients, heads and merges are float32 always."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from dawin_ray.errors import UserError

Precision = Literal["float32", "tf32", "bfloat16", "float16"]


def resolve(asked: Precision | Literal["auto"], device: str) -> Precision:
    """`auto` is bfloat16 on a GPU and float32 on a CPU, where not every model gains from less.

    Raises:
        UserError: tf32 on a CPU.
    """
    if asked == "tf32" and device == "cpu":
        raise UserError(
            "compute.precision tf32 is a mode of NVIDIA's matrix units and exists on GPUs only. "
            "Use float32, or bfloat16, on device: cpu."
        )
    if asked != "auto":
        return asked
    return "bfloat16" if device == "cuda" else "float32"


def tower_dtype(precision: Precision) -> torch.dtype:
    """The dtype of the towers' weights and activations."""
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


@contextmanager
def matmul_mode(precision: Precision) -> Iterator[None]:
    """Lets float32 products run in tf32, or not: PyTorch does so in convolutions by default."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
