"""A LoRA adapter of peft, merged into the model that it was trained over.

W + (alpha / r) B A for each of its layers, with alpha / sqrt(r) for rank-stabilised ones, as peft's
tuners/lora/layer.py merges (`get_delta_weight`). The adapter's tensors must have the names of the
base's: merge before renaming.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from dawin_ray.errors import UserError
from dawin_ray.storage import read_bytes

CONFIG = "adapter_config.json"  # beside the adapter's weights

PAIR = re.compile(
    r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)

# settings of peft that make other weights than W + s B A
OTHER_KINDS = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication")


def read_config(address: str) -> dict[str, Any]:
    """The settings beside the adapter's weights.

    Raises:
        UserError: there are none, or they are of another kind of adapter.
    """
    path = f"{address.rpartition('/')[0]}/{CONFIG}" if "/" in address else CONFIG
    try:
        config = json.loads(read_bytes(path, "adapter's settings"))
    except ValueError as error:
        raise UserError(f"The adapter's settings {path!r} are no JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"The adapter's settings {path!r} are of no LoRA adapter of peft.")
    if others := [key for key in OTHER_KINDS if config.get(key)]:
        raise UserError(
            f"The adapter {address!r} has {', '.join(others)}, which is no plain LoRA: merge it "
            "with peft's merge_and_unload, and save that model's state dict."
        )
    r, alpha = config.get("r"), config.get("lora_alpha")
    if type(r) is not int or r < 1 or not isinstance(alpha, int | float):
        raise UserError(f"The adapter's settings {path!r} lack a rank `r` and a `lora_alpha`.")
    return config


def merged(
    base: Mapping[str, torch.Tensor], adapter: Mapping[str, torch.Tensor],
    config: Mapping[str, Any], address: str,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The base's tensors, with the adapter's products added in float32 to those that it changes.

    Raises:
        UserError: a tensor of the adapter is none of a pair, or does not fit the base.
    """
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in adapter.items():
        if not (found := PAIR.fullmatch(name)):
            raise UserError(
                f"The tensor {name!r} of the adapter {address!r} is no lora_A or lora_B of a "
                "layer: merge it with peft's merge_and_unload, and save that model's state dict."
            )
        pairs.setdefault(found["layer"], {})[found["side"]] = tensor
    scale = config["lora_alpha"] / config["r"] ** (0.5 if config.get("use_rslora") else 1)
    result = dict(base)
    for layer, pair in pairs.items():
        name = _weight(layer, base, address)
        weight = base[name]
        if pair.keys() != {"A", "B"} or weight.ndim != 2 or any(p.ndim != 2 for p in pair.values()):
            raise UserError(
                f"The layer {layer!r} of the adapter {address!r} is no pair of matrices over a "
                "matrix: merge it with peft's merge_and_unload."
            )
        a, b = pair["A"].float(), pair["B"].float()
        theirs = (b.shape[0], a.shape[1])
        rank = config["r"]
        wanted = weight.shape[::-1] if config.get("fan_in_fan_out") else weight.shape
        if theirs != tuple(wanted) or (a.shape[0], b.shape[1]) != (rank, rank):
            raise UserError(
                f"The layer {layer!r} of the adapter {address!r} is {list(b.shape)} times "
                f"{list(a.shape)} at rank {rank}, and the base's weight is {list(weight.shape)}. "
                "Give the model that the adapter was trained over."
            )
        product = (b @ a).T if config.get("fan_in_fan_out") else b @ a
        result[name] = (weight.float() + scale * product).to(weight.dtype)
    return result


def _weight(layer: str, base: Mapping[str, torch.Tensor], address: str) -> str:
    """The name of a layer's weight in the base, which may be wrapped otherwise."""
    end = f"{layer}.weight"
    found = [name for name in base if name == end]
    found = found or [n for n in base if n.endswith(f".{end}") or end.endswith(f".{n}")]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"The base has {'several tensors' if found else 'no tensor'} called {end!r}, which the "
        f"adapter {address!r} changes. Give the model that the adapter was trained over, with the "
        "names that it had there."
    )
