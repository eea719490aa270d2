"""Characters of matplotlib's fonts as small images, in a style: fonts, sizes, ink, paper, noise.

Everything is grey, uint8; every random choice comes from the generator that is passed in.
Shape suffixes: H and W pixels (both SIDE).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 32  # pixels
WHITE = 255
DRAWN = 3  # times SIDE: characters are drawn large, turned, then reduced
MIN_CONTRAST = 60  # grey levels between ink and paper


@dataclass(frozen=True, kw_only=True)
class Style:
    """How characters look; ranges are uniform. Sizes in pixels of SIDE, angles in degrees."""

    fonts: tuple[str, ...]
    size: tuple[float, float] = (22, 30)
    angle: tuple[float, float] = (-4, 4)
    shear: tuple[float, float] = (0, 0)
    ink: tuple[int, int] = (0, 60)
    paper: tuple[int, int] = (190, 256)
    jitter: float = 2  # of the place, to each side
    dots: int | None = None  # the image passes through so many pixels squared
    noise: tuple[float, float] = (0, 0)  # standard deviation in grey levels


def draw(character: str, style: Style, rng: np.random.Generator) -> np.ndarray:
    """One character as an image [32, 32] uint8. The font must have it."""
    side, font = DRAWN * SIDE, style.fonts[rng.integers(len(style.fonts))]
    face = _face(font, round(DRAWN * rng.uniform(*style.size)))
    mask = Image.new("L", (side, side))
    x, y = side / 2 + DRAWN * rng.uniform(-style.jitter, style.jitter, 2)
    ImageDraw.Draw(mask).text((x, y), character, WHITE, face, anchor="mm")
    shear = rng.uniform(*style.shear)
    mask = mask.transform(
        mask.size,
        Image.Transform.AFFINE,
        (1, shear, -shear * side / 2, 0, 1, 0),
        Image.Resampling.BILINEAR,
    ).rotate(rng.uniform(*style.angle), Image.Resampling.BILINEAR)
    if style.dots:
        mask = mask.resize((style.dots, style.dots), Image.Resampling.BOX)
    share_HW = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX)) / WHITE
    ink, paper = 0, 0
    while abs(ink - paper) < MIN_CONTRAST:
        ink, paper = int(rng.integers(*style.ink)), int(rng.integers(*style.paper))
    image_HW = paper + (ink - paper) * share_HW
    image_HW += rng.uniform(*style.noise) * rng.standard_normal(image_HW.shape)
    rounded_HW: np.ndarray = image_HW.round().clip(0, WHITE).astype(np.uint8)
    return rounded_HW


@cache
def _face(font: str, points: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", font)
    # The basic layout draws the same with or without the optional raqm library.
    return ImageFont.truetype(path, points, layout_engine=ImageFont.Layout.BASIC)
