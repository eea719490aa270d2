"""A shard that several read: the same chunks, rejects and bytes as one reader's, whatever it is."""

import dataclasses
import io
import json
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dawin_ray.attempts import UNCOUNTED, Tries
from dawin_ray.data import reading
from dawin_ray.data.chunks import Chunk
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.crop_cache import CropCache, ReadChunks
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.formats.registry import FORMATS
from dawin_ray.data.shard_index import CountChunks, Indexes
from dawin_ray.data.slices import Slice
from dawin_ray.data.versions import local_version
from dawin_ray.errors import UserError
from dawin_ray.models.preprocessing import Preprocessing
from tests.unit.data.formats.test_tars import tar
from tests.unit.data.test_fuzz import spoil

SIZE = 3  # samples of a chunk
COUNT = 20
CLASSES = 9
IMAGES = [bytes([33 + i]) * (200 + 37 * i) for i in range(COUNT)]


def look(encoded: bytes, border: int) -> np.ndarray | str:
    """A crop of one value, in place of a decoder."""
    return np.full((2, 2, 3), sum(encoded) % 256, np.uint8) if len(encoded) > 250 else "too small"


def decode_with(indexes: Indexes | None) -> DecodeImages:
    preprocessing = Preprocessing.of({"size": 2})
    decode = DecodeImages(preprocessing, SIZE, {"set": DatasetClasses(count=CLASSES)}, indexes)
    decode.image = look
    return decode


def labelled(images=tuple(IMAGES)) -> list[tuple[str, bytes]]:
    return [m for i, d in enumerate(images) for m in ((f"{i}.jpg", d), (f"{i}.cls", b"%d" % i))]


def parquet(**options) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"image": pa.array(IMAGES, pa.binary()), "label": range(COUNT)})
    pq.write_table(table, buffer, **{"row_group_size": 4, "use_dictionary": False, **options})
    return buffer.getvalue()


def shard_of(folder: Path, name: str, data: bytes, **settings) -> Shard:
    path = folder / name
    path.write_bytes(data)
    form = "webdataset" if "tar" in name else "parquet"
    version = local_version(path.stat())
    return Shard(
        dataset="set", name=name, address=str(path), format=form, bytes=len(data), key="s",
        version=version, **settings,
    )  # fmt: skip


def plain(chunks: list[Chunk]) -> list[dict]:
    """All of the chunks, pixels too, but how long they took."""
    timeless = {"read_seconds": 0.0, "decode_seconds": 0.0}
    return [
        {**dataclasses.asdict(chunk), "images": chunk.images.tolist(), **timeless}
        for chunk in chunks
    ]


