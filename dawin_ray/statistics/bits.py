"""float32 values as whole numbers in the same order, so that counts of them are exact.

A key with its lowest bits dropped is the key of an interval of values, which lies within a power of
two: up to 23 bits are dropped, those of the mantissa. N values.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

MANTISSA = 23  # bits of a float32's, the leading one not among them

SIGN = np.uint32(1 << 31)

# The bits of 0.5: from there on, a confidence's key is that of what it lacks to 1.
HALF = 0x3F000000

# By value, or for confidences in [0, 1], the surest first, finest near 1 (and near 0).
Scale = Literal["value", "confidence"]


def keys_of(values_N: np.ndarray, scale: Scale) -> np.ndarray:
    """The key of each value, uint32 [N]; no two values share one.

    Confidences are below 2^31; what lies outside of [0, 1] is clipped.
    """
    values_N = np.asarray(values_N, dtype=np.float32) + np.float32(0)  # one zero alone
    if scale == "value":
        bits_N = values_N.view(np.uint32)
        return np.where(bits_N & SIGN, ~bits_N, bits_N | SIGN)
    values_N = values_N.clip(0, 1)
    lacking_N = (np.float32(1) - values_N).view(np.uint32)  # exact from a half on
    return np.where(values_N >= 0.5, lacking_N, np.uint32(2 * HALF) - values_N.view(np.uint32))


def values_of(keys_N: np.ndarray, scale: Scale) -> np.ndarray:
    """The value of each key, float64 [N]."""
    keys_N = np.asarray(keys_N, dtype=np.uint32)
    if scale == "value":
        bits_N = np.where(keys_N & SIGN, keys_N ^ SIGN, ~keys_N)
        return bits_N.view(np.float32).astype(np.float64)
    sure_N = keys_N <= HALF
    bits_N = np.where(sure_N, keys_N, np.uint32(2 * HALF) - keys_N)
    values_N = bits_N.view(np.float32).astype(np.float64)
    return np.where(sure_N, 1 - values_N, values_N)


def level_of(keys_B: np.ndarray, most: int) -> int:
    """How many low bits are dropped of rising, different keys so that at most `most` are left."""
    if len(keys_B) <= most:
        return 0
    apart_B = (keys_B[1:] ^ keys_B[:-1]).astype(np.float64)
    # neighbours are the same once as many bits are dropped as their difference has
    merging = np.bincount(np.frexp(apart_B)[1], minlength=33)
    left = len(keys_B) - np.cumsum(merging)
    return int(np.flatnonzero(left <= most)[0])
