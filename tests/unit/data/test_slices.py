"""Slices of shards, and which of them share a task."""

import pytest

from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import TASK_BYTES, Slice, slices_of, tasks_of, to_text


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


def test_tiny_neighbours_share_a_task_and_every_shard_has_one():
    found = shards(*[10] * 1000, 5000, *[10] * 1000)
    tasks = tasks_of(found, 4)
    assert [part.shard for task in tasks for part in task] == found
    assert all(part.is_whole for task in tasks for part in task)
    assert [len(task) for task in tasks if any(p.shard.bytes == 5000 for p in task)] == [1]
    assert 4 * 10 < len(tasks) < 100


@pytest.mark.parametrize("size", [10, TASK_BYTES])
def test_readers_are_not_left_idle_for_the_sake_of_few_tasks(size):
    """Few shards have a task each, and large ones in any case."""
    assert len(tasks_of(shards(*[size] * 64), 4)) == 64
    assert tasks_of([], 4) == []
