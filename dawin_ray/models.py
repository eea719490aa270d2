"""Architecture + checkpoint -> expert; zero-shot head; preprocessing.

An expert is an open_clip visual tower and one or more linear heads over its L2-normalised
features. Its weights are a flat state dict, `visual.*` and `heads.<key>.weight|bias`, all of which
are merged. Nothing is ever unpickled.

Shapes: B batch, C classes of a head.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from pydantic import Field
from torch import nn
from torchvision.transforms import Normalize

from dawin_ray.checkpoints import CHECKPOINT_SUFFIXES, is_tag, read_tensors
from dawin_ray.errors import UserError
from dawin_ray.merge import StateDict, check_mergeable
from dawin_ray.settings import Settings
from dawin_ray.storage import read_bytes, read_lines

HEAD = "classification_head"  # the head in a checkpoint, as naver-ai/dawin and WiSE-FT name it
CHECKPOINT_HEAD = "checkpoint"  # the key of the head that comes with the checkpoint
KNOWN_CLASS_NAMES = {"imagenet": tuple(open_clip.IMAGENET_CLASSNAMES)}
KNOWN_TEMPLATES: dict[str, tuple[Callable[[str], str], ...]] = {
    "openai-imagenet": tuple(open_clip.OPENAI_IMAGENET_TEMPLATES),
    "simple-imagenet": tuple(open_clip.SIMPLE_IMAGENET_TEMPLATES),
}


class PreprocessConfig(Settings):
    """What differs from open_clip's preprocessing of the architecture; None keeps its value."""

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] | None = None


class ModelConfig(Settings):
    """The experts' architecture, their head and preprocessing.

    `head` auto takes the checkpoint's head where it has one, and the zero-shot head otherwise,
    which open_clip builds from `class_names` (imagenet, or a file with a name a line) and
    `templates` (openai-imagenet, simple-imagenet, or a file with a line like `a photo of a {}.`).
    """

    architecture: str
    head: Literal["auto", "checkpoint", "zero_shot"] = "auto"
    class_names: str | None = None
    templates: str = "openai-imagenet"
    preprocess: PreprocessConfig = PreprocessConfig()


