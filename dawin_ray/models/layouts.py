"""Layouts of checkpoints: which of a file's tensors are the model's, under open_clip's names.

Training wraps models: `module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` or `net.`
of Lightning, a dictionary with an optimizer and a moving average beside the weights. What stands
before `visual.` of every tensor of the tower is such a wrapping. Layouts of another kind are not
guessed at, but named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from dawin_ray.errors import UserError

Tensors = dict[str, torch.Tensor]

HEAD = "classification_head"  # as naver-ai/dawin and WiSE-FT name it

TOWER = "visual"

NESTED_DEPTH = 3  # of dictionaries in a file

SHOWN_KEYS = 5  # in a message

# parts of names that torch puts around a module; no module of a model's own is called so
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)

# plain numbers beside the weights in the state dicts of OpenAI's archives
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")

# in the names of a LoRA adapter's tensors
ADAPTER = re.compile(r"(^|\.|_)lora_|\.lora\.|\.base_layer\.|^base_model\.model\.")

# a part of a tensor's name -> what such a checkpoint is, and what to do
FOREIGN = {
    r"(^|\.)vision_model\.": "has the tensor names of Hugging Face's transformers: give it "
    "open_clip's, with dawin-ray convert IN OUT.safetensors",
    r"(^|\.)(vision_tower|language_model)\.": "is of a multimodal language model: take the CLIP "
    "model that its tower came from",
    r"^(blocks|stages|patch_embed|fc|head)\.": "is of a classifier of timm or torchvision, and no "
    "CLIP model",
    r"^conv1\.weight$|^trunk\.|^class_embedding$": "is the image tower alone, without `visual.` "
    "before its names: save the whole model's state dict",
}


def state_dict_of(content: Any, address: str, part: str | None = None) -> Tensors:
    """The one mapping of names to tensors that a checkpoint's content is or holds.

    `part` says where it lies, with dots between the keys, where there are several.

    Raises:
        UserError: there is none, or several of which any could be meant.
    """
    found = dict(_mappings(content, ()))
    if part is not None:
        places = {".".join(path): tensors for path, tensors in found.items()}
        if part in places:
            return places[part]
        raise UserError(
            f"The checkpoint {address!r} holds no state dict {part!r}; there are: "
            f"{', '.join(map(repr, filter(None, places))) or 'none below the file itself'}."
        )
    of_towers = {path: tensors for path, tensors in found.items() if any(map(_in_tower, tensors))}
    candidates = of_towers or found
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        keys = f" with the keys {_some(content)}" if isinstance(content, Mapping) else ""
        raise UserError(
            f"The checkpoint {address!r} holds no tensors by name: expected a state dict, got "
            f"{type(content).__name__}{keys}."
        )
    names = ", ".join(repr(".".join(path)) if path else "the file itself" for path in candidates)
    raise UserError(
        f"The checkpoint {address!r} holds {len(candidates)} state dicts ({names}), and which one "
        "is meant cannot be told. Save that one alone, with safetensors.torch.save_file, or as "
        "dawin-ray convert IN OUT.safetensors --part NAME does."
    )


def _mappings(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Each dictionary in the content that has tensors by name, with where it lies."""
    if not isinstance(content, Mapping) or len(path) > NESTED_DEPTH:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {k: v for k, v in named.items() if isinstance(v, torch.Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):  # a counter alone is no model
        yield path, tensors
    for key, value in named.items():
        yield from _mappings(value, (*path, key))


def open_clip_names(tensors: Mapping[str, torch.Tensor], address: str) -> Tensors:
    """The tensors without wrappings before `visual.` and `classification_head.`.

    Raises:
        UserError: there are several towers or heads, or two tensors would have one name.
    """
    renamed = _renamed(tensors, lambda name: WRAPPERS.sub("", name), address)
    prefix = _prefix(renamed, TOWER, address)
    if prefix:
        renamed = _renamed(renamed, lambda name: name.removeprefix(prefix), address)
    inner = f"{TOWER}.module."  # DataParallel around the tower alone
    if all(name.startswith(inner) for name in renamed if _in_tower(name)):
        renamed = _renamed(renamed, lambda name: name.replace(inner, f"{TOWER}.", 1), address)
    before = _prefix(renamed, HEAD, address)
    if before:
        head = f"{before}{HEAD}."
        renamed = _renamed(
            renamed,
            lambda n: n.removeprefix(before) if n.startswith(head) else n,
            address,
        )
    return {name: tensor for name, tensor in renamed.items() if name not in OPENAI_EXTRAS}


def head_names(tensors: Mapping[str, torch.Tensor], address: str) -> tuple[str, str]:
    """What weight and bias of the one head in a file are called; the bias need not be there.

    That is `classification_head.weight`, behind any wrapping, or `weight` where the file holds a
    linear layer and no more.

    Raises:
        UserError: there is no head, or there are several.
    """
    pattern = re.compile(rf"(^|.*\.){HEAD}\.weight$")
    found = [name for name in tensors if pattern.match(name)]
    if not found and set(tensors) <= {"weight", "bias"}:
        found = [name for name in tensors if name == "weight"]
    if len(found) == 1:
        return found[0], f"{found[0].removesuffix('weight')}bias"
    raise UserError(
        f"The file {address!r} holds {'several heads' if found else 'no head'}: expected one "
        f"tensor {HEAD}.weight, or weight and bias of a linear layer and no more. Its tensors are "
        f"called {_some(found or tensors)}."
    )


def adapter(names: Iterable[str]) -> str | None:
    """What to do with a LoRA adapter, where the names are of one."""
    if not any(map(ADAPTER.search, names)):
        return None
    return (
        "It is a LoRA adapter: merge it into its model first (dawin-ray convert IN OUT.safetensors "
        "--base MODEL, or peft's merge_and_unload)."
    )


def what_it_is(names: Sequence[str]) -> str:
    """What a checkpoint without a tower is, for a message."""
    if (found := adapter(names)) is not None:
        return found
    for pattern, meaning in FOREIGN.items():
        if any(re.search(pattern, name) for name in names):
            return f"It {meaning}."
    return f"Its tensors are called {_some(names)}."


def _prefix(names: Mapping[str, Any], part: str, address: str) -> str:
    """What stands before the first `part` of all names that have one."""
    pattern = re.compile(rf"^(|.*?\.){part}\.")
    prefixes = dict.fromkeys(found[1] for name in names if (found := pattern.match(name)))
    if len(prefixes) > 1:
        places = ", ".join(repr(f"{prefix}{part}.") for prefix in prefixes)
        raise UserError(
            f"The checkpoint {address!r} holds several models ({places}), and which one is meant "
            "cannot be told. Save that one alone, with safetensors.torch.save_file."
        )
    return next(iter(prefixes), "")


def _in_tower(name: str) -> bool:
    return re.search(rf"(^|\.){TOWER}\.", name) is not None


def _renamed(
    tensors: Mapping[str, torch.Tensor], to: Callable[[str], str], address: str
) -> Tensors:
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        if (new := to(name)) in renamed:
            raise UserError(
                f"The checkpoint {address!r} holds the tensor {new!r} twice, once as {name!r}. "
                "Save one model alone, with safetensors.torch.save_file."
            )
        renamed[new] = tensor
    return renamed


def _some(names: Any) -> str:
    names = [repr(name) for name in names]
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more
