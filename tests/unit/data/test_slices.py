"""Slices of shards, and how they travel."""

from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice, slices_of, to_text


def shards(*sizes: int) -> list[Shard]:
    return [
        Shard(
            dataset="set", name=f"{i}.tar", address="", format="webdataset", bytes=size, key=f"{i}"
        )
        for i, size in enumerate(sizes)
    ]


def test_a_slice_has_its_chunks():
    (shard,) = shards(1)
    assert Slice(shard=shard).is_whole
    assert Slice(shard=shard).holds(10**9)
    part = Slice(shard=shard, first=2, last=4, index=1, count=3)
    assert not part.is_whole
    assert [i for i in range(9) if part.holds(i)] == [2, 3, 4]
    assert not Slice(shard=shard, first=5, index=2, count=3).is_whole


def test_a_task_travels_as_text():
    first, second = shards(1, 2)
    task = (Slice(shard=first, first=3, last=7, index=1, count=4), Slice(shard=second))
    assert tuple(slices_of(to_text(task))) == task
