"""Which shards are split, and which share a task: every chunk is some reader's, once."""

import pytest

from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice, Task
from dawin_ray.data.splitting import (
    LARGE,
    MIN_SPLIT_BYTES,
    TASK_BYTES,
    TASKS_PER_READER,
    forecast,
    large_above,
    tasks_of,
)

MB = 1_000_000


def shards(*sizes: int, form: str = "webdataset", version: str = "1") -> list[Shard]:
    return [
        Shard(
            dataset="set", name=f"{i}.tar", address="", format=form, bytes=size, key=f"{i}",
            version=version,
        )
        for i, size in enumerate(sizes)
    ]  # fmt: skip


def tasks(found: list[Shard], readers: int, chunks: int | None = None) -> list[Task]:
    above = large_above(found, readers)
    return tasks_of(found, readers, above, lambda large: [chunks] * len(large))


def ordinals(part: Slice, chunks: int) -> list[int]:
    return [i for i in range(chunks) if part.holds(i)]


def test_tiny_neighbours_share_a_task_and_every_shard_has_one():
    found = shards(*[10] * 1000, 5000, *[10] * 1000)
    made = tasks(found, 4)
    assert [part.shard for task in made for part in task] == found
    assert all(part.is_whole for task in made for part in task)
    assert [len(task) for task in made if any(p.shard.bytes == 5000 for p in task)] == [1]
    assert 4 * 10 < len(made) < 100


@pytest.mark.parametrize("size", [10, TASK_BYTES])
def test_readers_are_not_left_idle_for_the_sake_of_few_tasks(size):
    """Few shards have a task each, and large ones in any case."""
    assert len(tasks(shards(*[size] * 64), 4)) == 64
    assert tasks([], 4) == []


@pytest.mark.parametrize(("chunks", "parts"), [(200, 64), (64, 64), (7, 7), (1, 1), (None, 1)])
def test_one_large_shard_keeps_all_readers_busy(chunks, parts):
    (shard,) = shards(500 * MB)
    made = tasks([shard], 4, chunks)
    assert [len(task) for task in made] == [1] * parts
    slices = [part for (part,) in made]
    assert [(part.index, part.count) for part in slices] == [(i, parts) for i in range(parts)]
    held = [ordinals(part, chunks or 1) for part in slices]
    assert [i for some in held for i in some] == list(range(chunks or 1))
    assert max(map(len, held)) - min(map(len, held)) <= 1
    assert slices[-1].last is None  # whatever comes behind the last chunk that is known


def test_a_shard_much_larger_than_others_is_split_and_the_others_are_not():
    found = shards(*[20 * MB] * 20, 400 * MB, *[20 * MB] * 20)
    made = tasks(found, 4, 100)
    parts = [part for task in made for part in task if not part.is_whole]
    assert {part.shard.key for part in parts} == {"20"}
    assert len(parts) == -(-400 * TASKS_PER_READER * 4 // 1200)
    assert [p.shard for t in made for p in t if p.index == 0] == found


@pytest.mark.parametrize(
    "found",
    [
        shards(*[500 * MB] * 4 * LARGE),
        shards(MIN_SPLIT_BYTES),
        shards(500 * MB, form="idx"),
        shards(500 * MB, version=""),
    ],
    ids=["enough for all readers", "small", "of a format that is read whole", "of no known state"],
)
def test_shards_that_are_not_split_are_not_looked_into(found):
    def counts(large):
        raise AssertionError(large)

    made = tasks_of(found, 4, large_above(found, 4), counts)
    assert [part for task in made for part in task] == [Slice(shard=shard) for shard in found]


def test_one_reader_splits_nothing():
    found = shards(500 * MB)
    assert tasks(found, 1, 100) == [(Slice(shard=found[0]),)]


def test_the_plan_says_which_shards_are_split_and_which_share_tasks():
    told = str(forecast(shards(900 * MB, *[MB] * 100), 4))
    assert told.startswith("1 shards of more than 62 MB in parts by several readers")
    assert "; 100 small shards together, in 7 tasks" in told
    assert str(forecast(shards(*[MB] * 10), 4)) == "each shard by one reader"
