"""Which preprocessing experts want: a pretrained tag's own, or the architecture's default.

open_clip knows for each tag with which mean, deviation, interpolation and resize mode its weights
were trained; another tag of the same architecture may have others. A file says nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from dawin_ray.errors import UserError
from dawin_ray.models import clip
from dawin_ray.models.checkpoints import is_tag
from dawin_ray.models.crops import CropConfig
from dawin_ray.settings import Settings

SHOWN_TAGS = 4  # in a line for people

QUICK = "-quickgelu"  # ends the name of an architecture with that activation


class PreprocessConfig(Settings):
    """What differs from open_clip's preprocessing of the experts; None keeps its value."""

    mean: tuple[float, float, float] | None = None
    """Of each channel, of values from 0 to 1."""
    std: tuple[float, float, float] | None = None
    """Likewise."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """Of the resize."""
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    """Which side gets the crop's size; squash: both, whatever the shape."""


KEYS = tuple(PreprocessConfig.model_fields)  # a crop's size is the architecture's


def of_tag(architecture: str, tag: str) -> dict[str, Any]:
    """What open_clip's own transform of a pretrained tag has, besides its size."""
    default = clip.transform.PreprocessCfg()
    known = clip.get_pretrained_cfg(architecture, tag)
    whole = clip.transform.merge_preprocess_dict(default, known)
    return {key: _plain(whole[key]) for key in KEYS}


def of_experts(
    architecture: str, checkpoints: Mapping[str, str], config: PreprocessConfig
) -> tuple[dict[str, Any], str]:
    """The preprocessing of experts besides its size, and where it comes from.

    `checkpoints` are addresses by the experts' names, the base of task vectors too. What `config`
    gives goes before what a tag says, and a tag before open_clip's default; files are taken to
    descend from the tag, where there is one.

    Raises:
        UserError: tags want different values, and `config` does not settle which.
    """
    given = {k: _plain(v) for k, v in config.model_dump(exclude_none=True).items()}
    found = {
        name: of_tag(architecture, address) | given
        for name, address in checkpoints.items()
        if is_tag(address)
    }
    over = f"model.preprocess ({', '.join(given)})" if given else ""
    if not found:
        values = of_tag(architecture, "") | given
        if len(given) == len(KEYS):
            return values, over
        others = _exceptions(architecture, values, given)
        source = f"open_clip's default of the architecture{others}"
    else:
        first, values = next(iter(found.items()))
        for name, other in found.items():
            if other != values:
                raise UserError(
                    f"The experts' pixels differ: '{first}' (tag {checkpoints[first]!r}) was "
                    f"trained with {described(values)}, '{name}' (tag {checkpoints[name]!r}) with "
                    f"{described(other)}. One crop feeds all of them, so such weights do not "
                    "belong together; if you mean it, say which values to use: model.preprocess."
                )
        source = f"the tag {checkpoints[first]!r} of '{first}'"
    return values, f"{source}, with {over}" if given else source


def doubt_about_files(
    architecture: str, checkpoints: Mapping[str, str], values: Mapping[str, Any],
    config: PreprocessConfig,
) -> str | None:  # fmt: skip
    """A warning where all are files, and no tag of their architecture was trained with `values`."""
    tags = clip.list_pretrained_tags_by_model(architecture)
    if not tags or any(map(is_tag, checkpoints.values())):
        return None
    given = config.model_dump(exclude_none=True)
    own = {tag: of_tag(architecture, tag) for tag in tags}
    if any(wanted | {key: values[key] for key in given} == values for wanted in own.values()):
        return None
    usual = own[tags[0]]
    alike = [tag for tag, wanted in own.items() if wanted == usual]
    settings = ", ".join(
        f"{key}: {list(value) if isinstance(value, tuple) else value}"
        for key, value in usual.items()
    )
    return (
        f"the checkpoints are files, and pixels have open_clip's default ({described(values)}); "
        f"every pretrained tag of {architecture} was trained with other values, such as "
        f"{_some(alike)}. Where the experts descend from it, set model.preprocess: {{{settings}}}"
    )


