"""Sums that are the same however their values are split, ordered and grouped.

Each value is rounded to 2^-UNIT, which float32 values from 2^-12 on are whole multiples of, and a
sum is two whole numbers: its whole part, and the rest in units of 2^-UNIT. [..., 2], int64.
"""

from __future__ import annotations

import numpy as np

UNIT = 36  # bits behind the point

LARGEST = 1 << 16  # what is larger counts as this, so that sums of BLOCK fit 63 bits

BLOCK = 1 << 11  # values that are added at a time

GROUPED = 1 << 16  # the same of values in [0, 1] and of float64 sums, which are whole up to 2^53


def sum_of(values_N: np.ndarray) -> np.ndarray:
    """Of values from 0 to LARGEST, [2]."""
    if not len(values_N):
        return np.zeros(2, dtype=np.int64)
    units_N = _units(values_N, LARGEST).astype(np.int64)
    return normal(_split(np.add.reduceat(units_N, np.arange(0, len(units_N), BLOCK))).sum(axis=0))


def sums_by_group(values_N: np.ndarray, group_N: np.ndarray, count: int) -> np.ndarray:
    """Of values in [0, 1], by group [count, 2]."""
    total = np.zeros((count, 2), dtype=np.int64)
    for start in range(0, len(values_N), GROUPED):
        block = slice(start, start + GROUPED)
        units = np.bincount(group_N[block], _units(values_N[block], 1), count).astype(np.int64)
        total += _split(units)
    return normal(total)


def _split(units: np.ndarray) -> np.ndarray:
    split: np.ndarray = np.stack([units >> UNIT, units & ((1 << UNIT) - 1)], axis=-1)
    return split


def _units(values_N: np.ndarray, most: float) -> np.ndarray:
    units_N: np.ndarray = np.minimum(values_N, most).astype(np.float64)
    units_N *= 2.0**UNIT
    np.rint(units_N, out=units_N)
    return units_N


def normal(sums: np.ndarray) -> np.ndarray:
    """The same sums [..., 2], with a rest below 1."""
    whole, rest = sums[..., 0], sums[..., 1]
    carried: np.ndarray = np.stack([whole + (rest >> UNIT), rest & ((1 << UNIT) - 1)], axis=-1)
    return carried


def floats_of(sums: np.ndarray) -> np.ndarray:
    """Sums as float64 [...]."""
    floats: np.ndarray = sums[..., 0] + sums[..., 1] * 2.0**-UNIT
    return floats
