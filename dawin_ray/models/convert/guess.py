"""Which of open_clip's architectures a checkpoint may be of, by the shapes of its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from dawin_ray.models import clip
from dawin_ray.models.architecture import OF_FILES

BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.")


def architectures(
    tensors: Mapping[str, torch.Tensor], quick_gelu: bool | None = None
) -> tuple[str, ...]:
    """Names of plain ViTs with these shapes, sorted; none where the tower is of another kind.

    `quick_gelu` is whether the model has that activation, which no shape tells; None is unknown.
    """
    return tuple(
        name
        for name in sorted(set(clip.list_models()) - OF_FILES)
        if fits(clip.get_model_config(name), tensors, quick_gelu)
    )


def fits(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    quick_gelu: bool | None = None,
) -> bool:
    """Whether a model config is that of a plain ViT with these shapes; `quick_gelu` as above."""
    shapes = _shapes_of(tensors)
    return shapes is not None and _fits(config, shapes, quick_gelu)


def _shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, int | None] | None:
    needed = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj")
    if any(name not in tensors for name in needed):
        return None
    conv, positions, proj = (tensors[name] for name in needed)
    if conv.ndim != 4 or positions.ndim != 2 or proj.ndim != 2:
        return None
    tokens = tensors.get("token_embedding.weight")
    texts = tensors.get("positional_embedding")
    return {
        "patch": conv.shape[-1],
        "width": conv.shape[0],
        "grid": math.isqrt(len(positions) - 1),
        "layers": len({m[1] for name in tensors if (m := BLOCK.match(name))}),
        "embed": proj.shape[1],
        "vocabulary": None if tokens is None else len(tokens),
        "context": None if texts is None else len(texts),
    }


def _fits(
    config: Mapping[str, Any], shapes: Mapping[str, int | None], quick_gelu: bool | None
) -> bool:
    vision, text = config["vision_cfg"], config["text_cfg"]
    if config.get("custom_text") or {"timm_model_name", "hf_model_name"} & (vision | text).keys():
        return False
    patch, size = vision.get("patch_size"), vision.get("image_size", 224)
    if not (isinstance(patch, int) and isinstance(size, int)):
        return False
    ours = {
        "patch": patch,
        "width": vision.get("width"),
        "grid": size // patch,
        "layers": vision.get("layers"),
        "embed": config["embed_dim"],
        "vocabulary": text.get("vocab_size"),
        "context": text.get("context_length"),
    }
    if quick_gelu is not None and bool(config.get("quick_gelu")) != quick_gelu:
        return False
    return all(value in (None, ours[key]) for key, value in shapes.items())
