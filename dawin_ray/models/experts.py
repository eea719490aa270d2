"""Architecture + checkpoint -> expert; zero-shot head; preprocessing.

An expert is an open_clip visual tower and one or more linear heads over its L2-normalised
features. Its weights are a flat state dict, `visual.*` and `heads.<key>.weight|bias`. All of these
are merged where each expert has a head of its own; a head that is shared, as all are over a base of
task vectors, stands beside them and goes into every model as it is. Nothing is ever unpickled.

Shapes: B batch, C classes of a head.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
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
from dawin_ray.models import clip
from dawin_ray.models.architecture import OpenClipModel, build_model
from dawin_ray.models.checkpoints import (
    CHECKPOINT_SUFFIXES,
    changed,
    is_tag,
    read_tensors,
    tensors_digest,
)
from dawin_ray.models.head_weights import HeadMaker
from dawin_ray.models.heads import HEAD_EACH
from dawin_ray.models.layouts import HEAD, TOWER, Tensors, open_clip_names
from dawin_ray.models.preprocessing import Preprocessing, of_experts
from dawin_ray.models.spec import CHECKPOINT_HEAD, ModelConfig, ModelSpec
from dawin_ray.models.weights import fitted


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
    shared: StateDict = field(default_factory=dict)  # heads that are the same for all models

    def head_count(self, head: str) -> int:
        """Number of classes of a head."""
        return self.whole(self.states[0])[f"heads.{head}.weight"].shape[0]

    def whole(self, state: StateDict) -> StateDict:
        """All weights of a model: an expert's, the base's or merged ones, and the shared heads."""
        return {**state, **self.shared}

    def classifier(
        self, state: StateDict, device: torch.device, dtype: torch.dtype, what: str = "the model"
    ) -> Classifier:
        """A model of its own with these weights and the shared heads; its tower is cast to `dtype`.

        Raises:
            UserError: a value is not finite then; the message says of `what`.
        """
        model = copy.deepcopy(self.skeleton)
        model.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                               for name, tensor in self.whole(state).items()},
                              strict=True)  # fmt: skip
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
        # what is equal in all of them, as shared heads are, goes through as it is
        return SamplewiseClassifier(
            self.skeleton,
            [self.whole(state) for state in self.states],
            base=None if self.base is None else self.whole(self.base),
            scale=scale,
            rank=rank,
            placement=placement,
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
    changes, source = of_experts(architecture, named, spec.config.preprocess)
    if model is None:
        model = build_model(architecture, changes, digest=spec.digests.get(architecture))
    maker = HeadMaker(spec=spec, model=model, features=_feature_width(model))
    own = [head for head in spec.heads if not head.shared]
    states: dict[str, Tensors] = {}
    heads: dict[str, Tensors] = {}
    tensors: Mapping[str, torch.Tensor] = {}
    for name, address in named.items():
        if checkpoints is not None and address in checkpoints:
            tensors = checkpoints[address]
        else:
            tensors = read_checkpoint(address, architecture, spec.digests.get(address))
        tensors = fitted(model, tensors, architecture, name, address)
        states[name] = {k: v for k, v in tensors.items() if k.startswith(f"{TOWER}.")}
        heads[name] = {k: v for head in own for k, v in maker.own(head, tensors, name).items()}
    base = None if spec.base is None else tensors  # the last
    shared = {
        k: v for head in spec.heads if head.shared for k, v in maker.shared(head, base).items()
    }
    if base is None:
        states = {name: state | heads[name] for name, state in states.items()}
    else:
        shared |= _one_for_all(heads, spec)
    check_mergeable(states)
    of_base = states.pop("merge.base", None)
    values = next(iter(states.values())) | shared
    sizes = {head.key: values[f"heads.{head.key}.weight"].shape for head in spec.heads}
    return Experts(
        skeleton=Classifier(model.visual, {key: (c, f) for key, (c, f) in sizes.items()}).eval(),
        states=tuple(states.values()),
        base=of_base,
        shared=shared,
        preprocessing=Preprocessing.of(model.visual.preprocess_cfg | changes, source),
    )


def create_model(config: ModelConfig) -> OpenClipModel:
    """open_clip's model of an architecture, without weights.

    Raises:
        UserError: the architecture is unknown, or its config file cannot be used.
    """
    return build_model(config.architecture, config.preprocess.model_dump(exclude_none=True))


def _read_pretrained(tag: str, architecture: str) -> dict[str, torch.Tensor]:
    tags = clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise UserError(
            f"No checkpoint {tag!r}: it is neither a file ({', '.join(CHECKPOINT_SUFFIXES)}) nor a "
            f"pretrained tag that open_clip knows for {architecture!r}"
            + (f" ({', '.join(tags)})." if tags else ".")
        )
    return dict(build_model(architecture, {}, pretrained=tag).state_dict())


def _one_for_all(heads: Mapping[str, Tensors], spec: ModelSpec) -> Tensors:
    """The heads that all checkpoints were saved with, as they are not merged over a base.

    Raises:
        UserError: they differ; the message names two of the checkpoints.
    """
    theirs = heads["merge.base"]
    for name, of_expert in heads.items():
        for key, tensor in theirs.items():
            if not torch.equal(tensor.float(), of_expert[key].float()):
                raise UserError(
                    f"The checkpoints of '{name}' ({spec.checkpoints[name]!r}) and of 'merge.base' "
                    f"({spec.base!r}) were saved with heads that differ ({HEAD}). With merge.base "
                    f"only towers are merged, and one head serves all models. {HEAD_EACH}."
                )
    return theirs


def _feature_width(model: OpenClipModel) -> int:
    """Width of the tower's output, found by a forward of one black image."""
    height, width = Preprocessing.of(model.visual.preprocess_cfg).size
    with torch.inference_mode():
        features = model.eval().visual(torch.zeros(1, 3, height, width))
    columns: int = (features[0] if isinstance(features, tuple) else features).shape[-1]
    return columns
