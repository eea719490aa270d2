"""Arrays of whole numbers as bytes, the same ones on every machine: small numbers take one byte.

Seven bits of a number a byte, the lowest first, and the eighth says that more follow (LEB128).
"""

from __future__ import annotations

import numpy as np

LONGEST = 10  # bytes of a number of 64 bits


def packed(values: np.ndarray) -> bytes:
    """Of uint64 values, of any shape."""
    values_N = np.ascontiguousarray(values, dtype=np.uint64).ravel()
    length_N = np.ones(len(values_N), dtype=np.int64)
    for more in range(1, LONGEST):
        length_N += values_N >= np.uint64(1 << 7 * more)
    ends_N = np.cumsum(length_N)
    content = np.empty(int(ends_N[-1]) if len(ends_N) else 0, dtype=np.uint8)
    starts_N = ends_N - length_N
    for at in range(int(length_N.max(initial=0))):
        here = length_N > at
        seven = (values_N[here] >> np.uint64(7 * at)) & np.uint64(127)
        follows = (length_N[here] > at + 1).astype(np.uint8) << 7
        content[starts_N[here] + at] = seven.astype(np.uint8) | follows
    return content.tobytes()


def unpacked(content: bytes, count: int) -> np.ndarray:
    """The `count` values that `packed` made bytes of, uint64.

    Raises:
        ValueError: they are others.
    """
    bytes_ = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(bytes_ < 128) + 1
    if len(ends) != count or (count and ends[-1] != len(bytes_)) or (not count and len(bytes_)):
        raise ValueError(f"{len(bytes_)} bytes hold {len(ends)} numbers, not {count}")
    if not count:
        return np.zeros(0, dtype=np.uint64)
    starts = np.r_[0, ends[:-1]]
    if int((ends - starts).max()) > LONGEST:
        raise ValueError("a number has more than 64 bits")
    place = np.arange(len(bytes_)) - np.repeat(starts, ends - starts)
    parts = (bytes_ & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    values: np.ndarray = np.add.reduceat(parts, starts)
    return values


def zigzag(values: np.ndarray) -> np.ndarray:
    """Signed values as unsigned ones, small where they are near 0."""
    values = np.asarray(values, dtype=np.int64)
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def unzigzag(values: np.ndarray) -> np.ndarray:
    """The reverse, int64."""
    half = (values >> np.uint64(1)).view(np.int64)
    return half ^ -(values & np.uint64(1)).astype(np.int64)
