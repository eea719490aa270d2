"""The exact method: one forward of a batch in which every sample has weights of its own.

A merged model is a linear form of its parameters, theta(x) = theta_0 + sum_j c_j(x) delta_j, and
every parameter enters its layer linearly. So no weights need to be merged: a linear layer is

    y = [x | c_1 x | ...] [W_0 | W_1 | ...]^T,

one matrix product of P = 1 + J times the inner size, and all other layers go the same way
(`operations.py`). The model's own code runs unchanged. Parameters that are equal in all experts
stay as they are, and cost nothing. `check_samplewise` compares a model with merged weights, so that
one that breaks an assumption is refused and never scored wrongly.

Shapes: B batch, M experts, C classes, J differences (M - 1 experts beyond the first; M task experts
over a base), P = 1 + J parts, O and I outer and inner size of a layer.

Source: the sample-wise variant of DaWin (arXiv 2410.03782), which the reference runs by merging and
calling a model for each sample; the batched form is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dawin_ray.errors import UserError
from dawin_ray.method.merge import TASK_SCALE, StateDict, check_finite
from dawin_ray.method.samplewise.tensors import Interpolated, LowRank, Shares

# Samplewise and merged forwards differ by rounding alone: some 1e-6 of the largest logit in
# float32. A wrong rule is off by far more than this.
CHECK_TOLERANCE = 1e-4

# Randomised SVD (Halko, Martinsson and Tropp, 2011): columns beyond the rank, and power iterations.
OVERSAMPLING = 8

POWER_ITERATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a model's weights lie, and how precise they are.

    `tower` begins the names of the tensors that are in `dtype`, and of limited rank; all of them by
    default. The others, such as a head's, stay whole and in float32.
    """

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    tower: str = ""


class SamplewiseClassifier(nn.Module):
    """A classifier whose weights are each sample's own.

    The call takes images [B, ...], coefficients float32 [B, M] (rows sum to 1) and what else the
    model takes, and returns logits [B, C]: those of the model that is merged with each sample's
    coefficients.

    >>> from dawin_ray.method import merge
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    >>> experts = [copy.deepcopy(model).state_dict() for _ in range(2)]
    >>> experts[1] = {name: tensor + 0.01 for name, tensor in experts[1].items()}
    >>> samplewise = SamplewiseClassifier(model, experts)
    >>> images, coefficients = torch.rand(2, 3, 8, 8), torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    >>> logits = samplewise(images, coefficients)  # of two models, in one forward
    >>> _ = model.load_state_dict(merge(experts, [0.3, 0.7]))
    >>> torch.allclose(logits[1], model(images)[1], atol=1e-5)
    True

    Any `torch.nn.Module` will do, in evaluation, that keeps the batch in the first dimension of all
    activations and whose parameters and buffers meet them in functions that `operations.py` has a
    rule for: linear and 2D convolutional layers, layer and batch norms, attention, sums and
    products, and changes of shape. Another function is refused by name, when it is met.
    """

    def __init__(
        self,
        model: nn.Module,
        experts: Sequence[StateDict],
        *,
        base: StateDict | None = None,
        scale: float = TASK_SCALE,
        rank: int | None = None,
        placement: Placement | None = None,
    ):
        """Experts as in `merge`, which this reproduces; `model` is copied, its weights unused.

        With `rank`, the differences of linear layers keep that many singular values: exact for
        experts tuned with LoRA of that rank, an approximation for others.

        Raises:
            ValueError: an expert's tensors are not those of the model.
            UserError: a value is not finite in the placement's dtype.
        """
        super().__init__()
        expected = set(model.state_dict())
        for state in [*experts, *([] if base is None else [base])]:
            if different := expected ^ set(state):
                raise ValueError(
                    f"an expert's tensors must be those of the model, but {sorted(different)[0]!r} "
                    "is in one of them only"
                )
        self.experts = len(experts)
        self.factor = None if base is None else scale * len(experts)
        first, others = (experts[0], experts[1:]) if base is None else (base, experts)
        self.shares = Shares()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        stacked = _Stacked(self.model, self.shares, placement or Placement(), rank)
        for name, tensor in first.items():
            stacked.put(name, tensor, [state[name] for state in others])

    def forward(
        self, images: torch.Tensor, coefficients_BM: torch.Tensor, *inputs: Any
    ) -> torch.Tensor:
        """Logits; `inputs` are the model's own beside the images, such as the head's name."""
        shares = coefficients_BM[:, 1:] if self.factor is None else self.factor * coefficients_BM
        rows_BP = torch.cat([torch.ones_like(shares[:, :1]), shares], dim=1).float()
        with self.shares.of(rows_BP):
            logits: torch.Tensor = self.model(images, *inputs)
        return logits


