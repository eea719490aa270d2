"""Images of the second suite: capital letters of matplotlib's fonts, four styles, eight shifts.

Everything is grey, uint8; every random choice comes from the generator that is passed in. Nothing
is shared with the demo but the fonts: other classes, other rendering, other shifts.
Shape suffixes: N images, H and W pixels (both SIDE).
"""

import io
import string
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from dawin_ray.demo.glyphs import SIDE, WHITE, Style, draw
from dawin_ray.demo.images import SEEN_FONTS

CLASSES = tuple(string.ascii_uppercase)
Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # of images [N, 32, 32] uint8

BROAD = Style(
    fonts=SEEN_FONTS,
    size=(12, 32),
    angle=(-20, 20),
    shear=(-0.35, 0.35),
    ink=(0, 256),
    paper=(0, 256),
    jitter=5,
    noise=(0, 45),
)
# What the experts are fine-tuned to: "matrix" is the suite's clean domain, the others are for four
# experts. Their fonts are new to the zero-shot expert.
MATRIX = ("cmtt10.ttf", "cmti10.ttf", "cmmi10.ttf")
STYLES = {
    "matrix": Style(fonts=MATRIX, dots=11),
    "pencil": Style(fonts=("cmss10.ttf",), ink=(80, 150), noise=(10, 30)),
    "serif": Style(fonts=("DejaVuSerif-BoldItalic.ttf",), size=(14, 20), shear=(-0.3, 0.3)),
}
OTHER_FONTS = ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf")


def letters(count: int, style: Style, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32] uint8 of balanced classes and labels [N] int64, shuffled."""
    labels_N = rng.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    return np.stack([draw(CLASSES[label], style, rng) for label in labels_N]), labels_N


def _each(change: Callable[[np.ndarray, np.random.Generator], object]) -> Shift:
    """A shift of one image as a shift of many: [N, 32, 32] uint8 to the same."""

    def shift(images_NHW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changed = [np.asarray(change(image_HW, rng), dtype=float) for image_HW in images_NHW]
        return np.stack(changed).round().clip(0, WHITE).astype(np.uint8)

    return shift


def _perspective(image_HW: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One side is shortened by up to a half; corners come from beyond the paper's edge."""
    corners = np.array([[0, 0], [0, SIDE], [SIDE, SIDE], [SIDE, 0]]) + rng.uniform(-9, 9, (4, 2))
    paper = int(np.median(image_HW[[0, -1]]))
    return Image.fromarray(image_HW).transform(
        (SIDE, SIDE),
        Image.Transform.QUAD,
        tuple(corners.ravel()),
        Image.Resampling.BILINEAR,
        fillcolor=paper,
    )


def _contrast(image_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth to a third of the contrast, around a random grey."""
    changed_HW: np.ndarray = image_HW - image_HW.mean()
    return rng.uniform(60, 196) + rng.uniform(0.1, 0.33) * changed_HW


def _specks(image_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper on 3 to 15 % of the pixels."""
    hit_HW = rng.random(image_HW.shape) < rng.uniform(0.03, 0.15)
    return np.where(hit_HW, WHITE * rng.integers(2, size=image_HW.shape), image_HW)


def _stripes(image_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ruled lines across or down, a pixel wide, every 6 to 9 pixels."""
    period, start = rng.integers(6, 10), rng.integers(9)
    ruled_H = (np.arange(SIDE) + start) % period == 0
    ruled_HW = np.broadcast_to(ruled_H[:, None] if rng.random() < 0.5 else ruled_H, image_HW.shape)
    return np.where(ruled_HW, rng.integers(WHITE + 1), image_HW)


def _small(image_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reduced to 16 to 22 pixels, somewhere on the paper."""
    side = int(rng.integers(16, 23))
    small = Image.fromarray(image_HW).resize((side, side), Image.Resampling.BOX)
    top, left = rng.integers(SIDE - side, size=2, endpoint=True)
    whole_HW = np.full_like(image_HW, np.median(image_HW[[0, -1]]))
    whole_HW[top : top + side, left : left + side] = small
    return whole_HW


def _blocks(image_HW: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """JPEG of quality 1 to 8."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW).save(buffer, format="JPEG", quality=int(rng.integers(1, 9)))
    return Image.open(buffer)


def _gradient(image_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off to one side, down to a quarter, or turns the paper's grey around."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    slope_HW = np.cos(turn) * x + np.sin(turn) * y
    lit_HW: np.ndarray = image_HW * 0.6 + rng.uniform(100, 220) * slope_HW + 40
    return lit_HW


SHIFTS: Mapping[str, Shift] = {
    "perspective": _each(_perspective),
    "contrast": _each(_contrast),
    "specks": _each(_specks),
    "stripes": _each(_stripes),
    "small": _each(_small),
    "blocks": _each(_blocks),
    "gradient": _each(_gradient),
}
BROAD_SHIFTS = (
    "contrast",
    "specks",
    "stripes",
    "gradient",
)  # that pretraining sees, of other fonts
DATASETS = ("matrix", *SHIFTS, "fonts")  # their order is part of their seeds
TEST_IMAGES = 832  # 32 of each letter
FINE_TUNING_IMAGES = 1_000
SEED = 4_711


def make_test_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of DATASETS: images [N, 32, 32] uint8 and labels [N] int64, the same at every call."""
    rng = np.random.default_rng([SEED, DATASETS.index(name)])
    if name == "fonts":
        return letters(TEST_IMAGES, Style(fonts=OTHER_FONTS), rng)
    images_NHW, labels_N = letters(TEST_IMAGES, STYLES["matrix"], np.random.default_rng(SEED))
    return (SHIFTS[name](images_NHW, rng) if name in SHIFTS else images_NHW), labels_N


def broad_images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the zero-shot expert learns, as `letters`: half of it with one of BROAD_SHIFTS."""
    images_NHW, labels_N = letters(count, BROAD, rng)
    shift_N = rng.integers(2 * len(BROAD_SHIFTS), size=count)  # the upper half means none
    for index, name in enumerate(BROAD_SHIFTS):
        images_NHW[shift_N == index] = SHIFTS[name](images_NHW[shift_N == index], rng)
    return images_NHW, labels_N


def fine_tuning_images(style: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the experts of a seed are fine-tuned to, of one of STYLES, as `make_test_set`."""
    rng = np.random.default_rng([seed, list(STYLES).index(style)])
    return letters(FINE_TUNING_IMAGES, STYLES[style], rng)


def make_reference() -> tuple[np.ndarray, np.ndarray]:
    """Clean images that are neither in a test set nor fine-tuned to, as `make_test_set`."""
    return letters(TEST_IMAGES, STYLES["matrix"], np.random.default_rng(SEED + 1))
