"""The exact method: one forward of a batch in which every sample has weights of its own.

A merged model is a linear form of its parameters, theta(x) = theta_0 + sum_j c_j(x) delta_j, and
every parameter enters its layer linearly. So no weights need to be merged: a linear layer is

    y = [x | c_1 x | ...] [W_0 | W_1 | ...]^T,

one matrix product of P = 1 + J times the inner size, and all other layers go the same way
(`symbols.py`). The model's own code runs unchanged. Parameters that are equal in all experts stay
as they are, and cost nothing. `check_samplewise` compares a model with merged weights, so that one
that breaks an assumption is refused and never scored wrongly.

Shapes: B batch, M experts, J differences (M - 1 experts beyond the first; M task experts over a
base), P = 1 + J parts, I and O inner and outer size of a layer.

Source: the sample-wise variant of DaWin (arXiv 2410.03782), which the reference runs by merging and
calling a model for each sample; the batched form is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from dawin_ray.errors import UserError
from dawin_ray.method.merge import TASK_SCALE, StateDict, check_finite, merge
from dawin_ray.method.samplewise.tensors import Interpolated, LowRank, Shares

# Samplewise and merged forwards differ by rounding alone: some 1e-6 of the largest logit in
# float32. A wrong rule is off by far more than this.
CHECK_TOLERANCE = 1e-4

# Randomised SVD (Halko, Martinsson and Tropp, 2011): columns beyond the rank, and power iterations.
OVERSAMPLING = 8

POWER_ITERATIONS = 4


class SamplewiseClassifier(nn.Module):
    """A classifier whose weights are each sample's own.

    The call takes pixels [B, 3, H, W] and coefficients float32 [B, M] (rows sum to 1) and returns
    float32 logits [B, C]: those of the model that is merged with each sample's coefficients.
    """

    def __init__(
        self,
        skeleton: nn.Module,
        experts: Sequence[StateDict],
        *,
        base: StateDict | None = None,
        scale: float = TASK_SCALE,
        rank: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        """Experts as in `merge.merge`, which this reproduces; the tower runs in `dtype`.

        With `rank`, the differences of the tower's linear layers keep that many singular values:
        exact for experts tuned with LoRA of that rank, an approximation for others.
        """
        super().__init__()
        self.factor = None if base is None else scale * len(experts)
        first, others = (experts[0], experts[1:]) if base is None else (base, experts)
        self.shares = Shares()
        self.model = copy.deepcopy(skeleton).eval().requires_grad_(False)
        for name, tensor in first.items():
            # as in Classifier: the head runs in float32, whatever the tower's precision
            tower = name.startswith("visual.")
            kind, limit = (dtype, rank) if tower else (torch.float32, None)
            values = [state[name] for state in others]
            _place(self.model, name, tensor, values, self.shares, device, kind, limit)

    def forward(self, pixels: torch.Tensor, coefficients_BM: torch.Tensor, head: str):
        """Logits of one head; see the class."""
        base_given = self.factor is not None
        shares = self.factor * coefficients_BM if base_given else coefficients_BM[:, 1:]
        self.shares.rows_BP = torch.cat([torch.ones_like(shares[:, :1]), shares], dim=1).float()
        try:
            return self.model(pixels, head)
        finally:
            self.shares.rows_BP = None


def _place(
    model: nn.Module,
    name: str,
    first: torch.Tensor,
    others: Sequence[torch.Tensor],
    shares: Shares,
    device: torch.device | str,
    dtype: torch.dtype,
    rank: int | None,
) -> None:
    """Put a parameter or buffer into its module: as it is, or with its differences.

    Raises:
        UserError: a value is not finite in `dtype`.
    """
    *path, attribute = name.split(".")
    module = model.get_submodule(".".join(path))
    value: torch.Tensor = first.to(device)
    if first.is_floating_point():
        first = first.float()
        differences = [other.float() - first for other in others]
        linear = isinstance(module, nn.Linear) or attribute == "in_proj_weight"
        if not any(bool(difference.any()) for difference in differences):
            value = first.to(device=device, dtype=dtype)
            placed = [value]
        elif rank is not None and linear and first.ndim == 2 and rank < min(first.shape):
            outers, inners = zip(*[_factors(d, rank) for d in differences], strict=True)
            base, outer, inner = (
                tensor.to(device=device, dtype=dtype)
                for tensor in (first, torch.cat(outers, dim=1), torch.cat(inners))
            )
            placed = [base, outer, inner]
            value = LowRank(base, outer, inner, shares, name)
        else:
            parts = torch.stack([first, *differences]).to(device=device, dtype=dtype)
            placed = [parts]
            if parts.ndim > 2:  # in memory [O, P, I ...]: [O, P I] is then a view
                parts = parts.transpose(0, 1).contiguous().transpose(0, 1)
            value = Interpolated(parts, shares, name)
        for part in placed:
            check_finite({name: part}, "the experts, or of their differences,")
    delattr(module, attribute)
    setattr(module, attribute, value)


def _factors(difference_OI: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best U [O, rank] and V [rank, I] with U V close to a difference; the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        columns = min(rank + OVERSAMPLING, *difference_OI.shape)
        u, s, v = torch.svd_lowrank(difference_OI, q=columns, niter=POWER_ITERATIONS)
    return u[:, :rank] * s[:rank], v[:, :rank].T


def check_samplewise(
    model: SamplewiseClassifier,
    plain: Callable[[StateDict], nn.Module],
    experts: Sequence[StateDict],
    pixels: torch.Tensor,
    head: str,
    architecture: str,
    **merging: Any,
) -> float:
    """Compare with merged weights on pixels [B, 3, H, W]; returns the relative error.

    `plain` makes a classifier of a state dict; `merging` is `base` and `scale`, as for `merge`.

    Raises:
        UserError: they disagree, so this architecture breaks an assumption of the exact mode.
    """
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.rand(len(pixels), len(experts), generator=generator) + 0.1
    coefficients /= coefficients.sum(dim=1, keepdim=True)
    with torch.inference_mode():
        ours = model(pixels, coefficients, head)
        merged = torch.cat(
            [
                plain(merge(experts, row.tolist(), **merging))(pixels[i : i + 1], head)
                for i, row in enumerate(coefficients)
            ]
        )
    error = float((ours - merged).abs().max() / merged.abs().max())
    if not error < CHECK_TOLERANCE:
        raise UserError(
            f"The exact mode does not reproduce {architecture!r}: its logits are off by "
            f"{error:.1e} of the largest, where {CHECK_TOLERANCE:g} is allowed. Set "
            "mixture.clusters to a number, and please report the architecture."
        )
    return error
