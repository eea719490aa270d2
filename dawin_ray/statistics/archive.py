"""A few arrays and what they are of, as bytes that follow from them alone; no pickle is read.

MAGIC, the CRC-32 of what follows and the length of the header in eight bytes each, the header as
JSON, then each array's bytes in the header's order: whole numbers `packed`, float32 as it is, the
lowest byte first.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dawin_ray.statistics.packing import packed, unpacked, unzigzag, zigzag

MAGIC = b"dawin summary 1\n"


def archived(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of uint64, int64 or float32 as bytes, with a value of JSON."""
    contents, entries = [], []
    for name, array in arrays.items():
        kind = array.dtype.kind
        if kind == "f":
            content = np.ascontiguousarray(array, dtype="<f4").tobytes()
        else:
            content = packed(array if kind == "u" else zigzag(array))
        contents.append(content)
        entries.append([name, kind, list(array.shape), len(content)])
    header = json.dumps({"about": about, "arrays": entries}).encode()
    body = b"".join([_number(len(header)), header, *contents])
    return b"".join([MAGIC, _number(zlib.crc32(body)), body])


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def unarchived(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """What `archived` made bytes of. An array takes no more memory than its bytes allow.

    Raises:
        ValueError: they are damaged.
    """
    body = content[len(MAGIC) + 8 :]
    if content[: len(MAGIC) + 8] != MAGIC + _number(zlib.crc32(body)):
        raise ValueError("it is no summary, or not as it was written")
    end = 8 + int.from_bytes(body[:8], "little")
    try:
        header = json.loads(body[8:end])
        arrays = {}
        for name, kind, shape, length in header["arrays"]:
            arrays[str(name)] = _array(body[end : end + length], kind, shape)
            end += length
        about = header["about"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header is damaged: {error!r}") from error
    if end != len(body):
        raise ValueError(f"it has {len(body)} bytes, not {end}")
    return about, arrays


def _array(content: bytes, kind: str, shape: list[int]) -> np.ndarray:
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"no shape: {shape}")
    count = math.prod(shape)
    if kind == "f":
        if len(content) != 4 * count:
            raise ValueError(f"{len(content)} bytes hold no {shape} numbers")
        return np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(shape)
    values = unpacked(content, count)
    return (values if kind == "u" else unzigzag(values)).reshape(shape)
