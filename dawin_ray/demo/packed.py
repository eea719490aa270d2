"""One small file for a base, experts that differ little from it, and heads.

The base and the heads are kept in float16; of an expert its differences to the base, as whole
numbers of steps from -127 to 127, one step a tensor. Experts of a packed file are what comes out of
it: rounding moves a weight by half a step at most, and is no part of what is measured later.

Tensors are called `base/NAME`, `EXPERT/NAME` with its step `EXPERT/NAME/step`, and `head/TASK`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

State = Mapping[str, torch.Tensor]

BASE = "base"
HEAD = "head"
STEP = "/step"
STEPS = 127  # of int8, to either side


def pack(base: State, experts: Mapping[str, State], heads: State, path: Path) -> None:
    """Write them to `path`; every tensor floating, those of the experts under the base's names."""
    packed = {f"{BASE}/{name}": tensor.half() for name, tensor in base.items()}
    packed |= {f"{HEAD}/{task}": weight.half() for task, weight in heads.items()}
    for expert, state in experts.items():
        for name, tensor in state.items():
            difference = tensor.float() - base[name].half().float()
            step = difference.abs().max().clamp(min=torch.finfo(torch.float32).tiny) / STEPS
            packed[f"{expert}/{name}"] = (difference / step).round().to(torch.int8)
            packed[f"{expert}/{name}{STEP}"] = step
    save_file({name: tensor.contiguous() for name, tensor in packed.items()}, path)


def unpack(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The base and the experts by name, in float32, and the heads [C, features] by task."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        model, _, name = key.partition("/")
        parts.setdefault(model, {})[name] = tensor
    heads = {task: weight.float() for task, weight in parts.pop(HEAD).items()}
    base = {name: tensor.float() for name, tensor in parts.pop(BASE).items()}
    experts = {
        expert: {
            name: tensor + part[name].float() * part[f"{name}{STEP}"]
            for name, tensor in base.items()
        }
        for expert, part in parts.items()
    }
    return {BASE: base, **experts}, heads
