"""Parquet shards of every shape: rows where they can be read, else one reject with a remedy."""

import errno
import re

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.registry import count_samples, read_samples
from dawin_ray.errors import UserError
from dawin_ray.models.preprocessing import Preprocessing
from dawin_ray.names import MADE
from tests.conftest import make_images

IMAGES = make_images(3)
BYTES = pa.array(IMAGES, pa.binary())
LABELS = pa.array([0, 1, 2])


def struct(values: list, kind: pa.DataType) -> pa.Array:
    return pa.array([{"bytes": v, "path": None} for v in values],
                    pa.struct([("bytes", kind), ("path", pa.string())]))  # fmt: skip


def shard_of(path, **options) -> Shard:
    return Shard(
        dataset="set", name=path.name, address=str(path), format="parquet",
        bytes=path.stat().st_size, key="s", **options,
    )  # fmt: skip


def write(folder, table: pa.Table, **options):
    pq.write_table(table, folder / "a.parquet", **options)
    return folder / "a.parquet"


def columns(*pairs) -> pa.Table:
    """A table whose names may occur twice."""
    return pa.Table.from_arrays([a for _, a in pairs], names=[n for n, _ in pairs])


OF_ANOTHER_SHAPE = {
    "two columns of images": (
        columns(("image", BYTES), ("image", BYTES), ("label", LABELS)),
        {}, r"2 columns named 'image'.*rename.*image_column",
    ),
    "two structs of images": (
        columns(("img", struct(IMAGES, pa.binary())), ("img", struct(IMAGES, pa.binary()))),
        {}, r"2 columns named 'img'.*rename",
    ),
    "bytes are strings": (
        pa.table({"image": struct(["x"] * 3, pa.string()), "label": LABELS}),
        {}, r"no column of encoded images.*'image' is struct<bytes: string.*image_column",
    ),
    "bytes are integers": (
        pa.table({"image": struct([1] * 3, pa.int64()), "label": LABELS}),
        {}, r"'image' is struct<bytes: int64.*image_column",
    ),
    "bytes are lists": (
        pa.table({"image": struct([[1]] * 3, pa.list_(pa.int64()))}),
        {}, r"'image' is struct<bytes: list<.*image_column",
    ),
    "bytes are a struct": (
        pa.table({"image": [{"bytes": {"bytes": i}} for i in IMAGES]}),
        {}, r"'image' is struct<bytes: struct<.*image_column",
    ),
    "a struct without bytes": (
        pa.table({"image": [{"path": "a"}] * 3}), {}, r"'image' is struct<path: string>",
    ),
    "lists of images": (
        pa.table({"image": [[i] for i in IMAGES]}), {}, r"'image' is list<.*binary",
    ),
    "a path in the place of an image": (
        pa.table({"image": ["a.jpg"] * 3}), {}, r"'image' is string",
    ),
    "a column of another type was named": (
        pa.table({"image": BYTES, "thumb": [1, 2, 3]}),
        {"image_column": "thumb"}, r"named 'thumb'.*'thumb' is int64",
    ),
    "a column that is not there was named": (
        pa.table({"image": BYTES}), {"image_column": "scan"}, r"named 'scan'.*columns are image",
    ),
    "a name that means two columns": (
        columns(("image", struct(IMAGES, pa.binary())), ("image.bytes", BYTES)),
        {}, r"2 columns 'image.bytes'",
    ),
    "two columns of labels": (
        columns(("image", BYTES), ("label", LABELS), ("label", LABELS)),
        {}, r"'label' is there 2 times.*label_column",
    ),
    "a nested label": (
        pa.table({"image": BYTES, "label": [{"id": 1}] * 3}),
        {}, r"'label' is struct<id: int64>.*label_column",
    ),
    "a list of labels": (
        pa.table({"image": BYTES, "label": [[1]] * 3}), {}, r"'label' is list<.*label_column",
    ),
    "labels that are bytes": (
        pa.table({"image": BYTES, "label": BYTES}), {}, r"'label' is binary.*label_column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_ANOTHER_SHAPE)
def test_a_file_of_another_shape_is_one_broken_reject_with_all_its_rows(tmp_path, name):
    table, options, said = OF_ANOTHER_SHAPE[name]
    shard = shard_of(write(tmp_path, table), **options)
    [sample] = read_samples(shard)
    assert re.search(said, sample.error)
    assert (sample.sample_id, sample.image) == (f"a.parquet/{MADE}0", None)
    assert (sample.broken, sample.lost) == (True, 3)
    told = []
    assert count_samples(shard, told.append) == 3
    assert [(t.error, t.broken, t.lost) for t in told] == [(sample.error, True, 3)]
    [chunk] = DecodeImages(
        Preprocessing.of({"size": (32, 32)}), 4, {"set": DatasetClasses(count=3)}
    )(shard)
    [reject] = chunk.rejects
    assert (reject.reason, reject.broken, reject.lost) == (sample.error, True, 3)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IMAGES, pa.large_binary()),
        pa.array(IMAGES).dictionary_encode(),
        struct(IMAGES, pa.large_binary()),
        pa.chunked_array([IMAGES[:1], IMAGES[1:]]),
    ],
)
def test_images_are_read_however_their_bytes_were_typed(tmp_path, column):
    path = write(tmp_path, pa.table({"image": column, "label": LABELS, "other": [[1], [], [2]]}))
    found = list(read_samples(shard_of(path)))
    assert [s.image for s in found] == IMAGES
    assert [s.label for s in found] == [0, 1, 2]


