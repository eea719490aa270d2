"""What the new suites do to finished images: [H, W, 3] uint8 to float, at random strength.

The caller rounds and clips (`corrupted`). Strengths are fixed in the protocol, new_suites.json.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 32  # pixels
WHITE = 255

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def corrupted(images_NHWC: np.ndarray, change: Corruption, seed: Sequence[int]) -> np.ndarray:
    """All images with a corruption, each at a strength of its own: uint8 to uint8."""
    changed = [
        change(image, np.random.default_rng([*seed, i])) for i, image in enumerate(images_NHWC)
    ]
    rounded: np.ndarray = np.stack(changed).round().clip(0, WHITE).astype(np.uint8)
    return rounded


def dim(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A seventh to two fifths of the contrast, around a random grey."""
    changed: np.ndarray = image - image.mean()
    return rng.uniform(50, 200) + rng.uniform(0.14, 0.4) * changed


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, of 25 to 60 grey levels."""
    noisy: np.ndarray = image + rng.uniform(25, 60) * rng.standard_normal(image.shape)
    return noisy


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, of 0.8 to 1.8 pixels."""
    width = rng.uniform(0.8, 1.8)
    blurred: np.ndarray = ndimage.gaussian_filter(image.astype(float), (width, width, 0))
    return blurred


def jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 3 to 15."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=int(rng.integers(3, 16)))
    return np.asarray(Image.open(buffer), dtype=float)


def shadow(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off to one side, down to a quarter."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    slope_HW = np.cos(turn) * x + np.sin(turn) * y
    lit: np.ndarray = image * (0.65 + rng.uniform(0.4, 0.8) * slope_HW).clip(0.1)[..., None]
    return lit


def patch(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of 10 to 16 pixels in a random colour covers something."""
    side = int(rng.integers(10, 17))
    top, left = rng.integers(SIDE - side, size=2, endpoint=True)
    covered = image.astype(float)
    covered[top : top + side, left : left + side] = rng.uniform(0, WHITE, 3)
    return covered


def grey(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without its colours."""
    luminance = np.asarray(Image.fromarray(image).convert("L"), dtype=float)
    return np.repeat(luminance[..., None], 3, axis=-1)
