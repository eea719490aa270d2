"""The demo's images: handwritten digits, printed digits, and shifts of both.

Everything is grey, uint8, white ink on black before a shift; every random choice comes from the
generator that is passed in. Shape suffixes: N images, H and W pixels (both SIDE).
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

SIDE = 32  # pixels: the demo model's image size
CLASSES = tuple("0123456789")  # of the demo's head, in its order

TRAIN_DIGITS = 1_000  # of scikit-learn's 1,797; the other 797 are the test digits
PRETRAINING_DIGITS = 400  # the first of the training digits; the zero-shot expert knows only these
SPLIT_SEED = 2410_03782  # the paper's arXiv number; the committed checkpoints depend on it

# Whole families stay unseen (the serif DejaVu; the slanted, sans and typewriter Computer Modern).
# matplotlib's other fonts are left out: STIXNonUni, STIXSiz* and the Display cuts have no digits,
# cmsy10 and cmex10 have symbols at the digits' places, and cmmi10's digits are old-style.
SEEN_FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
)
UNSEEN_FONTS = (
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
)

GLYPH_POINTS = 96  # master glyphs are drawn large once, then reduced
GLYPH_HEIGHT = (20, 31)  # pixels of the finished glyph
GLYPH_STRETCH = (0.8, 1.4)  # of its width: handwriting is wider than print
GLYPH_INK = (160, 256)  # grey level of the strokes
GLYPH_COARSE_SHARE = 0.5  # of the glyphs pass through 8x8 pixels, as scikit-learn's digits did
COARSE_SIDE = 8  # pixels of scikit-learn's digits
DIGIT_INK = 16  # the largest value of scikit-learn's digits

ROTATION_DEGREES = (15.0, 45.0)  # to either side; far below 90: 6 and 9 stay apart
NOISE_LEVEL = (30.0, 80.0)  # standard deviation in grey levels
BLUR_PIXELS = (2.0, 4.5)  # standard deviation; a pixel of the original digit is 4 wide
OCCLUSION_PIXELS = (8, 14)  # side of the square

PRETRAINING_DIGIT_SHARE = 0.4  # of the broad images; the others are glyphs
WHITE = 255


def handwritten_digits(part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's digits enlarged to 32x32, in the fixed split of 1,000 and 797.

    Returns:
        images [N, 32, 32] uint8 and labels [N] int64, shuffled, the same at every call.
    """
    from sklearn.datasets import load_digits

    small_NHW, labels_N = load_digits(return_X_y=True)
    order_N = np.random.default_rng(SPLIT_SEED).permutation(len(labels_N))
    rows_N = order_N[:TRAIN_DIGITS] if part == "train" else order_N[TRAIN_DIGITS:]
    small_NHW = small_NHW.reshape(-1, COARSE_SIDE, COARSE_SIDE)[rows_N] * (WHITE / DIGIT_INK)
    images = [_enlarge(Image.fromarray(small_HW)) for small_HW in small_NHW.astype(np.uint8)]
    return np.stack([np.asarray(image) for image in images]), labels_N[rows_N].astype(np.int64)


