"""`dawin-ray convert`: a checkpoint as people have it -> one safetensors file in open_clip's names.

A pickled module or state dict of torch.save, in a zip archive or an older file; safetensors; under
any wrapping; with transformers' names; or a LoRA adapter beside the model that it was trained over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from dawin_ray.errors import UserError
from dawin_ray.models.checkpoints import like_safetensors, no_checkpoint
from dawin_ray.models.convert.adapter import merged, read_config
from dawin_ray.models.convert.archive import ZIP, Archive
from dawin_ray.models.convert.guess import architectures
from dawin_ray.models.convert.huggingface import of_transformers, open_clip_tensors
from dawin_ray.models.convert.modules import Tensors
from dawin_ray.models.layouts import HEAD, adapter, open_clip_names, state_dict_of
from dawin_ray.storage import filesystem, read_bytes, write_whole

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written, and what is known of it."""

    tensors: int
    bytes: int
    classes: int | None  # of its head, where it has one
    architectures: tuple[str, ...]  # of open_clip's, with the shapes of its image tower


def convert_checkpoint(
    source: str, target: str, *, base: str | None = None, part: str | None = None
) -> Converted:
    """Write the tensors of a checkpoint to a safetensors file. Nothing of the checkpoint is run.

    The values are those of the source to the bit, but where an adapter is merged. `base` is the
    model that an adapter, or an image tower alone, was trained over; `part` names one of several
    state dicts in the file, such as `ema`.

    Raises:
        UserError: the source asks for code, is damaged or of no layout that is known, or the target
            is no .safetensors file or the source itself.
    """
    if not target.lower().endswith(SUFFIX) or target == source:
        raise UserError(
            f"Expected another file that ends with {SUFFIX} to write to, got {target!r}: "
            f"dawin-ray convert {source} {source.rpartition('.')[0] or source}-open_clip{SUFFIX}"
        )
    tensors, quick_gelu = _read(source, part)
    if adapter(tensors) is not None:
        if base is None:
            raise UserError(
                f"The checkpoint {source!r} is a LoRA adapter. Say which model it was trained "
                f"over: dawin-ray convert {source} {target} --base MODEL"
            )
        over, quick_gelu = _read(base, None)
        tensors = _renamed(merged(over, tensors, read_config(source), source), base)
    else:
        tensors = _renamed(tensors, source)
        if base is not None:
            over, _ = _read(base, None)
            tensors = _completed(tensors, _renamed(over, base), source, base)
    _check_whole(tensors, source, target)
    # each of its own: the file holds no two names for one memory
    data = save_safetensors(
        {
            name: tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        },
        metadata={"format": "pt"},
    )
    write_whole(*filesystem(target), data)
    head = tensors.get(f"{HEAD}.weight")
    return Converted(
        tensors=len(tensors),
        bytes=len(data),
        classes=None if head is None else len(head),
        architectures=architectures(tensors, quick_gelu),
    )


def _read(address: str, part: str | None) -> tuple[dict[str, torch.Tensor], bool | None]:
    """The tensors under the names that they have there, and whether the model has QuickGELU."""
    data = read_bytes(address, "checkpoint")
    if (what := no_checkpoint(data)) is not None:
        raise UserError(f"The checkpoint {address!r} cannot be converted: {what}.")
    content: Any
    if not data.startswith(ZIP) and like_safetensors(data, address):
        try:
            content, quick_gelu = load_safetensors(data), None
        except SafetensorError as error:
            raise UserError(
                f"The checkpoint {address!r} is no valid safetensors file: {error}. Copy or "
                "download it again."
            ) from error
    else:
        archive = Archive(data, address)
        found = Tensors(archive)
        content = found.of(archive.content)
        quick_gelu = found.quick_gelu
    return state_dict_of(content, address, part), quick_gelu


def _renamed(tensors: Mapping[str, torch.Tensor], address: str) -> dict[str, torch.Tensor]:
    tensors = open_clip_names(tensors, address)
    return open_clip_tensors(tensors, address) if of_transformers(tensors) else tensors


def _completed(
    tensors: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor], address: str,
    base_address: str,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The base with these tensors in place of its own."""
    for name, tensor in tensors.items():
        if name not in base or base[name].shape != tensor.shape:
            held = list(base[name].shape) if name in base else "not there"
            raise UserError(
                f"Tensor {name!r} of {address!r} has shape {list(tensor.shape)}, and in the base "
                f"{base_address!r} it is {held}. Give the model that it was trained over."
            )
    return {**base, **tensors}


def _check_whole(tensors: Mapping[str, torch.Tensor], source: str, target: str) -> None:
    """An image tower of transformers without its projection makes no features."""
    if "visual.conv1.weight" in tensors and "visual.proj" not in tensors:
        raise UserError(
            f"The checkpoint {source!r} is an image tower without its projection "
            "(visual_projection.weight or visual.proj), as CLIPVisionModel has it. Take that from "
            f"the model that it was trained over: dawin-ray convert {source} {target} --base MODEL"
        )