class ExpertConfig(Settings):
    """A named checkpoint; `temperature` divides its logits before entropies and confidences."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    checkpoint: str
    temperature: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head: the checkpoint's, or a zero-shot one of these class names and templates."""

    key: str = CHECKPOINT_HEAD
    class_names: tuple[str, ...] | None = None
    templates: str | None = None  # a known name, or the address of a file

    @property
    def zero_shot(self) -> bool:
        """Whether open_clip builds it from text."""
        return self.key != CHECKPOINT_HEAD


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """open_clip's evaluation transform, split where the pixels leave the CPU.

    `crop` is all that it does to the image, up to uint8; `normalise` is the rest, on any device.
    Together they equal open_clip's transform to the last bit.
    """

    config: PreprocessCfg

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop."""
        size = self.config.size
        return (size, size) if isinstance(size, int) else tuple(size)

    def crop(self) -> Callable[[Image.Image], np.ndarray]:
        """A function from an image to its crop, uint8 [H, W, 3]."""
        *steps, to_tensor, normalise = image_transform_v2(self.config, is_train=False).transforms
        assert isinstance(normalise, Normalize), "open_clip's transform no longer ends as expected"
        assert "ToTensor" in type(to_tensor).__name__

        def apply(image: Image.Image) -> np.ndarray:
            for step in steps:
                image = step(image)
            return np.asarray(image)

        return apply

    def normalise(self, crops_BHW3: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, 3, H, W] of uint8 crops, on their device."""
        mean, std = (
            torch.tensor(values, device=crops_BHW3.device).view(3, 1, 1)
            for values in (self.config.mean, self.config.std)
        )
        return crops_BHW3.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)


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
        return self.heads[head](F.normalize(features.float(), dim=-1))


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that a worker needs to load the experts; small, and safe to pickle."""

    config: ModelConfig
    experts: tuple[ExpertConfig, ...]
    base: str | None
    heads: tuple[HeadSpec, ...]
    digests: Mapping[str, str] = field(default_factory=dict)  # address of a checkpoint -> its hash


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

    def classifier(self, state: StateDict, device: torch.device, dtype: torch.dtype) -> Classifier:
        """A model of its own with these weights; its tower is cast to `dtype`."""
        model = copy.deepcopy(self.skeleton)
        model.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                               for name, tensor in state.items()}, strict=True)  # fmt: skip
        model.visual.to(device=device, dtype=dtype)
        model.heads.to(device=device, dtype=torch.float32)
        return model.eval().requires_grad_(False)


def resolve_head(
    model: ModelConfig, checkpoint_has_head: bool, dataset: str, class_names: str | None,
    templates: str | None,
) -> HeadSpec:  # fmt: skip
    """The head that scores a data set; `class_names` and `templates` are the set's own, if any.

    Raises:
        UserError: a head is asked for that cannot be had.
    """
    if model.head == "checkpoint" and not checkpoint_has_head:
        raise UserError(
            f"model.head is checkpoint, but the checkpoint has no {HEAD}.weight. Use head: "
            "zero_shot with class_names, or a checkpoint that was saved with its head."
        )
    if model.head != "zero_shot" and checkpoint_has_head:
        return HeadSpec()
    names = class_names or model.class_names
    if names is None:
        why = (
            "model.head is zero_shot"
            if model.head == "zero_shot"
            else f"the checkpoints bring no {HEAD}.weight"
        )
        raise UserError(
            f"Data set '{dataset}' needs a zero-shot head, as {why}: "
            "give model.class_names (imagenet, or a file with a class name a line)."
        )
    templates = templates or model.templates
    digest = hashlib.sha256(json.dumps([names, templates]).encode()).hexdigest()[:8]
    return HeadSpec(
        key=f"zero_shot_{digest}", class_names=read_class_names(names), templates=templates
    )


def read_class_names(spec: str) -> tuple[str, ...]:
    """Class names of a known list or of a text file with one a line.

    Raises:
        UserError: it is neither, or the file is empty.
    """
    if spec in KNOWN_CLASS_NAMES:
        return KNOWN_CLASS_NAMES[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown class names {spec!r}. Expected {', '.join(KNOWN_CLASS_NAMES)} or a .txt file "
            "with a class name a line."
        )
    return read_lines(spec, "class names")


def read_templates(spec: str) -> Sequence[Callable[[str], str] | str]:
    """Prompt templates of a known list or of a text file, one a line, with {} or {c} for the name.

    Raises:
        UserError: it is neither, or a line has no place for the name.
    """
    if spec in KNOWN_TEMPLATES:
        return KNOWN_TEMPLATES[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown templates {spec!r}. Expected {', '.join(KNOWN_TEMPLATES)} or a .txt file "
            "with a line like: a photo of a {}."
        )
    templates = [line.replace("{c}", "{}") for line in read_lines(spec, "templates")]
    for template in templates:
        if template.count("{}") != 1:
            raise UserError(
                f"Template {template!r} in {spec!r} needs one {{}} where the class name goes."
            )
    return templates


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
        return _read_pretrained(address, architecture)
    tensors = read_tensors(address, digest)
    if all(key.startswith("module.") for key in tensors):  # saved under DataParallel
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    if any(key.startswith("model.visual.") for key in tensors):  # naver-ai/dawin, WiSE-FT
        tensors = {key.removeprefix("model."): value for key, value in tensors.items()}
    return tensors


def load_experts(
    spec: ModelSpec, checkpoints: Mapping[str, Mapping[str, torch.Tensor]] | None = None
) -> Experts:
    """Load all experts (and the base of task vectors) and check that they can be merged.

    `checkpoints` are the tensors where `read_checkpoint` has been called already, by address.

    Raises:
        UserError: a checkpoint is missing, does not fit the architecture, or cannot be merged.
    """
    model = create_model(spec.config)
    named = {expert.name: expert.checkpoint for expert in spec.experts}
    if spec.base is not None:
        named["merge.base"] = spec.base
    features = _feature_width(model)
    states: dict[str, StateDict] = {}
    for name, address in named.items():
        if checkpoints is not None and address in checkpoints:
            tensors = checkpoints[address]
        else:
            tensors = read_checkpoint(address, spec.config.architecture, spec.digests.get(address))
        states[name] = _expert_state(model, tensors, spec, features, name, address)
    check_mergeable(states)
    base = states.pop("merge.base", None)
    first = next(iter(states.values()))
    heads = {head.key: tuple(first[f"heads.{head.key}.weight"].shape) for head in spec.heads}
    return Experts(
        skeleton=Classifier(model.visual, heads).eval(),
        states=tuple(states.values()),
        base=base,
        preprocessing=Preprocessing(config=PreprocessCfg(**model.visual.preprocess_cfg)),
    )


def create_model(config: ModelConfig, pretrained: str | None = None) -> nn.Module:
    """open_clip's model of an architecture, without weights unless a pretrained tag is given.

    Raises:
        UserError: the architecture is unknown, or its config file cannot be used.
    """
    name = _register(config.architecture)
    with _quiet_open_clip():
        try:
            return open_clip.create_model(
                name,
                pretrained=pretrained,
                load_weights=pretrained is not None,
                pretrained_text=False,
                force_preprocess_cfg=config.preprocess.model_dump(exclude_none=True),
            )
        except Exception as error:  # a wrong value in a config fails anywhere in open_clip
            what = f"with the weights '{pretrained}'" if pretrained else "from its config"
            raise UserError(
                f"open_clip cannot build the architecture {config.architecture!r} {what}: {error}"
            ) from error


def _register(architecture: str) -> str:
    """open_clip's name for an architecture; a config file is registered under a name of its own."""
    if not architecture.endswith(".json"):
        if architecture not in open_clip.list_models():
            near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
            raise UserError(
                f"Unknown architecture {architecture!r}: open_clip has no model of that name, and "
                "it is no path of a model config (.json)."
                + (f" Did you mean {', '.join(near)}?" if near else "")
            )
        return architecture
    data = read_bytes(architecture, "model config")
    try:
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - json.loads(data).keys()
    except (ValueError, AttributeError) as error:
        raise UserError(f"The model config {architecture!r} is no JSON object: {error}") from error
    if missing:
        raise UserError(f"The model config {architecture!r} lacks {', '.join(sorted(missing))}.")
    # open_clip names a config by its file; the hash keeps two files of one name apart
    name = f"{Path(architecture).stem}-{hashlib.sha256(data).hexdigest()[:12]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.json")
            path.write_bytes(data)
            open_clip.add_model_config(path)
    return name


