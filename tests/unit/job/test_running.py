"""What a pass has left to do."""

from dawin_ray.data.datasets import Shard
from dawin_ray.job.running import work_left


def shard(key: str, count: int) -> Shard:
    images = tuple((f"{i}", 10, None) for i in range(count))
    return Shard(
        dataset="set", name=key, address="", format="folder", bytes=10 * count, key=key,
        images=images,
    )  # fmt: skip


def test_work_is_in_images_where_they_are_counted_and_without_the_chunks_that_are_there():
    shards, counts = [shard("a", 20), shard("b", 16)], {("set", "a"): 20, ("set", "b"): 16}
    there = {("set", "a"): {"a-000000000"}}
    assert work_left(shards, there, counts, 16) == 4 + 16
    assert work_left(shards, there, None, 16) == 360
