"""A reader's slice becomes chunks, without Ray: which are tries, and what a message carries."""

import numpy as np
import pytest

from dawin_ray.attempts import UNCOUNTED
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.crop_cache import ReadChunks
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.slices import Slice
from dawin_ray.engine import wiring
from dawin_ray.engine.wiring import Wiring, chunks_of, message_bytes
from dawin_ray.errors import UserError
from dawin_ray.models.preprocessing import Preprocessing
from dawin_ray.runs.directory import RunDirectory
from tests.conftest import make_images, write_tar
from tests.unit.test_attempts import tries_of


@pytest.mark.parametrize(
    ("chunks", "chunk_bytes", "actors", "together"),
    [
        (100, 1000, 4, 1),  # few chunks: each goes alone
        (4 * 32 * 3, 1000, 4, 3),
        (10**6, 1000, 4, 32),
        (10**6, 300 << 20, 4, 2),
        (10**6, 10 << 30, 4, 1),
        (0, 1000, 1, 1),
    ],
)
def test_a_message_has_as_many_chunks_as_leave_many_messages(chunks, chunk_bytes, actors, together):
    message = message_bytes(chunks, chunk_bytes, actors)
    assert message >= 1
    assert (together - 1) * chunk_bytes <= message < together * chunk_bytes


@pytest.fixture
def read(attempts):
    decode = DecodeImages(Preprocessing.of({"size": (32, 32)}), 8, {"set": DatasetClasses(count=6)})
    return ReadChunks(decode).counted(tries_of(attempts))


@pytest.fixture
def shard(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*make_images(9), b"no image", *make_images(3)], None)
    size = path.stat().st_size
    return Shard(
        dataset="set", name="a.tar", address=str(path), format="webdataset", bytes=size, key="k"
    )


def assert_equal_chunks(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.sample_ids, a.rejects, a.bytes) == (
            b.name, b.sample_ids, b.rejects, b.bytes,
        )  # fmt: skip
        assert np.array_equal(a.images, b.images)


def test_chunks_whose_reader_died_are_the_same(read, shard, attempts):
    undisturbed = list(read(Slice(shard=shard)))
    assert [chunk.name for chunk in undisturbed] == ["k-000000000", "k-000000008"]
    assert attempts.told() == []
    attempts.begin("read", "set/k-000000000")  # once: it is read again
    for _ in range(2):  # twice: one by one
        attempts.begin("read", "set/k-000000008")
    assert_equal_chunks(list(read(Slice(shard=shard))), undisturbed)
    first, second = attempts.told()
    assert attempts.retries() == {"reading": 2}
    assert "samples 0 to 7 of shard 'a.tar' of data set 'set': it is read again" in first
    assert "(2nd time) at samples 8 to 15" in second
    assert "one by one in a process of their own" in second
    assert_equal_chunks([next(iter(read.decode.alone()(shard)))], undisturbed[:1])


def test_chunks_are_tries_of_their_own_where_a_reader_died_at_their_slice(
    read, shard, on, attempts, tmp_path
):
    run = RunDirectory(str(tmp_path / "run"))
    uncounted = ReadChunks(read.decode.counted(UNCOUNTED))
    wiring = Wiring(read=uncounted, finished=lambda shard: (), run=run, on=on)
    undisturbed = list(chunks_of(Slice(shard=shard), wiring))
    assert attempts.ended == {"slices": 1}
    assert [chunk.end is not None for chunk in undisturbed] == [False, False, True]
    attempts.begin("slices", "set/k/0")
    assert_equal_chunks(list(chunks_of(Slice(shard=shard), wiring)), undisturbed)
    assert attempts.ended == {"slices": 2, "read": 2}
    (line,) = attempts.told()
    assert line == "a reader died at shard 'a.tar' of data set 'set': it is read again"


def test_chunks_say_how_often_their_reader_asked_again(read, shard, on, tmp_path, monkeypatch):
    taken = iter([2, 5])
    monkeypatch.setattr(wiring, "take_retries", lambda: next(taken))
    run = RunDirectory(str(tmp_path / "run"))
    reading = Wiring(read=read, finished=lambda shard: (), run=run, on=on)
    found = list(chunks_of(Slice(shard=shard), reading))
    assert [chunk.storage_retries for chunk in found] == [2, 5, 0]


def test_chunks_that_are_there_are_not_read(read, shard):
    assert [chunk.name for chunk in read(Slice(shard=shard), {"k-000000000"})] == ["k-000000008"]
    assert [chunk.name for chunk in read(Slice(shard=shard), {"k-000000008"})] == ["k-000000000"]
    assert list(read(Slice(shard=shard), {"k-000000000", "k-000000008"})) == []


def test_a_reader_that_dies_all_the_same_ends_the_run(read, shard, attempts):
    for _ in range(4):
        attempts.begin("read", "set/k-000000008")
    reading = read(Slice(shard=shard))
    next(reading)
    with pytest.raises(UserError, match=r"4 worker processes died.*samples 8 to 15.*chunk_size"):
        next(reading)