def test_only_the_columns_that_are_needed_are_read(tmp_path):
    """What lies beside the images may be damaged."""
    table = pa.table({"image": struct(IMAGES, pa.binary()), "text": ["words " * 99] * 3})
    path = write(tmp_path, table, compression="none", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.path_in_schema == "text"
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 30] = b"\xff" * 30
    path.write_bytes(data)
    assert [s.image for s in read_samples(shard_of(path))] == IMAGES


@pytest.mark.parametrize("broken", range(4))
def test_what_is_lost_behind_a_break_is_counted_by_the_footer(tmp_path, broken):
    table = pa.table({"image": IMAGES * 4})
    path = write(tmp_path, table, row_group_size=3, compression="none", use_dictionary=False)
    begin = pq.ParquetFile(path).metadata.row_group(broken).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[begin : begin + 16] = b"\xff" * 16
    path.write_bytes(data)
    *good, last = read_samples(shard_of(path))
    assert len(good) == 3 * broken
    assert not any(sample.broken for sample in good)
    assert f"breaks after row {3 * broken} of 12" in last.error
    assert (last.broken, last.lost) == (True, 12 - 3 * broken)
    assert last.sample_id == f"a.parquet/{MADE}{3 * broken}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (b"", "0 bytes"),
        (b"<!doctype html>" * 9, "does not end with PAR1"),
    ],
)
def test_a_file_that_is_no_parquet_says_what_it_is(tmp_path, content, said):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    [sample] = read_samples(shard_of(path))
    assert "no readable Parquet" in sample.error
    assert said in sample.error
    assert (sample.broken, sample.lost) == (True, None)
    assert str(tmp_path) not in sample.error
    assert count_samples(shard_of(path)) is None


def test_an_image_larger_than_any_is_a_reject_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_MEMBER_BYTES", 1000)
    path = write(tmp_path, pa.table({"image": [b"1", b"2" * 1001, b"3"], "label": LABELS}))
    found = list(read_samples(shard_of(path)))
    assert [s.image for s in found] == [b"1", None, b"3"]
    assert "1,001 bytes; at most 1,000" in found[1].error
    assert not found[1].broken


def test_one_entry_of_a_dictionary_for_all_rows_takes_no_more_memory_than_a_row(tmp_path):
    """A few hundred bytes that stand for 240 MB of images, of which one is held at a time."""
    table = pa.table({"image": pa.array([bytes(4 << 20)] * 60)})
    path = write(tmp_path, table, compression="zstd", dictionary_pagesize_limit=1 << 30)
    del table
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    for sample in read_samples(shard_of(path)):
        assert len(sample.image) == 4 << 20
        most = max(most, pool.bytes_allocated() - before)
    assert most < 40 << 20


def test_names_that_are_no_text_are_shown_and_kept_apart(tmp_path):
    path = write(tmp_path, pa.table({"image": IMAGES}))
    names = ["\udcff.parquet", "\\xff.parquet", MADE + "0.parquet"]
    found = set()
    for name in names:
        shard = Shard(dataset="set", name=name, address=str(path), format="parquet",
                      bytes=path.stat().st_size, key="s")  # fmt: skip
        found |= {sample.sample_id for sample in read_samples(shard)}
    assert len(found) == 3 * len(names)
    assert all(name.encode() for name in found)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT])
@pytest.mark.parametrize("call", ["read", "seek", "tell"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_disk_that_fails_stops_the_run_with_the_name(tmp_path, monkeypatch, number, call, after):
    images = [i * 300 for i in IMAGES * 20]  # larger than what is read at once
    path = write(tmp_path, pa.table({"image": images}), row_group_size=5, compression="none")
    opener = fsspec.implementations.local.LocalFileOpener
    real, calls = getattr(opener, call, None), []

    def fail(self, *arguments):
        calls.append(call)
        if len(calls) > after:
            raise OSError(number, "the disk failed")
        return real(self, *arguments) if real else getattr(self.f, call)(*arguments)

    monkeypatch.setattr(opener, call, fail, raising=False)
    with pytest.raises(UserError, match=r"a\.parquet.*the disk failed"):
        list(read_samples(shard_of(path)))


def test_a_label_that_is_no_text_is_a_reject_of_its_row(tmp_path):
    """Arrow does not look whether its strings are UTF-8; Python does."""
    offsets, data = pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffb")
    labels = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    path = write(tmp_path, pa.table({"image": BYTES, "label": labels}))
    found = list(read_samples(shard_of(path, label_names=("a", "b"))))
    assert [s.label for s in found] == [0, None, 1]
    assert [s.error for s in found] == [None, "the label is no UTF-8 text", None]


@pytest.mark.parametrize("value", [0x00, 0x01, 0x09, 0x7F, 0x80, 0xFF])
def test_no_byte_of_a_footer_ends_the_run_or_loses_a_row_silently(tmp_path, value):
    """Offsets before the file or behind it, counts and kinds that are wrong, and so on."""
    path = write(tmp_path, pa.table({"image": [b"1", b"2", b"3"], "label": LABELS}))
    good = path.read_bytes()
    length = int.from_bytes(good[-8:-4], "little")
    broken = 0
    for at in range(len(good) - 8 - length, len(good)):
        path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
        found = list(read_samples(shard_of(path)))
        assert len({sample.sample_id for sample in found}) == len(found), at
        if found and found[-1].broken:
            broken += 1
        else:
            assert len(found) == 3, at
    assert broken > length // 20
