"""What a job says of its model, and what identifies it: experts, heads, digests; no tensor yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, model_validator

from dawin_ray.models.preprocessing import PreprocessConfig
from dawin_ray.records import digest
from dawin_ray.settings import Settings

CHECKPOINT_HEAD = "checkpoint"  # the key of the head that comes with the checkpoint

KEY_DIGITS = 16  # of a head's digest

Head = Literal["auto", "checkpoint", "zero_shot"]


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head: the checkpoint's, one of a file, or a zero-shot one of class names and templates.

    Experts have heads of their own if they were saved with them, or make them of their own text
    towers; those are merged like all weights. A shared head is one and the same for all experts,
    for the base of task vectors and for what is merged of them.
    """

    key: str = CHECKPOINT_HEAD
    file: str | None = None
    sha256: str | None = None  # of the file
    class_names: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None  # with one PLACE each
    of_base: bool = False  # the text tower of the base of task vectors makes it

    @property
    def zero_shot(self) -> bool:
        """Whether open_clip builds it from text."""
        return self.class_names is not None

    @property
    def shared(self) -> bool:
        """Whether it is one and the same for all models, and so is never merged."""
        return self.file is not None or self.of_base

    @property
    def digests(self) -> dict[str, str]:
        """Of what it is made of; none for the head of a checkpoint, whose hash holds it."""
        if self.sha256 is not None:
            return {"head": self.sha256}
        if not self.zero_shot:
            return {}
        texts = {"class_names": digest(self.class_names), "templates": digest(self.templates)}
        return texts | ({"text_tower": "merge.base"} if self.of_base else {})


class ZeroShotConfig(Settings):
    """The texts of a zero-shot head, as in `model`, or a task's of the eight that are known."""

    class_names: str
    """imagenet, sun397, cars, resisc45, eurosat, svhn, gtsrb, mnist, dtd, or a file with a name a
    line."""
    templates: str | None = None
    """Null: those of the same name, for a task that is known; else the model's."""


class HeadConfig(Settings):
    """A data set's own head: the one of a file, or a zero-shot one.

    A head of a file is one and the same for all experts and is never merged. A zero-shot head is
    made by the base's text tower where there is `merge.base`, and then shared likewise.
    """

    checkpoint: str | None = None
    """A file with `classification_head.weight`, or `weight`, of [classes, features]."""
    zero_shot: ZeroShotConfig | None = None

    @model_validator(mode="after")
    def _check_one(self) -> HeadConfig:
        if (self.checkpoint is None) == (self.zero_shot is None):
            raise ValueError("give either checkpoint: FILE or zero_shot: {class_names: ...}")
        return self


class ModelConfig(Settings):
    """The experts' architecture, their head and preprocessing.

    `head` auto takes the checkpoints' heads where all have one, and the zero-shot head where none
    has, which open_clip builds from `class_names` (imagenet, or a file with a name a line) and
    `templates` (openai-imagenet, simple-imagenet, or a file with a line like `a photo of a {}.`).
    """

    architecture: str
    """An open_clip name, or the path of a model config (.json)."""
    head: Head = "auto"
    class_names: str | None = None
    templates: str = "openai-imagenet"
    preprocess: PreprocessConfig = PreprocessConfig()


UNTEMPERED = 1.0


class ExpertConfig(Settings):
    """A named checkpoint; `temperature` divides its logits before entropies and confidences."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Stands in tables, columns and reports."""
    checkpoint: str
    """A .safetensors file, a .pt state dict, or one of open_clip's pretrained tags."""
    temperature: float = Field(default=UNTEMPERED, gt=0)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that a worker needs to load the experts; small, and safe to pickle."""

    config: ModelConfig
    experts: tuple[ExpertConfig, ...]
    base: str | None
    heads: tuple[HeadSpec, ...]
    # address of a checkpoint or of the architecture -> hash of its content, held against it
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> dict[str, str]:
        """Addresses by the experts' names; the base of task vectors is `merge.base`."""
        found = {expert.name: expert.checkpoint for expert in self.experts}
        return found if self.base is None else found | {"merge.base": self.base}
