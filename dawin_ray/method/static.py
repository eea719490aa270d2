"""The models of static baselines: merged once, the same for every sample and data set.

Shapes: M experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dawin_ray.method.baselines import Method
from dawin_ray.method.merge import StateDict, interpolate, merge
from dawin_ray.method.ties import Trim, ties


def static_weights(
    method: Method,
    experts: Sequence[StateDict],
    base: StateDict | None,
    scale: float,
    trim: Trim | None = None,
) -> dict[str, torch.Tensor]:
    """The state dict of a static method's model, in float32 where it is merged.

    `scale` is the job's, of what it merges itself; `trim` is that of TIES, where it is asked for.
    """
    even = [1 / len(experts)] * len(experts)
    if method.recipe == "averaging":
        return interpolate(experts, even)
    if method.recipe == "interpolation":
        last = method.weight
        shares = even if last is None else [1 - last, last]
        return merge(experts, shares, base=base, scale=scale)
    assert base is not None, "a job without a base has no method of task vectors"
    if method.recipe == "task_arithmetic":
        assert method.scale is not None, "task arithmetic has a scale"
        return merge(experts, even, base=base, scale=method.scale)
    if method.recipe == "ties":
        assert method.scale is not None, "TIES has a scale"
        assert trim is not None, "what TIES keeps is decided before its weights are merged"
        return ties(base, experts, trim, method.scale)
    return dict(base)
