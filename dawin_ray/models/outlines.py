"""What a checkpoint is, from the names and shapes of its tensors: no value of a large file is read.

The header of a safetensors file tells them. Of other files, what PyTorch reads with
`weights_only=True`; nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dawin_ray.errors import UserError
from dawin_ray.models import clip
from dawin_ray.models.architecture import config_of
from dawin_ray.models.checkpoints import is_tag, read_tensors
from dawin_ray.models.convert.guess import architectures, fits
from dawin_ray.models.layouts import HEAD, TOWER, Tensors, adapter, open_clip_names, what_it_is
from dawin_ray.models.preprocessing import PreprocessConfig, Preprocessing, of_experts
from dawin_ray.storage import open_stream

LENGTH = struct.Struct("<Q")  # of the header, before it

MAX_HEADER = 100_000_000  # bytes; safetensors' own bound

HEAD_ALONE = {f"{HEAD}.weight", f"{HEAD}.bias", "weight", "bias"}

TEXT_TOWER = "token_embedding.weight"


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A checkpoint as its tensors' names and shapes tell it."""

    address: str
    tower: bool  # it has an image tower; a head alone has none
    classes: int | None  # of its head, where it has one
    texts: bool  # it has a text tower, which can make a zero-shot head
    architectures: tuple[str, ...]  # of open_clip's that fit, the plain ones first
    shapes: Mapping[str, torch.Tensor]  # on no device; none of a tag

    @property
    def tower_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the image tower's tensors, by name: the same in all that can be merged."""
        names = (name for name in self.shapes if name.startswith(f"{TOWER}."))
        return {name: tuple(self.shapes[name].shape) for name in names}


def outline(address: str) -> Outline:
    """What a checkpoint file is, or a pretrained tag of open_clip, which is only looked up.

    Raises:
        UserError: it is missing, no checkpoint, or would have to be unpickled: then with the
            command that converts it.
    """
    if is_tag(address):
        return _of_tag(address)
    tensors = open_clip_names(_shapes(address), address)
    found = [name for name in tensors if name == f"{HEAD}.weight" or name == "weight"]
    head = tensors[found[0]] if found else None
    tower = any(name.startswith(f"{TOWER}.") for name in tensors)
    if not tower and (head is None or head.ndim != 2 or not set(tensors) <= HEAD_ALONE):
        hint = adapter(tensors) or what_it_is(list(tensors))
        raise UserError(f"The checkpoint {address!r} has no image tower (visual.*). {hint}")
    return Outline(
        address=address,
        tower=tower,
        classes=None if head is None or head.ndim != 2 else len(head),
        texts=any(name.removeprefix("text.") == TEXT_TOWER for name in tensors),
        architectures=plain_first(architectures(tensors)),
        shapes={name: t.new_empty(t.shape, device="meta") for name, t in tensors.items()},
    )


def plain_first(names: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest names first, which are those that others are variants of."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def has_shapes_of(found: Outline, architecture: str) -> bool:
    """Whether a checkpoint may be of an architecture, by its name or of a model config (.json).

    Of other towers than plain ViTs shapes are not known here.

    Raises:
        UserError: there is no such architecture.
    """
    return fits(config_of(architecture), found.shapes)


def preprocessing_of(architecture: str, checkpoints: Mapping[str, str]) -> Preprocessing:
    """The crops that experts of these addresses, by name, would get; no model is built.

    Raises:
        UserError: there is no such architecture, or tags want different pixels.
    """
    values, source = of_experts(architecture, checkpoints, PreprocessConfig())
    size = config_of(architecture)["vision_cfg"].get("image_size", 224)
    size = tuple(size) if isinstance(size, list) else size
    return Preprocessing.of({"size": size, **values}, source)


def _of_tag(tag: str) -> Outline:
    names = tuple(name for name, known in clip.list_pretrained() if known == tag)
    if not names:
        raise UserError(
            f"No checkpoint {tag!r}: it is neither a file (.safetensors, .pt) nor one of "
            "open_clip's pretrained tags, such as openai."
        )
    # the activation that the weights were trained with stands in the architecture's name
    fitting = tuple(
        name
        for name in names
        if bool(clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
        == bool((clip.get_model_config(name) or {}).get("quick_gelu", False))
    )
    return Outline(
        address=tag,
        tower=True,
        classes=None,
        texts=True,
        architectures=plain_first(fitting or names),
        shapes={},
    )


def _shapes(address: str) -> Tensors:
    """The tensors of a file by name; of safetensors without their values."""
    with open_stream(address, "checkpoint") as stream:
        beginning = stream.read(LENGTH.size + 1)
        if len(beginning) > LENGTH.size and beginning[LENGTH.size :] == b"{":
            (length,) = LENGTH.unpack(beginning[: LENGTH.size])
            if length <= MAX_HEADER:
                return _of_header(b"{" + stream.read(length - 1), address)
    return read_tensors(address)  # which says what is wrong with it


def _of_header(header: bytes, address: str) -> Tensors:
    try:
        entries: dict[str, dict[str, Any]] = json.loads(header)
        entries.pop("__metadata__", None)
        return {name: torch.empty(entry["shape"], device="meta") for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"The checkpoint {address!r} is no valid safetensors file: its header cannot be read. "
            "Copy or download it again."
        ) from error
