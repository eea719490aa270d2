"""What the experts' table keeps of each crop: a hash that copies share, and its range of values.

n samples of a chunk, H x W pixels.
"""

from __future__ import annotations

import math

import numpy as np

BLOCK = 4  # crops at a time: with what is made of them they stay in a processor's cache

# The constants of splitmix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators",
# 2014), whose steps are each one to one.
GAMMA, FIRST, SECOND = (
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def looks_of(images_nHW3: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of crops uint8 [n, H, W, 3]: `crop_hash` uint64 [n], `crop_range` uint8 [n].

    The hash is the same of the same pixels on every machine. It is linear in mixed words of eight
    pixel values, with factors of no pattern: chance alone, not somebody who chooses pixels, makes
    two different crops have one, with a probability of some 2^-64.
    """
    count = len(images_nHW3)
    values_nL = images_nHW3.reshape(count, math.prod(images_nHW3.shape[1:]))
    if beyond := -values_nL.shape[1] % 8:
        values_nL = np.pad(values_nL, ((0, 0), (0, beyond)))
    words_nW = np.ascontiguousarray(values_nL).view("<u8")
    factors_W = _mixed(np.arange(1, words_nW.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    hashes_n, range_n = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint8)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        mixed = words_nW[rows] * FIRST
        mixed ^= mixed >> np.uint64(29)
        hashes_n[rows] = np.einsum("nw,w->n", mixed, factors_W)
        flat = images_nHW3.reshape(count, -1)[rows]
        range_n[rows] = flat.max(axis=1, initial=0) - flat.min(axis=1, initial=255)
    return {"crop_hash": _mixed(hashes_n), "crop_range": range_n}


def _mixed(values: np.ndarray) -> np.ndarray:
    """splitmix64 of uint64."""
    mixed: np.ndarray = values * GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed
