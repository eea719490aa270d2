"""Architecture + checkpoint -> expert; zero-shot head; preprocessing.

An expert is an open_clip visual tower and one or more linear heads over its L2-normalised
features. Its weights are a flat state dict, `visual.*` and `heads.<key>.weight|bias`, all of which
are merged. Nothing is ever unpickled.

Shapes: B batch, C classes of a head.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg
from torch import nn

from dawin_ray.errors import UserError
from dawin_ray.method import (
    TASK_SCALE,
    Placement,
    SamplewiseClassifier,
    StateDict,
    check_finite,
    check_mergeable,
)
from dawin_ray.models.architecture import OpenClipModel, build_model, register
from dawin_ray.models.checkpoints import (
    CHECKPOINT_SUFFIXES,
    changed,
    is_tag,
    read_tensors,
    tensors_digest,
)
from dawin_ray.models.heads import prompts
from dawin_ray.models.layouts import HEAD, TOWER, open_clip_names
from dawin_ray.models.preprocessing import Preprocessing, of_experts
from dawin_ray.models.spec import CHECKPOINT_HEAD, HeadSpec, ModelConfig, ModelSpec
from dawin_ray.models.weights import check_types, fitted


class Classifier(nn.Module):
    """A visual tower and its heads: normalised pixels [B, 3, H, W] -> float32 logits [B, C]."""

    def __init__(self, visual: nn.Module, heads: Mapping[str, tuple[int, int]]):
        """`heads` maps a head's key to (classes, features)."""
        super().__init__()
        self.visual = visual
        self.heads = nn.ModuleDict({k: nn.Linear(f, c) for k, (c, f) in heads.items()})

    def forward(self, pixels: torch.Tensor, head: str = CHECKPOINT_HEAD) -> torch.Tensor:
        """Logits of one head; the head runs in float32 whatever the tower's precision."""
        features = self.visual(pixels)
        if isinstance(features, tuple):  # towers that also return their tokens
            features = features[0]
        logits: torch.Tensor = self.heads[head](F.normalize(features.float(), dim=-1))
        return logits


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The experts' weights in memory, and the empty classifier that they fit into."""

    skeleton: Classifier
    states: tuple[StateDict, ...]
    base: StateDict | None
    preprocessing: Preprocessing

    def head_count(self, head: str) -> int:
        """Number of classes of a head."""
        return self.states[0][f"heads.{head}.weight"].shape[0]

    def classifier(
        self, state: StateDict, device: torch.device, dtype: torch.dtype, what: str = "the model"
    ) -> Classifier:
        """A model of its own with these weights; its tower is cast to `dtype`.

        Raises:
            UserError: a value is not finite then; the message says of `what`.
        """
        model = copy.deepcopy(self.skeleton)
        model.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                               for name, tensor in state.items()}, strict=True)  # fmt: skip
        model.visual.to(device=device, dtype=dtype)
        model.heads.to(device=device, dtype=torch.float32)
        check_finite(model.state_dict(), what)
        return model.eval().requires_grad_(False)

    def samplewise(
        self,
        scale: float = TASK_SCALE,
        *,
        rank: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> SamplewiseClassifier:
        """A model in which each sample has weights of its own; only its tower is cast to `dtype`.

        Raises:
            UserError: a value is not finite then.
        """
        placement = Placement(device=device, dtype=dtype, tower=f"{TOWER}.")
        return SamplewiseClassifier(
            self.skeleton, self.states, base=self.base, scale=scale, rank=rank, placement=placement
        )


def read_checkpoint(
    address: str, architecture: str, digest: str | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint in open_clip's names, and `classification_head.*` if it has one.

    `address` is a .safetensors file, a .pt state dict, or an open_clip pretrained tag of the
    architecture; `digest` is what `checkpoint_digest` said of it.

    Raises:
        UserError: it is missing, no state dict, other than its digest, or would have to be
            unpickled.
    """
    if is_tag(address):
        tensors = _read_pretrained(address, architecture)
        if digest is not None and tag_digest(address, tensors) != digest:
            raise changed("pretrained tag", address, digest)
        return tensors
    return open_clip_names(read_tensors(address, digest), address)


def tag_digest(tag: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """What identifies the weights of a tag: a hub may give others under its name one day."""
    return f"tag {tag} {tensors_digest(tensors)}"


def load_experts(
    spec: ModelSpec,
    checkpoints: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    model: OpenClipModel | None = None,
) -> Experts:
    """Load all experts (and the base of task vectors) and check that they can be merged.

    `checkpoints` are the tensors where `read_checkpoint` has been called already, by address, and
    `model` is the empty model where there is one.

    Raises:
        UserError: a checkpoint is missing, does not fit the architecture, or cannot be merged; or
            an input is no longer what the run began with.
    """
    architecture, named = spec.config.architecture, spec.checkpoints
    values, source = of_experts(architecture, named, spec.config.preprocess)
    if model is None:
        model = build_model(architecture, values, digest=spec.digests.get(architecture))
    features = _feature_width(model)
    states: dict[str, StateDict] = {}
    for name, address in named.items():
        if checkpoints is not None and address in checkpoints:
            tensors = checkpoints[address]
        else:
            tensors = read_checkpoint(address, architecture, spec.digests.get(address))
        states[name] = _expert_state(model, tensors, spec, features, name, address)
    check_mergeable(states)
    base = states.pop("merge.base", None)
    first = next(iter(states.values()))
    heads = {}
    for head in spec.heads:
        classes, width = first[f"heads.{head.key}.weight"].shape
        heads[head.key] = (classes, width)
    return Experts(
        skeleton=Classifier(model.visual, heads).eval(),
        states=tuple(states.values()),
        base=base,
        preprocessing=Preprocessing(
            config=PreprocessCfg(**(model.visual.preprocess_cfg | values)), source=source
        ),
    )


def create_model(config: ModelConfig) -> OpenClipModel:
    """open_clip's model of an architecture, without weights.

    Raises:
        UserError: the architecture is unknown, or its config file cannot be used.
    """
    return build_model(config.architecture, config.preprocess.model_dump(exclude_none=True))


def _read_pretrained(tag: str, architecture: str) -> dict[str, torch.Tensor]:
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise UserError(
            f"No checkpoint {tag!r}: it is neither a file ({', '.join(CHECKPOINT_SUFFIXES)}) nor a "
            f"pretrained tag that open_clip knows for {architecture!r}"
            + (f" ({', '.join(tags)})." if tags else ".")
        )
    return dict(build_model(architecture, {}, pretrained=tag).state_dict())


def _expert_state(
    model: OpenClipModel,
    tensors: Mapping[str, torch.Tensor],
    spec: ModelSpec,
    features: int,
    name: str,
    address: str,
) -> StateDict:
    """`visual.*` and `heads.*` of a checkpoint, checked against the architecture."""
    architecture = spec.config.architecture
    converted = fitted(model, tensors, architecture, name, address)
    state = {k: v for k, v in converted.items() if k.startswith("visual.")}
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    for head in spec.heads:
        if head.zero_shot:
            weight, bias = _zero_shot_head(model, converted, head, spec, name, address)
        else:
            weight, bias = converted.get(f"{HEAD}.weight"), converted.get(f"{HEAD}.bias")
            if weight is None:
                raise UserError(
                    f"The checkpoint of '{name}' ({address!r}) has no {HEAD}.weight, which the "
                    "other experts have. Save all experts with their heads, or use head: zero_shot."
                )
            parts = {f"{HEAD}.weight": weight} | ({} if bias is None else {f"{HEAD}.bias": bias})
            check_types(parts, dict.fromkeys(parts, torch.zeros(1)), name, address)
            if weight.ndim != 2 or weight.shape[1] != features:
                raise UserError(
                    f"Tensor '{HEAD}.weight' of '{name}' has shape {list(weight.shape)}; expected "
                    f"[classes, {features}] for the features of {architecture!r}."
                )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise UserError(
                f"Tensor '{HEAD}.bias' of '{name}' has shape {list(bias.shape)}; expected "
                f"[{len(weight)}] for the classes of its weight. Save the whole head again."
            )
        state[f"heads.{head.key}.weight"] = weight
        state[f"heads.{head.key}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    return state


def _feature_width(model: OpenClipModel) -> int:
    """Width of the tower's output, found by a forward of one black image."""
    height, width = Preprocessing(config=PreprocessCfg(**model.visual.preprocess_cfg)).size
    with torch.inference_mode():
        features = model.eval().visual(torch.zeros(1, 3, height, width))
    columns: int = (features[0] if isinstance(features, tuple) else features).shape[-1]
    return columns


def _zero_shot_head(
    model: OpenClipModel, tensors: Mapping[str, torch.Tensor], head: HeadSpec, spec: ModelSpec,
    name: str, address: str,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Weight [C, features] of the head that this checkpoint's own text tower makes, scaled."""
    state = {k: v for k, v in tensors.items() if not k.startswith(HEAD)}
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):  # some have them as a number, some as a list
        if scalar in state and getattr(model, scalar, None) is not None:
            state[scalar] = state[scalar].reshape(getattr(model, scalar).shape)
    architecture = spec.config.architecture
    check_types(state, model.state_dict(), name, address)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"The checkpoint of '{name}' ({address!r}) cannot make a zero-shot head, because its "
            f"text tower does not fit {architecture!r}: {error}"
        ) from error
    tokenizer = _tokenizer(register(architecture, spec.digests.get(architecture)))
    weight = open_clip.build_zero_shot_classifier(
        model.eval(), tokenizer, head.class_names, prompts(head.templates or ())
    ).T
    return (model.logit_scale.detach().exp() * weight).contiguous(), None


@cache
def _tokenizer(name: str) -> Callable[[list[str]], torch.Tensor]:
    """Of a registered architecture: it takes as long to build as a small head."""
    tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(name)
    return tokenizer