def printed_digits(
    count: int, fonts: Sequence[str], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Digits of matplotlib's fonts in random sizes, widths, places, inks and coarseness.

    Args:
        count: N; the classes are balanced (to one image where 10 does not divide it).
        fonts: names out of SEEN_FONTS or UNSEEN_FONTS.
        rng: the source of every random choice.

    Returns:
        images [N, 32, 32] uint8 and labels [N] int64, shuffled.
    """
    labels_N = rng.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    images = [
        _styled(_master_glyph(fonts[int(rng.integers(len(fonts)))], CLASSES[label]), rng)
        for label in labels_N
    ]
    return np.stack(images), labels_N


def rotation(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn each image by 15 to 45 degrees, to either side. [N, 32, 32] uint8 to the same."""
    degrees_N = rng.uniform(*ROTATION_DEGREES, len(images_NHW))
    degrees_N *= rng.choice([-1, 1], len(images_NHW))
    rotated = [
        np.asarray(Image.fromarray(image_HW).rotate(degrees, Image.Resampling.BILINEAR))
        for image_HW, degrees in zip(images_NHW, degrees_N, strict=True)
    ]
    return np.stack(rotated)


def noise(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, each image at its own level. [N, 32, 32] uint8 to the same."""
    level_N11 = rng.uniform(*NOISE_LEVEL, (len(images_NHW), 1, 1))
    noisy_NHW = images_NHW + level_N11 * rng.standard_normal(images_NHW.shape)
    return noisy_NHW.round().clip(0, WHITE).astype(np.uint8)


def inversion(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black ink on white; nothing is random. [N, 32, 32] uint8 to the same."""
    inverted: np.ndarray = WHITE - images_NHW
    return inverted


def edges(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Outlines (gradient magnitude, the strongest white). [N, 32, 32] uint8 to the same."""
    strength_NHW = np.hypot(*np.gradient(images_NHW.astype(np.float32), axis=(1, 2)))
    strongest_N11 = strength_NHW.max(axis=(1, 2), keepdims=True).clip(min=1.0)
    scaled_NHW: np.ndarray = (strength_NHW * (WHITE / strongest_N11)).round().astype(np.uint8)
    return scaled_NHW


def blur(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, each image at its own width. [N, 32, 32] uint8 to the same."""
    widths_N = rng.uniform(*BLUR_PIXELS, len(images_NHW))
    blurred = [
        ndimage.gaussian_filter(image_HW, width)
        for image_HW, width in zip(images_NHW, widths_N, strict=True)
    ]
    return np.stack(blurred)


def occlusion(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover a random square with a random grey. [N, 32, 32] uint8 to the same."""
    covered_NHW = images_NHW.copy()
    for image_HW in covered_NHW:
        side = rng.integers(*OCCLUSION_PIXELS, endpoint=True)
        top, left = rng.integers(0, SIDE - side, size=2, endpoint=True)
        image_HW[top : top + side, left : left + side] = rng.integers(WHITE, endpoint=True)
    return covered_NHW


SHIFTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "rotation": rotation,
    "noise": noise,
    "inversion": inversion,
    "edges": edges,
    "blur": blur,
    "occlusion": occlusion,
}


def broad_images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pretraining images: seen fonts and a part of the training digits, at most one shift each.

    Returns:
        images [N, 32, 32] uint8 and labels [N] int64, in no particular order.
    """
    digits_NHW, digit_labels_N = handwritten_digits("train")
    rows_N = rng.integers(PRETRAINING_DIGITS, size=round(count * PRETRAINING_DIGIT_SHARE))
    glyphs_NHW, glyph_labels_N = printed_digits(count - len(rows_N), SEEN_FONTS, rng)
    images_NHW = np.concatenate([digits_NHW[rows_N], glyphs_NHW])
    labels_N = np.concatenate([digit_labels_N[rows_N], glyph_labels_N])

    shift_N = rng.integers(len(SHIFTS) + 1, size=count)  # the last value means none
    for index, shift in enumerate(SHIFTS.values()):
        images_NHW[shift_N == index] = shift(images_NHW[shift_N == index], rng)
    return images_NHW, labels_N


def _enlarge(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@cache
def _master_glyph(font: str, digit: str) -> Image.Image:
    """One large glyph, cropped to its ink. Shared by all callers: do not change it in place."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", font)
    # The basic layout draws the same with or without the optional raqm library.
    face = ImageFont.truetype(path, GLYPH_POINTS, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (2 * GLYPH_POINTS, 2 * GLYPH_POINTS))
    ImageDraw.Draw(image).text((GLYPH_POINTS // 2, GLYPH_POINTS // 2), digit, WHITE, face)
    return image.crop(image.getbbox())


def _styled(glyph: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A large glyph as one image [32, 32] uint8 in a random style."""
    height = int(rng.integers(*GLYPH_HEIGHT, endpoint=True))
    width = round(glyph.width / glyph.height * height * rng.uniform(*GLYPH_STRETCH))
    width = min(max(width, 1), SIDE)
    ink = glyph.resize((width, height), Image.Resampling.BILINEAR)
    top = int(rng.integers(SIDE - height, endpoint=True))
    left = int(rng.integers(SIDE - width, endpoint=True))
    image = Image.new("L", (SIDE, SIDE))
    image.paste(int(rng.integers(*GLYPH_INK)), (left, top), ink)
    if rng.random() < GLYPH_COARSE_SHARE:
        image = image.filter(ImageFilter.MaxFilter(3))  # as thick as a pen's stroke
        small = image.resize((COARSE_SIDE, COARSE_SIDE), Image.Resampling.BOX)
        image = _enlarge(small)
    return np.asarray(image)
