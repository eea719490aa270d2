"""Images of a suite of textures: eighteen patterns, woven cloth as their clean domain, ten shifts.

Everything is colour, uint8, and drawn by formulas. Image i of any set of the suite has the same
class, place and turn of the dice: a set's style and corruption are all that differs.
Shape suffixes: N images, H and W pixels (both SIDE), L pixels of a large drawing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from corruptions import SIDE, Corruption, blur, corrupted, dim, jpeg, noise, patch, shadow
from scipy import ndimage, spatial

DRAWN = 2  # times SIDE: patterns are drawn large, then reduced
MIN_CONTRAST = 70  # grey levels between ink and paper

# Coordinates in periods [L, L] each, and a generator, to ink in [0, 1].
Pattern = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _wave(x: np.ndarray) -> np.ndarray:
    """Of period 1, in [-1, 1]."""
    found: np.ndarray = np.sin(2 * np.pi * x)
    return found


def _from_lattice(u: np.ndarray, v: np.ndarray, staggered: float) -> np.ndarray:
    """Distance to the next of a lattice's points, whose rows are shifted by `staggered`."""
    row = np.floor(v)
    distances = [
        np.hypot((u - staggered * (r % 2) + 0.5) % 1 - 0.5, v - r - 0.5)
        for r in (row - 1, row, row + 1)
    ]
    found: np.ndarray = np.min(distances, axis=0)
    return found