def _read_pretrained(tag: str, architecture: str) -> dict[str, torch.Tensor]:
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise UserError(
            f"No checkpoint {tag!r}: it is neither a file ({', '.join(CHECKPOINT_SUFFIXES)}) nor a "
            f"pretrained tag that open_clip knows for {architecture!r}"
            + (f" ({', '.join(tags)})." if tags else ".")
        )
    model = create_model(ModelConfig(architecture=architecture), pretrained=tag)
    return dict(model.state_dict())


def _expert_state(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    spec: ModelSpec,
    features: int,
    name: str,
    address: str,
) -> StateDict:
    """`visual.*` and `heads.*` of a checkpoint, checked against the architecture."""
    architecture = spec.config.architecture
    expected = {f"visual.{k}": v for k, v in model.visual.state_dict().items()}
    converted = convert_state_dict(model, dict(tensors))
    state = {k: v for k, v in converted.items() if k.startswith("visual.")}
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
        raise UserError(
            f"The checkpoint of '{name}' ({address!r}) does not fit the architecture "
            f"{architecture!r}: it {', and '.join(detail)}. Check model.architecture (the "
            "-quickgelu variants have their own names) and the checkpoint."
        )
    for head in spec.heads:
        if head.zero_shot:
            weight, bias = _zero_shot_head(model, converted, head, spec.config, name, address)
        else:
            weight, bias = converted.get(f"{HEAD}.weight"), converted.get(f"{HEAD}.bias")
            if weight is None:
                raise UserError(
                    f"The checkpoint of '{name}' ({address!r}) has no {HEAD}.weight, which the "
                    "other experts have. Save all experts with their heads, or use head: zero_shot."
                )
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


def _feature_width(model: nn.Module) -> int:
    """Width of the tower's output, found by a forward of one black image."""
    height, width = Preprocessing(config=PreprocessCfg(**model.visual.preprocess_cfg)).size
    with torch.inference_mode():
        features = model.eval().visual(torch.zeros(1, 3, height, width))
    return (features[0] if isinstance(features, tuple) else features).shape[-1]


def _zero_shot_head(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], head: HeadSpec, config: ModelConfig,
    name: str, address: str,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Weight [C, features] of the head that this checkpoint's own text tower makes, scaled."""
    state = {k: v for k, v in tensors.items() if not k.startswith(HEAD)}
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"The checkpoint of '{name}' ({address!r}) cannot make a zero-shot head, because its "
            f"text tower does not fit {config.architecture!r}: {error}"
        ) from error
    tokenizer = open_clip.get_tokenizer(_register(config.architecture))
    weight = open_clip.build_zero_shot_classifier(
        model.eval(), tokenizer, head.class_names, read_templates(head.templates)
    ).T
    return (model.logit_scale.detach().exp() * weight).contiguous(), None


@contextmanager
def _quiet_open_clip():
    """Without open_clip's warning that a model has no weights: we load them ourselves."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def preprocessing_fingerprint(preprocessing: Preprocessing) -> dict[str, Any]:
    """What identifies a preprocessing: open_clip's settings and version."""
    return {**asdict(preprocessing.config), "open_clip": open_clip.__version__}