def cuts(chunks: int, parts: int) -> list[tuple[int, int | None]]:
    bounds = [chunks * i // parts for i in range(parts)]
    return list(zip(bounds, [b - 1 for b in bounds[1:]] + [None], strict=True))


def slices(shard: Shard, chunks: int, parts: int) -> list[Slice]:
    return [
        Slice(shard=shard, first=first, last=last, index=i, count=parts)
        for i, (first, last) in enumerate(cuts(chunks, parts))
    ]


def indexes_in(folder: Path) -> Indexes:
    return Indexes(root=str(folder / "index"), chunk_size=SIZE, above=0)


def same_in_parts(folder: Path, shard: Shard) -> int | None:
    """Read it in one go and in parts, which must be the same; the chunks of its index, if any."""
    indexes = indexes_in(folder)
    whole = plain(list(decode_with(None)(shard)))
    chunks = CountChunks(indexes, UNCOUNTED)(shard)
    assert chunks is None or chunks == -(-sum(_count(c) for c in whole) // SIZE)
    for parts in {1, 2, len(whole)} if chunks else {1}:
        read = [
            chunk
            for part in slices(shard, chunks or 1, parts)
            for chunk in decode_with(indexes).of(part)
        ]
        assert plain(read) == whole
    return chunks


def _count(chunk: dict) -> int:
    return len(chunk["sample_ids"]) + len(chunk["rejects"])


TARS = {
    "labelled": tar(labelled()),
    "in pax headers": tar([(f"{'long' * 60}{n}", d) for n, d in labelled()]),
    "several images of a key": tar(
        [(f"{i // 4}.{i % 4}.png", d) for i, d in enumerate(IMAGES)]
    ),
    "labels in JSON": tar(
        [m for i, d in enumerate(IMAGES) for m in
         ((f"{i}.jpg", d), (f"{i}.json", json.dumps({"label": i}).encode()))]
    ),
    "two archives": tar(labelled(IMAGES[:9])) + tar(labelled(IMAGES)[18:]),
    "one archive cut, another behind": tar(labelled())[:9000] + tar(labelled()),
    "folders and what has no key": tar(
        [m for i, d in enumerate(IMAGES) for m in ((f"{i}.jpg", d), ("README", b"x"))]
    ),
    "a label is zeros": tar(labelled())[:30 * 512] + bytes(1024) + tar(labelled())[32 * 512:],
}  # fmt: skip


@pytest.mark.parametrize("data", TARS.values(), ids=TARS)
def test_a_tar_in_parts_is_the_tar(tmp_path, data):
    assert same_in_parts(tmp_path, shard_of(tmp_path, "s.tar", data)) is not None


@pytest.mark.parametrize("options", [{}, {"row_group_size": 1}, {"row_group_size": 99}])
def test_a_parquet_file_in_parts_is_the_file(tmp_path, options):
    shard = shard_of(tmp_path, "s.parquet", parquet(**options))
    assert same_in_parts(tmp_path, shard) == -(-COUNT // SIZE)


@pytest.mark.parametrize("name", ["s.tar", "s.parquet"])
def test_a_spoilt_shard_in_parts_is_the_shard(tmp_path, name):
    """Broken anywhere, the same samples and rejects come, and what stands for the rest once."""
    good = {"s.tar": TARS["labelled"], "s.parquet": parquet()}[name]
    split = 0
    for case in range(120):
        shard = shard_of(tmp_path, name, spoil(good, random.Random(case)))
        split += same_in_parts(tmp_path, shard) is not None
    assert split > 30


def test_a_cut_tar_in_parts_is_the_tar(tmp_path):
    for at in range(0, len(TARS["labelled"]), 1700):
        same_in_parts(tmp_path, shard_of(tmp_path, "s.tar", TARS["labelled"][:at]))


def test_a_part_reads_little_of_what_is_before_it(tmp_path, monkeypatch):
    """Its first sample, that of the same key before it, and one behind its end."""
    shard, indexes = shard_of(tmp_path, "s.tar", TARS["labelled"]), indexes_in(tmp_path)
    CountChunks(indexes, UNCOUNTED)(shard)
    read = []
    real = reading.read_samples

    def counted(*args):
        for sample in real(*args):
            read.append(sample)
            yield sample

    monkeypatch.setattr(reading, "read_samples", counted)
    [*_] = decode_with(indexes).of(Slice(shard=shard, first=3, last=4, index=1, count=3))
    assert len(read) == 2 * SIZE + 1
    read.clear()
    done = {f"s-{i * SIZE:09d}" for i in (3, 4)}  # and of a part that is done, nothing
    assert not list(decode_with(indexes).of(Slice(shard=shard, first=3, last=4), done))
    assert not read


def test_without_an_index_a_part_is_the_same(tmp_path):
    shard = shard_of(tmp_path, "s.tar", TARS["labelled"])
    whole = plain(list(decode_with(None)(shard)))
    for indexes in (None, indexes_in(tmp_path)):
        found = [
            chunk for part in slices(shard, 7, 3) for chunk in decode_with(indexes).of(part)
        ]  # fmt: skip
        for chunk in found:
            chunk.__dict__["bytes"] = 0  # progress only: who comes by more has read more
        assert plain(found) == [{**chunk, "bytes": 0} for chunk in whole]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("s.tar", tar([*labelled(), *labelled()[:2]])),
        ("s.tar.gz", __import__("gzip").compress(TARS["labelled"])),
        ("s.tar", tar(labelled(IMAGES[:SIZE]))),
        ("s.tar", b"version https://git-lfs.github.com/spec/v1\n" + bytes(900)),
    ],
    ids=["a key is there again", "compressed", "one chunk", "no tar"],
)
def test_what_only_one_reader_can_read_has_no_index(tmp_path, name, data):
    assert same_in_parts(tmp_path, shard_of(tmp_path, name, data)) is None


def index_file(indexes: Indexes, shard: Shard) -> Path:
    return Path(indexes.address_of(shard))


def test_an_index_of_another_state_or_a_damaged_one_is_not_used(tmp_path):
    shard, indexes = shard_of(tmp_path, "s.tar", TARS["labelled"]), indexes_in(tmp_path)
    made = indexes.scan(shard)
    assert indexes.read(shard) == made
    assert indexes.read(dataclasses.replace(shard, version="other")) is None
    assert indexes.read(dataclasses.replace(shard, bytes=shard.bytes + 1)) is None
    assert dataclasses.replace(indexes, chunk_size=SIZE + 1).read(shard) is None
    path = index_file(indexes, shard)
    good = path.read_bytes()
    for at in (0, 70, len(good) // 2):
        path.write_bytes(good[:at] + b"x" + good[at + 1 :])
        assert indexes.read(shard) is None
        path.write_bytes(good[:at])
        assert indexes.read(shard) is None
    assert CountChunks(indexes, UNCOUNTED)(shard) == made.chunks  # it is made again
    assert indexes.read(shard) == made


def test_an_index_that_lies_is_told_before_a_row_is(tmp_path):
    shard, indexes = shard_of(tmp_path, "s.tar", TARS["labelled"]), indexes_in(tmp_path)
    made = indexes.scan(shard)
    starts = list(made.starts)
    starts[2] = starts[3]  # samples would be missing
    indexes.keep(shard, dataclasses.replace(made, starts=tuple(starts)))
    decode = decode_with(indexes)
    with pytest.raises(UserError, match=r"is not that of its file.*--restart"):
        [chunk for part in slices(shard, 7, 7) for chunk in decode.of(part)]


def test_a_shard_that_changed_is_not_indexed(tmp_path):
    shard = shard_of(tmp_path, "s.tar", TARS["labelled"])
    Path(shard.address).write_bytes(TARS["labelled"] + bytes(512))
    with pytest.raises(UserError, match="has changed since it was listed"):
        CountChunks(indexes_in(tmp_path), UNCOUNTED)(shard)


def test_a_shard_that_kills_who_indexes_it_is_left_to_its_reader(tmp_path):
    shard = shard_of(tmp_path, "s.tar", TARS["labelled"])
    died = Tries(lambda method, *_, **__: int(method == "begin"), lambda *_, **__: None)
    assert CountChunks(indexes_in(tmp_path), died)(shard) is None


@pytest.mark.parametrize("name", ["s.tar", "s.parquet"])
def test_the_first_reading_of_all_of_a_large_shard_leaves_its_index(tmp_path, name):
    data = {"s.tar": TARS["labelled"], "s.parquet": parquet()}[name]
    shard, indexes = shard_of(tmp_path, name, data), indexes_in(tmp_path)
    list(decode_with(dataclasses.replace(indexes, above=len(data)))(shard))
    assert indexes.read(shard) is None  # it is not large
    chunks = list(decode_with(indexes)(shard))
    noted = indexes.read(shard)
    assert noted == indexes.scan(shard)
    assert noted.chunks == len(chunks)


def test_parts_leave_their_crops_for_the_second_pass(tmp_path):
    """Sliced in other ways too; what another reader could not keep is decoded again."""
    shard, indexes = shard_of(tmp_path, "s.tar", TARS["labelled"]), indexes_in(tmp_path)
    chunks = CountChunks(indexes, UNCOUNTED)(shard)
    decode = decode_with(indexes)
    read = ReadChunks(decode, CropCache(str(tmp_path / "cache"), {"set": "0" * 64}))
    whole = plain([chunk for part in slices(shard, chunks, 3) for chunk in read(part)])
    assert whole == plain(list(decode_with(None)(shard)))
    decode.image = lambda *_: "decoded again"
    for parts in (1, 2, 3, 7):
        again = [chunk for part in slices(shard, chunks, parts) for chunk in read(part)]
        assert plain(again) == whole
    [lost] = (tmp_path / "cache").rglob(f"s-{SIZE:09d}.crops")
    lost.unlink()
    decode.image = look
    again = [chunk for part in slices(shard, chunks, 7) for chunk in read(part)]
    assert plain(again) == whole


def test_a_chunk_says_how_long_it_was_read_and_decoded(tmp_path):
    """And not how long whoever asked for it had it before asking for the next."""
    shard, decode = shard_of(tmp_path, "s.tar", TARS["labelled"]), decode_with(None)

    def slow(encoded: bytes, border: int) -> np.ndarray | str:
        time.sleep(0.01)
        return look(encoded, border)

    decode.image = slow
    cache = CropCache(str(tmp_path / "cache"), {"set": "0" * 64})
    read, chunks = ReadChunks(decode, cache), []
    for chunk in read(Slice(shard=shard)):
        chunks.append(chunk)
        time.sleep(0.2)
    samples = [len(chunk.sample_ids) + len(chunk.rejects) for chunk in chunks]
    assert samples[0] == SIZE
    for chunk, count in zip(chunks, samples, strict=True):
        assert 0.01 * len(chunk.sample_ids) <= chunk.decode_seconds < 0.01 * count + 0.1
        assert 0 < chunk.read_seconds < 0.15
    cached = list(read(Slice(shard=shard)))
    assert [chunk.name for chunk in cached] == [chunk.name for chunk in chunks]
    assert {chunk.decode_seconds for chunk in cached} == {0}
    assert all(0 < chunk.read_seconds < 0.15 for chunk in cached)


def test_formats_that_are_read_in_parts():
    assert {name for name, kind in FORMATS.items() if kind.partly} == {"webdataset", "parquet"}
