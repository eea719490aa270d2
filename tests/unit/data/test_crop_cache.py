"""The crop cache gives back what was decoded, and nothing that was decoded otherwise."""

import json
import os
import stat
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray.data.chunks import Chunk, Reject
from dawin_ray.data.crop_cache import (
    KEY_FIELD,
    LENGTHS,
    MAGIC,
    CropCache,
    ReadChunks,
    cache_key,
    plan_cache,
)
from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice
from tests.hostile import schemas

SHARD = Shard(dataset="set", name="s.tar", address="", format="webdataset", bytes=9, key="s")
WHOLE = Slice(shard=SHARD)
KEY = cache_key({"size": 4}, 2, "files")


def chunk(start: int) -> Chunk:
    rng = np.random.default_rng(start)
    return Chunk(
        name=f"s-{start:09d}", dataset="set", shard="s.tar", shard_key="s",
        sample_ids=[f"a{start}", "b"],
        labels=[start, None], images=rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        rejects=[Reject("c", "broken", 512, "ab")], bytes=5,
    )  # fmt: skip


class Decode:
    """Three chunks, and a record of what was decoded."""

    def __init__(self):
        self.decoded, self.chunk_size = [], 2

    def of(self, part, skipped=()):
        for ordinal, start in enumerate((0, 2, 4)):
            if part.holds(ordinal) and f"s-{start:09d}" not in skipped:
                self.decoded.append(f"s-{start:09d}")
                yield chunk(start)


def same(one: Chunk, other: Chunk) -> bool:
    """But for how long they took."""
    besides = ("images", "read_seconds", "decode_seconds")
    rest = [
        {k: v for k, v in vars(c).items() if k not in besides} | {"shape": c.images.shape}
        for c in (one, other)
    ]
    return rest[0] == rest[1] and np.array_equal(one.images, other.images)


@pytest.fixture
def cache(tmp_path) -> CropCache:
    return CropCache(str(tmp_path / "cache"), {"set": KEY})


def test_a_chunk_comes_back_as_it_was(cache):
    assert cache.write(chunk(0))
    assert same(cache.read("set", "s-000000000"), chunk(0))
    assert cache.read("set", "s-000000002") is None


def test_the_second_reading_decodes_nothing(cache):
    decode = Decode()
    first = list(ReadChunks(decode, cache)(WHOLE))
    assert decode.decoded == ["s-000000000", "s-000000002", "s-000000004"]
    second = list(ReadChunks(decode, cache)(WHOLE))
    assert decode.decoded == ["s-000000000", "s-000000002", "s-000000004"]
    assert all(map(same, first, second))
    assert [c.name for c in ReadChunks(decode, cache)(WHOLE, ["s-000000002"])] == [
        "s-000000000",
        "s-000000004",
    ]
    assert decode.decoded == ["s-000000000", "s-000000002", "s-000000004"]


def test_a_part_of_a_shard_is_never_taken_for_the_whole(cache):
    """A reader that stops early leaves chunks, but no word that they are all."""
    reading = ReadChunks(Decode(), cache)(WHOLE)
    next(reading)
    reading.close()
    assert cache.chunks(SHARD) is None
    decode = Decode()
    assert len(list(ReadChunks(decode, cache)(WHOLE))) == 3
    assert decode.decoded == ["s-000000000", "s-000000002", "s-000000004"]


@pytest.mark.parametrize("damage", ["cut", "gone", "other bytes", "another key"])
def test_a_damaged_or_stale_chunk_is_decoded_again(cache, damage):
    list(ReadChunks(Decode(), cache)(WHOLE))
    path = cache._folder("set") / "s-000000002.crops"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    elif damage == "other bytes":
        path.write_bytes(b"x" * 1000)
    else:
        other = CropCache(cache.root, {"set": cache_key({"size": 5}, 2, "files")})
        other.write(chunk(2))
        path.write_bytes((other._folder("set") / "s-000000002.crops").read_bytes())
    decode = Decode()
    again = list(ReadChunks(decode, cache)(WHOLE))
    assert sorted(c.name for c in again) == ["s-000000000", "s-000000002", "s-000000004"]
    assert decode.decoded[0] == "s-000000002"
    assert all(same(c, chunk(int(c.name[2:]))) for c in again)
    assert cache.read("set", "s-000000002") is not None


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
    assert cache.read("set", "s-000000000") is None
    assert other.read("set", "s-000000000") is not None
    other.remove()
    assert not (other._folder("set").parent).exists()


def test_a_full_disk_leaves_the_cache_out(cache, monkeypatch):
    usage = type("Usage", (), {"free": 10, "total": 1000})
    monkeypatch.setattr("dawin_ray.data.crop_cache.shutil.disk_usage", lambda path: usage)
    decode = Decode()
    assert len(list(ReadChunks(decode, cache)(WHOLE))) == 3
    assert len(list(ReadChunks(decode, cache)(WHOLE))) == 3
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


# What others may have written


def written(cache) -> tuple:
    """A cached chunk's path, and its bytes."""
    assert cache.write(chunk(0))
    path = cache._folder("set") / "s-000000000.crops"
    return path, path.read_bytes()


def test_no_changed_byte_is_taken_for_the_crops(cache):
    path, good = written(cache)
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert cache.read("set", "s-000000000") is None, at
    path.write_bytes(good)
    assert same(cache.read("set", "s-000000000"), chunk(0))


