"""Sums that come out the same in any order of adding: two whole numbers each, which add exactly.

A sum is its whole part and, in units of 2^-UNIT, the rest. [..., 2].
"""

from __future__ import annotations

import numpy as np

UNIT = 40  # bits behind the point; 2^23 sums add before the rest overflows


def sums_of(values: np.ndarray) -> np.ndarray:
    """Sums that were made as float64 [...] as int64 [..., 2], to 2^-41 each."""
    whole = np.floor(values)
    rest = np.rint((values - whole) * 2.0**UNIT)
    return np.stack([whole, rest], axis=-1).astype(np.int64)


def floats_of(sums: np.ndarray) -> np.ndarray:
    """The reverse, float64 [...]."""
    floats: np.ndarray = sums[..., 0] + sums[..., 1] * 2.0**-UNIT
    return floats
