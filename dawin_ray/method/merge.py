"""Weights as data: interpolation and task vectors over state dicts, merged in float32.

Shapes: M experts. A state dict maps a tensor's name to the tensor; floating tensors (buffers such
as BatchNorm's running statistics included) are merged, integer ones (counters) are the base's.

Source: DaWin, equation 4 and section 4.3; dawin_rft/utils.py (`interpolation`) and dawin_mtl/src/
main_dawin.py of naver-ai/dawin at commit 310e0e1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from dawin_ray.errors import UserError
from dawin_ray.settings import Settings

StateDict = Mapping[str, torch.Tensor]

# lambda of task arithmetic on CLIP (Ilharco et al., 2023), which the reference multiplies by M:
# `prior = 0.3` in dawin_mtl/src/main_dawin.py.
TASK_SCALE = 0.3


class MergeConfig(Settings):
    """How experts become one model.

    Without `base`, their weights are interpolated: sum of lambda_m theta_m. With `base`, the
    checkpoint that the task experts were fine-tuned from (it is none of the experts), their
    differences to it are added: theta_0 + scale M sum of lambda_t (theta_t - theta_0). Heads are no
    part of it then: one serves experts, base and merged models.
    """

    base: str | None = None
    scale: float = TASK_SCALE
    """Of the task vectors; only with a base."""


def merge(
    experts: Sequence[StateDict],
    coefficients: Sequence[float],
    *,
    base: StateDict | None = None,
    scale: float = TASK_SCALE,
) -> dict[str, torch.Tensor]:
    """The merged model's state dict, as `MergeConfig` describes it.

    >>> from torch import nn
    >>> zero_shot, fine_tuned = nn.Linear(8, 3), nn.Linear(8, 3)
    >>> merged = merge([zero_shot.state_dict(), fine_tuned.state_dict()], [0.25, 0.75])
    >>> expected = 0.25 * zero_shot.weight + 0.75 * fine_tuned.weight
    >>> torch.equal(merged["weight"], expected)
    True
    """
    if base is None:
        return interpolate(experts, coefficients)
    return add_task_vectors(base, experts, coefficients, scale)


def interpolate(
    experts: Sequence[StateDict], coefficients: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Sum of lambda_m theta_m in float32; for M = 2 (1 - lambda) theta_0 + lambda theta_1.

    A one-hot coefficient returns that expert to the last bit.
    """
    return {
        name: _weighted_sum((expert[name].float() for expert in experts), coefficients)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in experts[0].items()
    }


def add_task_vectors(
    base: StateDict, experts: Sequence[StateDict], coefficients: Sequence[float], scale: float
) -> dict[str, torch.Tensor]:
    """theta_0 + scale M sum of lambda_t (theta_t - theta_0), in float32."""
    factor = scale * len(experts)
    return {
        name: tensor.float()
        + factor
        * _weighted_sum((expert[name].float() - tensor.float() for expert in experts), coefficients)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in base.items()
    }


def _weighted_sum(tensors: Iterable[torch.Tensor], coefficients: Sequence[float]) -> torch.Tensor:
    terms = (c * tensor for c, tensor in zip(coefficients, tensors, strict=True))
    return sum(terms, start=torch.zeros((), dtype=torch.float32))


def check_mergeable(named: Mapping[str, StateDict]) -> None:
    """Refuse state dicts that cannot be merged.

    `named` maps a person's name for a checkpoint to its state dict; the first is what the others
    are compared with. Half and single precision may meet.

    Raises:
        UserError: a tensor is missing or of another shape, an integer meets a floating tensor, or
            a value is NaN or infinite; the message names tensor and checkpoint.
    """
    first, reference = next(iter(named.items()))
    for name, state in named.items():
        for missing_in, other, keys in (
            (name, first, reference.keys() - state.keys()),
            (first, name, state.keys() - reference.keys()),
        ):
            if keys:
                raise UserError(
                    f"Checkpoint '{missing_in}' has no tensor {sorted(keys)[0]!r} "
                    f"({len(keys)} missing), which '{other}' has. Experts must share one "
                    "architecture and one kind of head: fine-tuned descendants of the same model."
                )
        for key, tensor in state.items():
            expected = reference[key]
            if tensor.shape != expected.shape:
                raise UserError(
                    f"Tensor {key!r} has shape {list(tensor.shape)} in '{name}' but "
                    f"{list(expected.shape)} in '{first}'. Experts must share one architecture."
                )
            if tensor.is_floating_point() != expected.is_floating_point():
                raise UserError(
                    f"Tensor {key!r} is {tensor.dtype} in '{name}' but {expected.dtype} in "
                    f"'{first}': an integer and a floating tensor cannot be interpolated. "
                    "Save both checkpoints the same way."
                )
            # in float32, as it is merged: a double may be too large for that
            if tensor.is_floating_point() and not (finite := torch.isfinite(tensor.float())).all():
                bad = int((~finite).sum())
                raise UserError(
                    f"Tensor {key!r} of '{name}' holds {bad} NaN or infinite values of "
                    f"{tensor.numel()}. Such a checkpoint cannot be scored; export it again."
                )


def check_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Refuse weights that a cast or a merge has made infinite.

    Raises:
        UserError: naming the first such tensor, of `what` it is, and the type.
    """
    floating = {k: v for k, v in tensors.items() if v.is_floating_point()}
    if not floating:
        return
    # one look at the device for all of them
    fine = torch.stack([torch.isfinite(tensor).all() for tensor in floating.values()]).tolist()
    if all(fine):
        return
    name = list(floating)[fine.index(False)]
    dtype = floating[name].dtype
    kind = str(dtype).removeprefix("torch.")
    raise UserError(
        f"Tensor {name!r} of {what} is not finite in {kind}: its values are too large. "
        + (
            "Such weights cannot be used; check the experts' checkpoints."
            if dtype == torch.float32
            else "Set compute.precision: float32 (bfloat16 holds as large values)."
        )
    )
