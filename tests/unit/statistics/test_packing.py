"""Whole numbers as bytes, and back."""

import numpy as np
import pytest

from dawin_ray.statistics.packing import packed, unpacked, unzigzag, zigzag


def test_numbers_of_every_length_come_back():
    draw = np.random.default_rng(0)
    values = (draw.integers(0, 2**63, 5_000).astype(np.uint64) * np.uint64(2)) >> draw.integers(
        0, 64, 5_000
    ).astype(np.uint64)
    values[:3] = [0, 127, 2**64 - 1]
    content = packed(values)
    np.testing.assert_array_equal(unpacked(content, 5_000), values)
    assert len(packed(np.array([0, 127], dtype=np.uint64))) == 2
    assert unpacked(b"", 0).tolist() == []


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\x01\x02", b"\x01\x80", b"\x80" * 10 + b"\x01"]
)
def test_other_bytes_are_refused(content):
    with pytest.raises(ValueError, match=r"hold|64 bits"):
        unpacked(content, 1)


def test_signed_numbers_come_back():
    values = np.array([0, -1, 1, -(2**63), 2**63 - 1, 12345, -999])
    np.testing.assert_array_equal(unzigzag(zigzag(values)), values)
    assert zigzag(np.array([0, -1, 1, -2])).tolist() == [0, 1, 2, 3]
