"""The crop cache gives back what was decoded, and nothing that was decoded otherwise."""

import numpy as np
import pytest

from dawin_ray.cache import CropCache, ReadChunks, cache_key, plan_cache
from dawin_ray.chunks import Chunk, Reject
from dawin_ray.datasets import Shard

SHARD = Shard(dataset="set", name="s.tar", address="", format="webdataset", bytes=9, key="s")
KEY = cache_key({"size": 4}, 2, "files")


def chunk(start: int) -> Chunk:
    rng = np.random.default_rng(start)
    return Chunk(
        name=f"s-{start}", dataset="set", shard="s.tar", shard_key="s",
        sample_ids=[f"a{start}", "b"],
        labels=[start, None], images=rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        rejects=[Reject("c", "broken", 512, "ab")], bytes=5,
    )  # fmt: skip


class Decode:
    """Three chunks, and a record of what was decoded."""

    def __init__(self):
        self.decoded = []

    def __call__(self, shard, skipped=()):
        for start in (0, 2, 4):
            if f"s-{start}" not in skipped:
                self.decoded.append(f"s-{start}")
                yield chunk(start)


def same(one: Chunk, other: Chunk) -> bool:
    rest = [
        {k: v for k, v in vars(c).items() if k != "images"} | {"shape": c.images.shape}
        for c in (one, other)
    ]
    return rest[0] == rest[1] and np.array_equal(one.images, other.images)


@pytest.fixture
def cache(tmp_path) -> CropCache:
    return CropCache(str(tmp_path / "cache"), {"set": KEY})


def test_a_chunk_comes_back_as_it_was(cache):
    assert cache.write(chunk(0))
    assert same(cache.read("set", "s-0"), chunk(0))
    assert cache.read("set", "s-2") is None


def test_the_second_reading_decodes_nothing(cache):
    decode = Decode()
    first = list(ReadChunks(decode, cache)(SHARD))
    assert decode.decoded == ["s-0", "s-2", "s-4"]
    second = list(ReadChunks(decode, cache)(SHARD))
    assert decode.decoded == ["s-0", "s-2", "s-4"]
    assert all(map(same, first, second))
    assert [c.name for c in ReadChunks(decode, cache)(SHARD, ["s-2"])] == ["s-0", "s-4"]
    assert decode.decoded == ["s-0", "s-2", "s-4"]


def test_a_part_of_a_shard_is_never_taken_for_the_whole(cache):
    """A reader that stops early leaves chunks, but no word that they are all."""
    reading = ReadChunks(Decode(), cache)(SHARD)
    next(reading)
    reading.close()
    assert cache.chunks(SHARD) is None
    decode = Decode()
    assert len(list(ReadChunks(decode, cache)(SHARD))) == 3
    assert decode.decoded == ["s-0", "s-2", "s-4"]


@pytest.mark.parametrize("damage", ["cut", "gone", "other bytes", "another key"])
def test_a_damaged_or_stale_chunk_is_decoded_again(cache, damage):
    list(ReadChunks(Decode(), cache)(SHARD))
    path = cache._folder("set") / "s-2.crops"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    elif damage == "other bytes":
        path.write_bytes(b"x" * 1000)
    else:
        other = CropCache(cache.root, {"set": cache_key({"size": 5}, 2, "files")})
        other.write(chunk(2))
        path.write_bytes((other._folder("set") / "s-2.crops").read_bytes())
    decode = Decode()
    again = list(ReadChunks(decode, cache)(SHARD))
    assert sorted(c.name for c in again) == ["s-0", "s-2", "s-4"]
    assert decode.decoded[0] == "s-2"
    assert all(same(c, chunk(int(c.name[2:]))) for c in again)
    assert cache.read("set", "s-2") is not None


def test_the_key_changes_with_all_that_crops_depend_on():
    keys = {
        KEY,
        cache_key({"size": 5}, 2, "files"),
        cache_key({"size": 4}, 3, "files"),
        cache_key({"size": 4}, 2, "other files"),
    }
    assert len(keys) == 4


def test_removal_leaves_what_belongs_to_others(cache):
    other = CropCache(cache.root, {"set": cache_key({"size": 5}, 2, "files")})
    for each in (cache, other):
        each.write(chunk(0))
    cache.remove()
    assert cache.read("set", "s-0") is None
    assert other.read("set", "s-0") is not None
    other.remove()
    assert not (other._folder("set").parent).exists()


def test_a_full_disk_leaves_the_cache_out(cache, monkeypatch):
    usage = type("Usage", (), {"free": 10, "total": 1000})
    monkeypatch.setattr("dawin_ray.cache.shutil.disk_usage", lambda path: usage)
    decode = Decode()
    assert len(list(ReadChunks(decode, cache)(SHARD))) == 3
    assert len(list(ReadChunks(decode, cache)(SHARD))) == 3
    assert len(decode.decoded) == 6


@pytest.mark.parametrize(
    ("asked", "needed", "nodes", "passes", "on", "why"),
    [
        ("auto", 1000, 1, 2, True, "0.00 GB of crops"),
        ("auto", None, 1, 2, True, "uncounted images"),
        ("auto", 10**18, 1, 2, False, "do not fit"),
        ("auto", 1000, 2, 2, False, "2 nodes share no disk"),
        ("auto", 1000, 1, 1, False, "one pass"),
        ("off", 1000, 1, 2, False, "compute.cache is off"),
        ("/shared", 1000, 5, 2, True, "/shared"),
    ],
)
def test_what_is_chosen_and_why(tmp_path, asked, needed, nodes, passes, on, why):
    plan = plan_cache(asked, str(tmp_path), needed=needed, nodes=nodes, passes=passes)
    assert (plan.root is not None) == on
    assert why in plan.why