def with_header(cache, change) -> None:
    """A chunk whose header is another one, with checksums that are right."""
    path, good = written(cache)
    start = len(MAGIC) + LENGTHS.size
    length = LENGTHS.unpack_from(good, len(MAGIC))[2]
    values = json.loads(good[start : start + length])
    header, pixels = json.dumps(change(values)).encode(), good[start + length :]
    lengths = LENGTHS.pack(zlib.crc32(header), zlib.crc32(pixels), len(header))
    path.write_bytes(MAGIC + lengths + header + pixels)


def inner(**other):
    """Other values in the chunk's own part of a header; `None` takes one away."""

    def change(values):
        rest = json.loads(values["chunk"]) | other
        text = json.dumps({k: v for k, v in rest.items() if v is not None})
        return values | {"chunk": text}

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda values: [],
        lambda values: None,
        lambda values: {},
        lambda values: values | {KEY_FIELD.decode(): 5},
        lambda values: values | {"chunk": 5},
        lambda values: values | {"chunk": "[" * 100_000},
        inner(shape=[9, 9, 9, 9]),
        inner(shape=[-1, 4, 4, 3]),
        inner(shape="abc"),
        inner(sample_ids=["a"]),
        inner(sample_ids=None),
        inner(labels=[]),
        inner(name="s-000000002"),
        inner(dataset="other"),
        inner(rejects=[5]),
        inner(rejects=[["a", "b", 1, "c", False, None, "more"]]),
        inner(__class__="os.system"),
    ],
)
def test_a_header_of_another_make_counts_as_missing(cache, change):
    with_header(cache, change)
    read = cache.read("set", "s-000000000")
    assert read is None or same(read, chunk(0))
    assert len(list(ReadChunks(Decode(), cache)(WHOLE))) == 3


def test_an_arrow_file_is_no_cached_chunk_whatever_it_names(cache, tmp_path):
    """As it was before; a type of Arrow's that unpickles would run here."""
    table, _ = schemas(tmp_path / "mark", b"")["column"]
    folder = cache._folder("set")
    folder.mkdir(parents=True)
    path = str(folder / "s-000000000.crops")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert cache.read("set", "s-000000000") is None
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_only_a_plain_file_is_read(cache, tmp_path, what):
    path, good = written(cache)
    path.unlink()
    if what == "link":
        (tmp_path / "elsewhere").write_bytes(good)
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert cache.read("set", "s-000000000") is None


def test_a_link_is_replaced_and_not_written_through(cache, tmp_path):
    path, good = written(cache)
    path.unlink()
    (tmp_path / "elsewhere").write_text("mine")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.write(chunk(0))
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert path.read_bytes() == good
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "names",
    [
        "[1]",
        '"s-000000000"',
        "{}",
        '["../../../etc/passwd"]',
        '["s-000000000", "s-../x"]',
        '["t-0"]',
        "[" * 99_999,
    ],
)
def test_a_list_of_chunks_that_no_shard_has_is_not_believed(cache, names):
    list(ReadChunks(Decode(), cache)(WHOLE))
    path = cache._folder("set") / "s.json"
    assert cache.chunks(SHARD) == ["s-000000000", "s-000000002", "s-000000004"]
    path.write_text(names)
    assert cache.chunks(SHARD) is None
    assert len(list(ReadChunks(Decode(), cache)(WHOLE))) == 3


def planned(run_dir: str, noted: str | None = None):
    return plan_cache("auto", run_dir, needed=None, nodes=1, passes=2, noted=noted)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_the_cache_of_a_remote_run_is_its_owners_under_a_new_name(temporary):
    plans = [planned("s3://bucket/run") for _ in range(3)]
    assert len({plan.root for plan in plans}) == 3
    for plan in plans:
        found = os.lstat(plan.root)
        assert stat.S_ISDIR(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == os.geteuid()
        assert plan.temporary


def test_a_run_that_goes_on_finds_its_cache_again(temporary):
    first = planned("s3://bucket/run")
    assert planned("s3://bucket/run", first.root) == first


@pytest.mark.parametrize(
    "spoil", ["link", "open", "elsewhere", "gone", "file", "other name", "nul"]
)
def test_a_noted_folder_that_is_not_ours_alone_is_not_used(temporary, tmp_path, spoil):
    noted = planned("s3://bucket/run").root
    if spoil == "open":
        os.chmod(noted, 0o777)
    elif spoil == "elsewhere":
        noted = str(tmp_path / "dawin_ray-other")
        os.mkdir(noted, 0o700)
    elif spoil == "other name":
        noted = str(temporary / "mine")
        os.mkdir(noted, 0o700)
    elif spoil == "nul":
        noted = f"{temporary}/dawin_ray-\0"
    else:
        os.rmdir(noted)
        if spoil == "link":
            (tmp_path / "dawin_ray-other").mkdir(0o700)
            os.symlink(tmp_path / "dawin_ray-other", noted)
        elif spoil == "file":
            Path(noted).write_text("")
    again = planned("s3://bucket/run", noted)
    assert again.root != noted
    assert Path(again.root).parent == temporary


def test_the_cache_in_a_run_directory_is_its_owners(tmp_path):
    plan = planned(str(tmp_path))
    assert plan.root == str(tmp_path / "cache")
    assert stat.S_IMODE(os.stat(plan.root).st_mode) == 0o700
    assert not plan.temporary


def test_a_link_in_the_place_of_the_cache_leaves_it_out(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cache").symlink_to(tmp_path / "elsewhere")
    plan = planned(str(tmp_path / "run"))
    assert plan.root is None
    assert "is a link" in plan.why
