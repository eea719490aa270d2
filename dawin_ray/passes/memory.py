"""What a pass's models take of the device's memory, said before they are put there.

The exact mode keeps P parts of a model, P the number of experts (with a base one more), beside the
experts where they run in the same pass: many experts of a large tower are more than one thinks.

Shapes: M experts, P parts of the samplewise model, O and I outer and inner size of a layer.
"""

from __future__ import annotations

from collections.abc import Collection

import psutil
import torch

from dawin_ray.errors import UserError
from dawin_ray.models import TOWER, Experts, tower_dtype
from dawin_ray.passes.spec import ScoringSpec

GB = 1e9


def footprint(spec: ScoringSpec, experts: Experts, what: Collection[str]) -> dict[str, int]:
    """Bytes of weights on the device, by what they are of; a batch's activations come on top.

    `what` are the models of a pass: `experts`, those of the experts' pass, and `exact`.
    In lower precision or rank the exact mode keeps all of them in float32 and full rank as well,
    for the sample that is compared. Tensors that are equal in all experts count as if they were
    not: it is a bound.
    """
    count = len(experts.states)
    parts = count + (experts.base is not None)
    size = tower_dtype(spec.precision).itemsize
    found: dict[str, int] = {}
    if "experts" in what:
        plain = count + sum(method.merges for method in spec.methods)
        found[f"{plain} models"] = plain * _bytes(experts, 1, None, size)
        if any(method.kind == "samplewise" for method in spec.methods):
            found[f"P = {parts} parts for exact baselines"] = _bytes(experts, parts, None, size)
    if "exact" in what:
        rank = "" if spec.exact_rank is None else f", of rank {spec.exact_rank},"
        exact = _bytes(experts, parts, spec.exact_rank, size)
        found[f"P = {parts} parts{rank} for the exact mode"] = exact
        if spec.precision != "float32" or spec.exact_rank is not None:
            whole = torch.float32.itemsize
            found["both in float32 for the sample that is compared"] = count * _bytes(
                experts, 1, None, whole
            ) + _bytes(experts, parts, None, whole)
    return found


def check_memory(spec: ScoringSpec, experts: Experts, what: Collection[str]) -> None:
    """Refuse models that the device's free memory cannot hold, before they are put there.

    Raises:
        UserError: with what they take and what there is.
    """
    device = torch.device(spec.device)
    found, free = footprint(spec, experts, what), free_memory(device)
    needed = sum(found.values())
    if needed <= free:
        return
    told = ", ".join(f"{size / GB:.1f} GB for {of}" for of, size in found.items())
    place = "the GPU" if device.type == "cuda" else "this machine"
    raise UserError(
        f"The weights alone take {needed / GB:.1f} GB ({told}), and {place} has {free / GB:.1f} GB "
        "free. Set mixture.clusters to a number, for merged models instead of each sample's own "
        "weights, and leave exact baselines out; or use a larger device."
    )


def free_memory(device: torch.device) -> int:
    """Bytes free on the device; on a CPU, in this machine's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return int(psutil.virtual_memory().available)


def _bytes(experts: Experts, parts: int, rank: int | None, size: int) -> int:
    """Of a tower in values of `size` bytes and heads in float32, in so many parts."""
    total = 0
    for name, tensor in experts.states[0].items():
        if not tensor.is_floating_point():
            continue
        tower = name.startswith(f"{TOWER}.")
        values = parts * tensor.numel()
        if rank is not None and tower and _is_matrix(experts, name) and rank < min(tensor.shape):
            values = tensor.numel() + (parts - 1) * rank * sum(tensor.shape)
        total += values * (size if tower else torch.float32.itemsize)
    return total


def _is_matrix(experts: Experts, name: str) -> bool:
    """Whether it is one whose differences the samplewise model may limit in rank."""
    module = experts.skeleton.get_submodule(name.rpartition(".")[0])
    linear = isinstance(module, torch.nn.Linear) or name.endswith("in_proj_weight")
    return linear and experts.states[0][name].ndim == 2
