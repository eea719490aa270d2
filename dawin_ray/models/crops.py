"""An image becomes its crop, with the pixels of open_clip's transform, by Pillow alone.

open_clip has torchvision do it, which does nothing but call Pillow: the import of both takes three
seconds, in every process that reads images. What each step does is that of torchvision's `Resize`,
`CenterCrop` and `pad`, and of open_clip's `ResizeKeepRatio` and `CenterCropOrPad`
(`open_clip/transform.py`); tests hold the pixels equal to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """open_clip's `PreprocessCfg`, of the same keys and defaults."""

    size: int | tuple[int, int] = 224  # height and width
    mode: str = "RGB"
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        """Refuse what open_clip may know one day, and this does not."""
        assert self.mode == "RGB", "open_clip knows another mode now"
        assert self.interpolation in RESAMPLING, "open_clip knows another interpolation now"
        assert self.resize_mode in ("shortest", "longest", "squash")

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Of a crop."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height, width

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image is resized to."""
        new_height, new_width = self.height_and_width
        if self.resize_mode == "squash":
            return new_width, new_height
        if self.resize_mode == "shortest" and new_height == new_width:
            short = min(width, height)
            return int(new_width * width / short), int(new_height * height / short)
        across, down = width / new_width, height / new_height
        ratio = max(across, down) if self.resize_mode == "longest" else min(across, down)
        return round(width / ratio), round(height / ratio)

    def crop(self, image: Image.Image) -> np.ndarray:
        """Its crop, uint8 [H, W, 3]."""
        height, width = self.height_and_width
        size = self.resized(*image.size)
        if image.size != size:
            image = image.resize(size, RESAMPLING[self._interpolation])
        image = _centred(image, width, height, self.fill_color)
        return np.asarray(image.convert(self.mode))

    @property
    def _interpolation(self) -> str:
        """Of a resize; open_clip does not hand its own on where a crop is no square."""
        height, width = self.height_and_width
        if self.resize_mode == "shortest" and height != width:
            return "bicubic"
        return self.interpolation


def _centred(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """The middle of an image, within a border of `fill` where it is smaller."""
    lacks = max(width - image.width, 0), max(height - image.height, 0)
    if any(lacks):
        border = (lacks[0] // 2, lacks[1] // 2, (lacks[0] + 1) // 2, (lacks[1] + 1) // 2)
        bands = len(image.getbands())
        palette = image.getpalette() if image.mode == "P" else None
        image = ImageOps.expand(image, border, fill if bands == 1 else (fill,) * bands)
        if palette is not None:
            image.putpalette(palette)
    if image.size == (width, height):
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