def _smooth(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit deviation and a correlation length."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), width, mode="wrap")
    found: np.ndarray = field / field.std()
    return found


def _cells(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Borders between the regions of random points."""
    low, high = (np.array([f(u), f(v)]) for f in (np.min, np.max))
    count = max(int(np.prod(high - low)), 3)
    tree = spatial.cKDTree(rng.uniform(low, high, (count, 2)))
    near = tree.query(np.stack([u, v], axis=-1), k=2)[0]
    found: np.ndarray = near[..., 1] - near[..., 0] < 0.16
    return found


def _speckle(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small discs anywhere."""
    low, high = (np.array([f(u), f(v)]) for f in (np.min, np.max))
    points = rng.uniform(low, high, (max(int(2.5 * np.prod(high - low)), 4), 2))
    found: np.ndarray = spatial.cKDTree(points).query(np.stack([u, v], axis=-1))[0] < 0.2
    return found


PATTERNS: dict[str, Pattern] = {
    "stripes": lambda u, v, rng: _wave(u) > 0,
    "checks": lambda u, v, rng: _wave(u / 1.4) * _wave(v / 1.4) > 0,
    "dots": lambda u, v, rng: _from_lattice(u, v, 0) < 0.3,
    "rings": lambda u, v, rng: _wave(np.hypot(u, v)) > 0,
    "bricks": lambda u, v, rng: ((2 * v) % 1 < 0.8) & ((u + 0.5 * (np.floor(2 * v) % 2)) % 1 < 0.9),
    "mesh": lambda u, v, rng: (u % 1 < 0.22) | (v % 1 < 0.22),
    "zigzag": lambda u, v, rng: _wave(u + np.abs(v % 1 - 0.5)) > 0,
    "waves": lambda u, v, rng: 0.5 + 0.5 * _wave(u + 0.25 * _wave(v / 2)),
    "triangles": lambda u, v, rng: (u - v / 2) % 1 + v % 1 < 1,
    "scales": lambda u, v, rng: np.abs(_from_lattice(u, 2 * v, 0.5) - 0.5) < 0.11,
    "cells": _cells,
    "blobs": lambda u, v, rng: _smooth(u.shape, 0.22 / np.ptp(u[0]) * len(u), rng) > 0,
    "marble": lambda u, v, rng: 0.5 + 0.5 * _wave(u + 0.35 * _smooth(u.shape, 6, rng)),
    "plaid": lambda u, v, rng: 0.5 * (u % 1 < 0.45) + 0.5 * (v % 1 < 0.45),
    "rays": lambda u, v, rng: np.sin(8 * np.arctan2(v, u)) > 0,
    "spiral": lambda u, v, rng: np.sin(2 * np.arctan2(v, u) + 2 * np.pi * np.hypot(u, v)) > 0,
    "crosses": lambda u, v, rng: (
        (np.minimum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) < 0.12)
        & (np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) < 0.38)
    ),
    "speckle": _speckle,
}
CLASSES = tuple(PATTERNS)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How patterns look; ranges are uniform. Periods in pixels of SIDE, angles in degrees."""

    period: tuple[float, float]
    angle: tuple[float, float]
    bend: tuple[float, float] = (0, 0)  # of the coordinates, in pixels
    paper: tuple[tuple[int, int], ...] = ((0, 256),) * 3  # of red, green and blue
    ink: tuple[tuple[int, int], ...] = ((0, 256),) * 3
    weave: tuple[float, float] = (0, 0)  # depth of the cloth's threads, as a share of the light
    noise: tuple[float, float] = (0, 0)  # standard deviation in grey levels


BROAD = Style(period=(5, 12), angle=(-50, 50), bend=(0, 3), weave=(0, 0.3), noise=(0, 10))
WOVEN = Style(
    period=(7, 10),
    angle=(-8, 8),
    bend=(0.5, 1.5),
    paper=((190, 240), (180, 225), (140, 190)),
    ink=((20, 80), (40, 100), (80, 150)),
    weave=(0.4, 0.6),
    noise=(0, 10),
)
# Shifts that are another style, and those that are done to the finished image.
RESTYLED = {
    "turned": replace(WOVEN, angle=(25, 50)),
    "fine": replace(WOVEN, period=(4, 5.5)),
    "dyed": replace(WOVEN, paper=BROAD.paper, ink=BROAD.ink),
    "rumpled": replace(WOVEN, bend=(3, 5)),
}
CORRUPTED: dict[str, Corruption] = {
    "dim": dim,
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "shadow": shadow,
    "patch": patch,
}
DATASETS = ("woven", *RESTYLED, *CORRUPTED)  # their order is part of their seeds
BROAD_SHIFTS = (dim, noise)  # that a third of the images of pretraining have
TEST_IMAGES = 792  # 44 of each pattern
SEED = 1_701


def draw(label: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """One pattern as an image [32, 32, 3] uint8."""
    side, dice = DRAWN * SIDE, rng.random(16)

    def between(k: int, limits: tuple[float, float]) -> float:
        return float(limits[0] + dice[k] * (limits[1] - limits[0]))

    period, turn = DRAWN * between(0, style.period), np.radians(between(1, style.angle))
    y, x = np.mgrid[:side, :side] - side * (0.3 + 0.4 * dice[2:4, None, None])
    depth = DRAWN * between(4, style.bend)
    x = x + depth * np.sin(y / side * 7 + 9 * dice[5])
    y = y + depth * np.sin(x / side * 6 + 9 * dice[6])
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    ink_LL = np.asarray(PATTERNS[CLASSES[label]](u / period, v / period, rng), dtype=float)
    share_HW = ink_LL.reshape(SIDE, DRAWN, SIDE, DRAWN).mean(axis=(1, 3))
    colours = [np.zeros(3)] * 2
    while abs(colours[0].mean() - colours[1].mean()) < MIN_CONTRAST:
        colours = [np.array([rng.uniform(*c) for c in tone]) for tone in (style.paper, style.ink)]
    image_HWC = colours[0] + (colours[1] - colours[0]) * share_HW[..., None]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    over_HW = (rows + columns) % 2 * 1.0  # threads go over and under each other
    image_HWC = image_HWC * (1 - between(7, style.weave) * over_HW[..., None])
    image_HWC += between(8, style.noise) * rng.standard_normal(image_HWC.shape)
    rounded: np.ndarray = image_HWC.round().clip(0, 255).astype(np.uint8)
    return rounded


def textures(count: int, style: Style, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] uint8 of balanced classes and labels [N] int64, shuffled."""
    labels_N = np.random.default_rng(seed).permutation(
        np.arange(count, dtype=np.int64) % len(CLASSES)
    )
    images = [
        draw(label, style, np.random.default_rng([*seed, 1 + i]))
        for i, label in enumerate(labels_N)
    ]
    return np.stack(images), labels_N


def test_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of DATASETS: images [N, 32, 32, 3] uint8 and labels [N], the same at every call."""
    images, labels_N = textures(TEST_IMAGES, RESTYLED.get(name, WOVEN), (SEED,))
    if name in CORRUPTED:
        images = corrupted(images, CORRUPTED[name], (SEED, DATASETS.index(name)))
    return images, labels_N


def reference() -> np.ndarray:
    """Clean images that are neither in a test set nor fine-tuned to."""
    return textures(TEST_IMAGES, WOVEN, (SEED + 1,))[0]


def broad_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the zero-shot expert learns: any size, turn and colour."""
    images, labels_N = textures(count, BROAD, (seed, 0))
    for k, shift in enumerate(BROAD_SHIFTS):
        rows = slice(k, None, 3 * len(BROAD_SHIFTS))
        images[rows] = corrupted(images[rows], shift, (seed, 2 + k))
    return images, labels_N


def fine_tuning_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the fine-tuned expert learns on top of it: woven ones."""
    return textures(count, WOVEN, (seed, 1))
