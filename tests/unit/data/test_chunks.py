"""A chunk travels as it is, and its pixels are not copied on the way."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray.data.chunks import Chunk, Reject, end_of, pack, unpack
from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice

SHARD = Shard(dataset="set", name="a.tar", address="", format="webdataset", bytes=1, key="key")


def chunk_of(start: int, rows: int) -> Chunk:
    rng = np.random.default_rng(start)
    return Chunk(
        name=f"key-{start:09d}", dataset="set", shard="a.tar", shard_key="key",
        sample_ids=[f"é{start + i}" for i in range(rows)], labels=[None, *range(1, rows)],
        images=rng.integers(0, 256, (rows, 4, 3, 3), np.uint8),
        rejects=[Reject("b", "no image", offset=7, lost=1)], bytes=11,
    )  # fmt: skip


def test_chunks_come_out_of_a_table_as_they_went_in():
    chunks = [chunk_of(0, 2), chunk_of(2, 3), end_of(Slice(shard=SHARD), {"key-000000000": 3}, ())]
    found = unpack(pa.concat_tables(map(pack, chunks)))
    for one, other in zip(found, chunks, strict=True):
        a, b = (vars(dataclasses.replace(c, images=np.empty(0))) for c in (one, other))
        assert str(a) == str(b)
        assert np.array_equal(one.images, other.images)
        assert one.images.shape == other.images.shape


def test_part_of_a_table_is_part_of_its_chunks():
    """As Ray cuts blocks that are too large for it."""
    table = pa.concat_tables(pack(chunk_of(i, 2)) for i in (0, 2, 4)).combine_chunks()
    assert [chunk.name for chunk in unpack(table.slice(1, 2))] == ["key-000000002", "key-000000004"]
    for one, other in zip(unpack(table.slice(1)), unpack(table)[1:], strict=True):
        assert np.array_equal(one.images, other.images)


def test_pixels_are_not_copied():
    chunk = chunk_of(0, 2)
    packed = pack(chunk)
    assert packed["images"].chunk(0).buffers()[2].address == chunk.images.ctypes.data
    (found,) = unpack(packed)
    assert found.images.ctypes.data == chunk.images.ctypes.data


@pytest.mark.parametrize("rows", [slice(0, 2), slice(1, None, 2)])
def test_pixels_may_lie_anyhow(rows):
    whole = chunk_of(0, 5)
    chunk = dataclasses.replace(whole, images=whole.images[rows])
    (found,) = unpack(pack(chunk))
    assert np.array_equal(found.images, whole.images[rows])