def doubts_of(architecture: str, checkpoints: Mapping[str, str]) -> list[str]:
    """What is doubtful of pixels and activation, before a checkpoint is read, in sentences.

    Raises:
        UserError: tags that do not go together, or not with the architecture.
    """
    values, _ = of_experts(architecture, checkpoints, PreprocessConfig())
    doubts = (
        check_activation(architecture, checkpoints),
        doubt_about_files(architecture, checkpoints, values, PreprocessConfig()),
    )
    return [doubt for doubt in doubts if doubt is not None]


def check_activation(architecture: str, checkpoints: Mapping[str, str]) -> str | None:
    """Refuse tags that were trained with the architecture's other activation: wrong logits.

    Where open_clip has no architecture that fits, it is a warning, which is returned.

    Raises:
        UserError: naming the tag and the architecture that fits.
    """
    ours = (clip.get_model_config(architecture) or {}).get("quick_gelu", False)
    called = {True: "QuickGELU", False: "GELU"}
    for name, tag in checkpoints.items():
        known = clip.get_pretrained_cfg(architecture, tag) if is_tag(tag) else {}
        if not known or known.get("quick_gelu", False) == ours:
            continue
        what = (
            f"the weights {tag!r} of '{name}' were trained with {called[not ours]}, and the "
            f"architecture {architecture!r} has {called[ours]}"
        )
        other = architecture.removesuffix(QUICK) if ours else architecture + QUICK
        if other != architecture and other in clip.list_models():
            raise UserError(
                f"{what[0].upper()}{what[1:]}: its logits would be wrong. Set model.architecture: "
                f"{other}."
            )
        return f"{what}: its logits may be wrong; open_clip has no architecture that fits"
    return None


def described(values: Mapping[str, Any]) -> str:
    """In a line, for people."""
    mean, std = (f"({', '.join(f'{x:.4g}' for x in values[key])})" for key in ("mean", "std"))
    return f"mean {mean}, std {std}, {values['interpolation']}, {values['resize_mode']}"


def as_values(config: CropConfig) -> dict[str, Any]:
    """open_clip's settings as plain values, of JSON too."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _exceptions(architecture: str, values: Mapping[str, Any], given: dict[str, Any]) -> str:
    """Which tags of the architecture were trained with other values than these, but for `given`."""
    tags = clip.list_pretrained_tags_by_model(architecture)
    others = [tag for tag in tags if of_tag(architecture, tag) | given != values]
    return f" (its pretrained {_some(others)} had others)" if others else ""


def _some(tags: Sequence[str]) -> str:
    more = f" and {len(tags) - SHOWN_TAGS} more" if len(tags) > SHOWN_TAGS else ""
    return ", ".join(tags[:SHOWN_TAGS]) + more


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """open_clip's evaluation transform, split where the pixels leave the CPU.

    `crop` is all that it does to the image, up to uint8; `normalise` is the rest, on any device.
    Together they equal open_clip's transform to the last bit.
    """

    config: CropConfig
    source: str = field(default="", compare=False)  # of its values, for people

    def to_values(self) -> dict[str, Any]:
        """As JSON has it, for another process; `from_values` is its inverse."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing of `to_values`."""
        return cls.of(values["config"], values["source"])

    @classmethod
    def of(cls, config: Mapping[str, Any], source: str = "") -> Preprocessing:
        """The preprocessing of a `preprocess_cfg`, as open_clip's towers have it."""
        return cls(config=CropConfig(**config), source=source)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop."""
        return self.config.height_and_width

    def crop(self, image: Image.Image) -> np.ndarray:
        """An image's crop, uint8 [H, W, 3]."""
        return self.config.crop(image)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image of these is resized to."""
        return self.config.resized(width, height)

    def normalise(self, crops_BHW3: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [B, 3, H, W] of uint8 crops, on their device."""
        mean, std = (
            torch.tensor(values, device=crops_BHW3.device).view(3, 1, 1)
            for values in (self.config.mean, self.config.std)
        )
        return crops_BHW3.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)


def preprocessing_fingerprint(preprocessing: Preprocessing) -> dict[str, Any]:
    """What identifies a preprocessing: open_clip's settings and version."""
    return {**as_values(preprocessing.config), "open_clip": clip.__version__}
