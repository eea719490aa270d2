"""Whether the tensors of a checkpoint are those of an architecture: names, shapes and types."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dawin_ray.errors import UserError
from dawin_ray.models import clip
from dawin_ray.models.architecture import OpenClipModel
from dawin_ray.models.layouts import HEAD, TOWER, Tensors, adapter, what_it_is

# What can be merged in float32; others (float8, quantised) are codes of values, scales apart.
FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def fitted(
    model: OpenClipModel, tensors: Mapping[str, torch.Tensor], architecture: str, name: str,
    address: str,
) -> Tensors:  # fmt: skip
    """A checkpoint's tensors, whose image tower is the architecture's.

    Raises:
        UserError: a tensor of the tower is missing, too many, or of another shape or type.
    """
    converted: Tensors = clip.convert.convert_state_dict(model, dict(tensors))
    expected = {f"{TOWER}.{k}": v for k, v in model.visual.state_dict().items()}
    state = {k: v for k, v in converted.items() if k.startswith(f"{TOWER}.")}
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        detail = (
            [f"lacks {len(missing)} tensors such as {sorted(missing)[0]!r}"] if missing else []
        ) + (
            [f"has {len(unexpected)} others such as {sorted(unexpected)[0]!r}"]
            if unexpected
            else []
        )
        if shapes:
            key = sorted(shapes)[0]
            detail.append(
                f"has {len(shapes)} tensors of another shape, such as {key!r} "
                f"{list(state[key].shape)} where the architecture has {list(expected[key].shape)}"
            )
        hint = adapter(converted) if state else what_it_is(list(converted))
        raise UserError(
            f"The checkpoint of '{name}' ({address!r}) does not fit the architecture "
            f"{architecture!r}: it {', and '.join(detail)}. "
            + (
                hint
                or "Check model.architecture (the -quickgelu variants have their own names) and "
                "the checkpoint."
            )
        )
    check_types(state, expected, name, address)
    return converted


def check_types(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], name: str,
    address: str,
) -> None:  # fmt: skip
    """Refuse tensors that hold something else than the architecture's, by name.

    Floating tensors are merged, so one that is none would stand in every merge as it is, or have
    its values cut; half and single precision may meet.

    Raises:
        UserError: naming the tensor, its type and the expected one.
    """
    for key, tensor in tensors.items():
        if (wanted := expected.get(key)) is None:
            continue
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "on no device, without values" if tensor.is_meta else f"{tensor.layout}"
            raise UserError(
                f"Tensor {key!r} in the checkpoint of '{name}' ({address!r}) is {kind}. Save it "
                "dense, with its values."
            )
        floating = wanted.is_floating_point()
        if tensor.dtype in FLOATING if floating else _integer(tensor):
            continue
        raise UserError(
            f"Tensor {key!r} in the checkpoint of '{name}' ({address!r}) is {tensor.dtype}, where "
            f"the architecture has {'a floating tensor' if floating else wanted.dtype}: such "
            "values cannot be merged with those of other experts. Save the model's own "
            "state dict, in float32, float16 or bfloat16"
            + (", not a quantised one." if floating else "; counters stay integers.")
        )


def unused(model: OpenClipModel, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Tensors that are no part of the architecture and no head, sorted: nothing reads them.

    A head under another name would be among them.
    """
    known = {name.removeprefix("text.") for name in model.state_dict()}
    return sorted(
        name
        for name in tensors
        if not name.startswith((f"{TOWER}.", f"{HEAD}."))
        and name.removeprefix("text.") not in known
    )


def _integer(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)