@dataclass(frozen=True)
class _Stacked:
    """A model whose tensors are replaced, one by one, by what holds all experts' of that name."""

    model: nn.Module
    shares: Shares
    placement: Placement
    rank: int | None

    def put(self, name: str, first: torch.Tensor, others: Sequence[torch.Tensor]) -> None:
        """Put a parameter or buffer into its module: as it is, or with its differences."""
        path, _, attribute = name.rpartition(".")
        module = self.model.get_submodule(path)
        value = self._value(name, module, first, others)
        delattr(module, attribute)
        setattr(module, attribute, value)

    def _value(
        self, name: str, module: nn.Module, first: torch.Tensor, others: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        if not first.is_floating_point():
            return first.to(self.placement.device)
        first = first.float()
        differences = [other.float() - first for other in others]
        if not any(bool(difference.any()) for difference in differences):
            return self._placed(name, first)
        rank = self.rank if name.startswith(self.placement.tower) else None
        linear = isinstance(module, nn.Linear) or name.endswith("in_proj_weight")
        if rank is not None and linear and first.ndim == 2 and rank < min(first.shape):
            lefts, rights = zip(*[_factors(d, rank) for d in differences], strict=True)
            base, left, right = (
                self._placed(name, part)
                for part in (first, torch.cat(lefts, dim=1), torch.cat(rights))
            )
            return LowRank(base, left, right, self.shares, name)
        parts = self._placed(name, torch.stack([first, *differences]))
        if parts.ndim > 2:  # in memory [O, P, I ...]: [O, P I] is then a view
            parts = parts.transpose(0, 1).contiguous().transpose(0, 1)
        return Interpolated(parts, self.shares, name)

    def _placed(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        tower = name.startswith(self.placement.tower)
        dtype = self.placement.dtype if tower else torch.float32
        placed = tensor.to(device=self.placement.device, dtype=dtype)
        check_finite({name: placed}, "the experts, or of their differences,")
        return placed


def _factors(difference_OI: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best U [O, rank] and V [rank, I] with U V close to a difference; the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        columns = min(rank + OVERSAMPLING, *difference_OI.shape)
        u, s, v = torch.svd_lowrank(difference_OI, q=columns, niter=POWER_ITERATIONS)
    return u[:, :rank] * s[:rank], v[:, :rank].T


def check_samplewise(
    model: SamplewiseClassifier,
    merged: Callable[[Sequence[float]], nn.Module],
    images: torch.Tensor,
    *inputs: Any,
    name: str = "model",
) -> float:
    """Compare with merged weights on images [B, ...]; returns the relative error.

    `merged` makes the plain model of a sample's coefficients; `name` is the architecture's, for the
    error; `inputs` are as of the model's call.

    Raises:
        UserError: they disagree, so this architecture breaks an assumption of the exact mode.
    """
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.rand(len(images), model.experts, generator=generator) + 0.1
    coefficients /= coefficients.sum(dim=1, keepdim=True)
    with torch.inference_mode():
        ours = model(images, coefficients, *inputs)
        expected = torch.cat(
            [merged(row.tolist())(images[i : i + 1], *inputs) for i, row in enumerate(coefficients)]
        )
    error = float((ours - expected).abs().max() / expected.abs().max())
    if not error < CHECK_TOLERANCE:
        raise UserError(
            f"The exact mode does not reproduce {name!r}: its logits are off by {error:.1e} of "
            f"the largest, where {CHECK_TOLERANCE:g} is allowed. Set mixture.clusters to a number, "
            "and please report the architecture."
        )
    return error
