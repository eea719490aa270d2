"""CLIP in Hugging Face's transformers -> open_clip's names.

The same values under other names, but for three: query, key and value are one matrix in open_clip,
projections are transposed, and positions have a weight's name. Names after transformers'
models/clip/modeling_clip.py (4.x).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from dawin_ray.errors import UserError

Tensors = dict[str, torch.Tensor]

OURS = re.compile(r"(^|\.)(vision_model|text_model)\.")  # in the names of such a checkpoint

BEFORE = re.compile(r"^(?P<before>|.*?\.)(?:vision_model|text_model)\.")

# parts that come before `encoder.layers.`, and open_clip's blocks
BLOCKS = {
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "text_model.encoder.layers.": "transformer.resblocks.",
}

IN_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}

WHOLE = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # so misspelt there
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "logit_scale": "logit_scale",
}

TRANSPOSED = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}

COUNTERS = ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids")

IN_PROJ = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
)  # in the order of torch's in_proj

BLOCK = re.compile(r"(?P<number>\d+)\.(?P<part>.+)\.(?P<kind>weight|bias)")


def of_transformers(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether the names are those of a CLIP model of transformers."""
    return any(OURS.search(name) for name in tensors)


def open_clip_tensors(tensors: Mapping[str, torch.Tensor], address: str) -> Tensors:
    """The tensors under open_clip's names; what belongs to neither tower keeps its own.

    Raises:
        UserError: a tensor of a tower is unknown, or one of query, key and value is missing.
    """
    (before,) = _one({m["before"] for name in tensors if (m := BEFORE.match(name))}, address)
    found: Tensors = {}
    attention: dict[tuple[str, str], Tensors] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix(before)
        if name in COUNTERS:
            continue
        if name in TRANSPOSED:
            found[TRANSPOSED[name]] = tensor.T
        elif (block := _block(name)) is not None and block[1] in IN_PROJ:
            attention.setdefault((block[0], block[2]), {})[block[1]] = tensor
        else:
            found[_renamed(name, full, address)] = tensor
    for (to, kind), parts in attention.items():
        if missing := [part for part in IN_PROJ if part not in parts]:
            raise UserError(
                f"The checkpoint {address!r} lacks {', '.join(missing)} ({kind}) of the block that "
                f"is {to!r} in open_clip. Save the whole model."
            )
        found[f"{to}.attn.in_proj_{kind}"] = torch.cat([parts[part] for part in IN_PROJ])
    return found


def _renamed(name: str, full: str, address: str) -> str:
    """open_clip's name of a tensor that is the same there."""
    if name in WHOLE:
        return WHOLE[name]
    if (block := _block(name)) is not None and block[1] in IN_BLOCK:
        return f"{block[0]}.{IN_BLOCK[block[1]]}.{block[2]}"
    if not OURS.search(full):
        return full
    raise UserError(
        f"The tensor {full!r} in the checkpoint {address!r} is of no part of transformers' CLIP "
        "that is known here. Give a CLIPModel's or CLIPVisionModelWithProjection's state dict."
    )


def _block(name: str) -> tuple[str, str, str] | None:
    """Of a tensor in a block: the block's name in open_clip, the part, and weight or bias."""
    for theirs, ours in BLOCKS.items():
        if name.startswith(theirs) and (m := BLOCK.fullmatch(name.removeprefix(theirs))):
            return f"{ours}{m['number']}", m["part"], m["kind"]
    return None


def _one(befores: set[str], address: str) -> set[str]:
    if len(befores) == 1:
        return befores
    raise UserError(
        f"The checkpoint {address!r} holds several models ({', '.join(sorted(befores))}). Save the "
        "one that is meant alone, with safetensors.torch.save_file."
    )
