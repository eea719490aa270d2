"""The checkpoints of a job as they are found at its start, each held against the architecture.

What a worker reads again is held against the digests that are made here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from dawin_ray.method import TiesConfig, Trim, check_finite
from dawin_ray.models.architecture import architecture_digest, build_model
from dawin_ray.models.checkpoints import checkpoint_digest, is_tag
from dawin_ray.models.experts import Experts, load_experts, read_checkpoint, tag_digest
from dawin_ray.models.layouts import HEAD, TOWER, Tensors
from dawin_ray.models.preprocessing import check_activation, doubt_about_files, of_experts
from dawin_ray.models.spec import ExpertConfig, HeadSpec, ModelConfig, ModelSpec
from dawin_ray.models.weights import FLOATING, fitted, unused

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The checkpoints of a job, whose towers fit the architecture, before their heads."""

    spec: ModelSpec
    model: nn.Module  # without weights
    checkpoints: Mapping[str, Tensors]  # by address

    @property
    def trained(self) -> dict[str, bool]:
        """Whether a checkpoint was saved with a head, by the expert's name."""
        return {
            name: f"{HEAD}.weight" in self.checkpoints[address]
            for name, address in self.spec.checkpoints.items()
        }

    def load(self, heads: Mapping[str, HeadSpec]) -> tuple[ModelSpec, Experts]:
        """The experts with these heads, which are by data set."""
        by_key = {head.key: head for head in heads.values()}
        spec = replace(self.spec, heads=tuple(by_key.values()))
        return spec, load_experts(spec, self.checkpoints, self.model)

    def trim(self, config: TiesConfig) -> Trim:
        """What TIES keeps of the experts' differences to the base; their heads are no part of it.

        `over: checkpoint` counts the tensors that base and experts have in common, though only the
        tower's are merged: what is left of a text tower is the same in all of the reference's.

        Raises:
            UserError: a value that counts is NaN or infinite.
        """
        assert self.spec.base is not None, "a job that asks for TIES has a base"
        tensors = {name: self.checkpoints[at] for name, at in self.spec.checkpoints.items()}
        base = self.checkpoints[self.spec.base]
        tower = {name for name in base if name.startswith(f"{TOWER}.")}
        counted = tower if config.over == "tower" else {
            name
            for name, tensor in base.items()
            if not name.startswith(f"{HEAD}.")
            and all(_alike(tensor, found.get(name)) for found in tensors.values())
        }  # fmt: skip
        for name, found in tensors.items():
            check_finite({k: found[k] for k in counted}, f"the checkpoint of '{name}'")
        experts = [tensors[expert.name] for expert in self.spec.experts]
        return Trim.of({k: base[k] for k in sorted(counted)}, experts, config.keep, merged=tower)


def find_models(
    config: ModelConfig, named_experts: Sequence[ExpertConfig], base: str | None
) -> Found:
    """Read the checkpoints and hold each against the architecture, its tower before its head.

    `base` is the address of the task vectors' base, where there is one.

    Raises:
        UserError: one cannot be read or does not fit, or their preprocessings differ.
    """
    architecture, preprocess = config.architecture, config.preprocess
    spec = ModelSpec(
        config=config,
        experts=tuple(named_experts),
        base=base,
        heads=(),
        digests={architecture: architecture_digest(architecture)},
    )
    named = spec.checkpoints
    values, _ = of_experts(architecture, named, preprocess)
    for doubt in (
        check_activation(architecture, named),
        doubt_about_files(architecture, named, values, preprocess),
    ):
        if doubt is not None:
            logger.warning("%s", doubt)
    digests = {address: checkpoint_digest(address) for address in named.values()}
    model = build_model(architecture, values, digest=spec.digests[architecture])
    checkpoints: dict[str, Tensors] = {}
    for name, address in named.items():
        if address in checkpoints:
            continue
        known = None if is_tag(address) else digests[address]
        tensors = read_checkpoint(address, architecture, known)
        if is_tag(address):
            digests[address] = tag_digest(address, tensors)
        checkpoints[address] = fitted(model, tensors, architecture, name, address)
        if others := unused(model, checkpoints[address]):
            logger.warning(
                "%d tensors of the checkpoint of %s are used by nothing, such as %s; a trained "
                "head is called %s.weight",
                len(others), name, others[0], HEAD,
            )  # fmt: skip
    spec = replace(spec, digests={**spec.digests, **digests})
    return Found(spec=spec, model=model, checkpoints=checkpoints)


def _alike(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether one can be subtracted from the other, value by value."""
    return (
        other is not None
        and other.shape == tensor.shape
        and {tensor.dtype, other.dtype} <= {*FLOATING}
    )
