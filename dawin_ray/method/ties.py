"""TIES merging: task vectors trimmed to their largest values, which elect each value's sign.

Shapes: M experts, d values of a task vector, all of its tensors together.

Source: Yadav et al., "TIES-Merging" (NeurIPS 2023), as dawin_mtl/src/main_ties_merging.py of
naver-ai/dawin at commit 310e0e1 runs it: the values that agree are summed, not averaged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from dawin_ray.method.merge import TASK_SCALE, StateDict
from dawin_ray.settings import Settings

KEPT = 0.2  # of a task vector's values; the reference's `K = 20`, in per cent


class TiesConfig(Settings):
    """TIES: of each task vector the largest values, where their signs agree, summed and scaled."""

    keep: float = Field(default=KEPT, gt=0, le=1)
    """The share of a task vector's values; `dawin-ray plan` says how many of the tower's it is."""
    scale: float = Field(default=TASK_SCALE, gt=0)
    """What the sum is multiplied by."""
    over: Literal["checkpoint", "tower"] = "checkpoint"
    """What `keep` is a share of: all values that base and experts have, as in the reference, where
    those of the text tower are unchanged and so leave more of the image tower; or its alone."""


@dataclass(frozen=True, kw_only=True)
class Trim:
    """What is decided over all tensors of the task vectors together; the rest is by value."""

    thresholds: tuple[float, ...]  # [M]; of a task the smallest magnitude that is kept
    majority: int  # the sign of most values, for those whose signs are in balance; 0: there is none
    values: int  # d
    kept: tuple[int, ...]  # [M], of d
    merged_values: int  # of the tensors that are merged
    merged_kept: tuple[int, ...]  # [M]

    @classmethod
    def of(
        cls,
        base: StateDict,
        experts: Sequence[StateDict],
        keep: float = KEPT,
        merged: Collection[str] | None = None,
    ) -> Trim:
        """Over the floating tensors of `base`, which the experts have too.

        With k = d - int(keep d), a task keeps the values whose magnitude is at least its k-th
        smallest. `merged` names the tensors that are merged; others only count. None: all are.
        """
        names = [name for name, tensor in base.items() if tensor.is_floating_point()]
        inside = [name for name in names if merged is None or name in merged]
        values = sum(base[name].numel() for name in names)
        rank = max(1, values - int(keep * values))
        thresholds, kept, merged_kept = [], [], []
        for expert in experts:
            sizes = {name: _task_vector(base, expert, name).abs() for name in names}
            threshold = torch.cat([s.flatten() for s in sizes.values()]).kthvalue(rank).values
            counts = {name: int((size >= threshold).sum()) for name, size in sizes.items()}
            thresholds.append(float(threshold))
            kept.append(sum(counts.values()))
            merged_kept.append(sum(counts[name] for name in inside))
        surplus = 0
        for name in names:
            votes = _trimmed(base, experts, name, thresholds).sum(dim=0)
            surplus += int((votes > 0).sum()) - int((votes < 0).sum())
        return cls(
            thresholds=tuple(thresholds),
            majority=(surplus > 0) - (surplus < 0),
            values=values,
            kept=tuple(kept),
            merged_values=sum(base[name].numel() for name in inside),
            merged_kept=tuple(merged_kept),
        )


def ties(
    base: StateDict, experts: Sequence[StateDict], trim: Trim, scale: float = TASK_SCALE
) -> dict[str, torch.Tensor]:
    """theta_0 + scale m, in float32, for the tensors of `base`; integer ones are the base's.

    m is the sum over tasks of the trimmed values that have the elected sign: that of their sum, or
    the majority's where that is 0.

    >>> base = {"w": torch.zeros(5)}
    >>> a, b = {"w": torch.tensor([3., 2, -2, 1, 0])}, {"w": torch.tensor([-1., 3, -3, 0, 1])}
    >>> ties(base, [a, b], Trim.of(base, [a, b], keep=0.4), scale=1)["w"]
    tensor([ 3.,  5., -5.,  0.,  1.])
    """
    return {
        name: tensor.float() + scale * _agreed(_trimmed(base, experts, name, trim.thresholds), trim)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in base.items()
    }


def _agreed(trimmed_M: torch.Tensor, trim: Trim) -> torch.Tensor:
    """Of values [M, ...] the sum of those that have the elected sign."""
    votes = trimmed_M.sum(dim=0)
    positive = (votes > 0) | ((votes == 0) & (trim.majority > 0))
    return trimmed_M.where(torch.where(positive, trimmed_M > 0, trimmed_M < 0), 0).sum(dim=0)


def _trimmed(
    base: StateDict, experts: Sequence[StateDict], name: str, thresholds: Sequence[float]
) -> torch.Tensor:
    """A tensor's differences [M, ...], 0 where they are below their task's threshold."""
    found = [_task_vector(base, expert, name) for expert in experts]
    return torch.stack(
        [tau.where(tau.abs() >= t, 0) for tau, t in zip(found, thresholds, strict=True)]
    )


def _task_vector(base: StateDict, expert: StateDict, name: str) -> torch.Tensor:
    return expert[name].float() - base[name].float()
