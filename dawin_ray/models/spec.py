"""What a job says of its model, and what identifies it: experts, heads, digests; no tensor yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from dawin_ray.models.preprocessing import PreprocessConfig
from dawin_ray.records import digest
from dawin_ray.settings import Settings

CHECKPOINT_HEAD = "checkpoint"  # the key of the head that comes with the checkpoint

KEY_DIGITS = 16  # of a head's digest

Head = Literal["auto", "checkpoint", "zero_shot"]


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head: the checkpoint's, or a zero-shot one of these class names and templates."""

    key: str = CHECKPOINT_HEAD
    class_names: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None  # with one PLACE each

    @property
    def zero_shot(self) -> bool:
        """Whether open_clip builds it from text."""
        return self.key != CHECKPOINT_HEAD

    @property
    def digests(self) -> dict[str, str]:
        """Of its texts; none for the head of a checkpoint, whose hash holds it."""
        if not self.zero_shot:
            return {}
        return {"class_names": digest(self.class_names), "templates": digest(self.templates)}


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


class ExpertConfig(Settings):
    """A named checkpoint; `temperature` divides its logits before entropies and confidences."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Stands in tables, columns and reports."""
    checkpoint: str
    """A .safetensors file, a .pt state dict, or one of open_clip's pretrained tags."""
    temperature: float = Field(default=1.0, gt=0)


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
