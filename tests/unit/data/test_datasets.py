"""Data sets: what is found at an address, how samples are named, and what broken input becomes."""

import gzip
import io
import re
import shutil
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.formats import folder
from dawin_ray.data.formats.registry import count_samples, read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.errors import UserError
from dawin_ray.models.preprocessing import Preprocessing
from tests.conftest import CLASSES, make_images, write_folder, write_parquet, write_tar

TAR_BLOCK = 512  # bytes of a tar header, and what members are padded to
IMAGES = make_images(6)
LABELS = [3, 0, 5, 1, 1, 4]


def shards_of(path, labels=None, **settings) -> list[Shard]:
    config = DatasetConfig(name="set", path=str(path), **settings)
    return make_shards(config, list_files(config), labels)


def samples_of(path, **settings):
    return [sample for shard in shards_of(path, **settings) for sample in read_samples(shard)]


def ids(samples):
    return [sample.sample_id for sample in samples]


def tar_with(path, members: dict[str, bytes] | list[tuple[str, bytes]], mode="w"):
    """A tar of exactly these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member_end(path, name: str) -> int:
    """Where the data of a tar's member end."""
    with tarfile.open(path) as tar:
        member = tar.getmember(name)
        return member.offset_data + member.size


# Folders of class folders


def test_a_folder_sample_is_named_by_its_path_in_the_data_set(tmp_path):
    root = write_folder(tmp_path / "set", IMAGES, LABELS)
    samples = samples_of(root)
    assert ids(samples) == [
        "class_0/0001.png",
        "class_1/0003.png",
        "class_1/0004.jpg",
        "class_3/0000.jpg",
        "class_4/0005.png",
        "class_5/0002.jpg",
    ]
    assert [sample.image for sample in samples] == [IMAGES[i] for i in (1, 3, 4, 0, 5, 2)]
    assert all(sample.error is None for sample in samples)


def test_an_empty_class_folder_is_listed_and_so_cannot_shift_labels(tmp_path):
    root = write_folder(tmp_path / "set", IMAGES[:2], [0, 5])
    (root / ".cache").mkdir()
    listing = list_files(DatasetConfig(name="set", path=str(root)))
    assert listing.folders == tuple(f"class_{label}" for label in range(CLASSES))
    labels = {folder: i for i, folder in enumerate(listing.folders)}
    [shard] = shards_of(root, labels)
    assert [sample.label for sample in read_samples(shard)] == [0, 5]


def test_an_image_outside_all_class_folders_has_no_label(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("loose.jpg", "a/x.PNG", "a/deep/y.webp"):
        (tmp_path / name).write_bytes(IMAGES[0])
    [shard] = shards_of(tmp_path, {"a": 7})
    assert {s.sample_id: s.label for s in read_samples(shard)} == {
        "loose.jpg": None,
        "a/x.PNG": 7,
        "a/deep/y.webp": 7,
    }


def test_hidden_files_and_other_files_are_no_samples(tmp_path):
    root = write_folder(tmp_path / "set", IMAGES[:1], [0])
    for name in ("class_0/._0000.jpg", "class_0/notes.txt", "README.md"):
        (root / name).write_bytes(b"x")
    assert ids(samples_of(root)) == ["class_0/0000.jpg"]


def test_a_large_folder_becomes_several_shards_that_cover_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "FOLDER_SHARD_IMAGES", 4)
    root = write_folder(tmp_path / "set", IMAGES, LABELS)
    shards = shards_of(root)
    assert [len(shard.images) for shard in shards] == [4, 2]
    assert len({shard.key for shard in shards}) == 2
    assert ids([s for shard in shards for s in read_samples(shard)]) == sorted(
        f"class_{label}/{i:04d}.{('jpg', 'png')[i % 2]}" for i, label in enumerate(LABELS)
    )
    assert sum(shard.bytes for shard in shards) == sum(map(len, IMAGES))


def test_an_image_that_vanished_is_one_error_sample(tmp_path):
    root = write_folder(tmp_path / "set", IMAGES[:3], [0, 0, 0])
    [shard] = shards_of(root)
    (root / "class_0" / "0001.png").unlink()
    samples = list(read_samples(shard))
    assert [sample.error is None for sample in samples] == [True, False, True]
    assert samples[1].image is None
    assert "cannot be read" in samples[1].error


def test_a_glob_takes_the_files_that_match(tmp_path):
    for i in range(3):
        write_tar(tmp_path / "set" / f"{i}.tar", IMAGES[i : i + 1], None, start=i)
    assert ids(samples_of(tmp_path / "set" / "[01].ta?")) == ["0.tar/0000", "1.tar/0001"]


# WebDataset


def test_a_tar_sample_is_named_by_shard_and_key(tmp_path):
    write_tar(tmp_path / "set" / "a.tar", IMAGES[:2], LABELS[:2])
    write_tar(tmp_path / "set" / "b.tar", IMAGES[2:4], LABELS[2:4], start=2)
    samples = samples_of(tmp_path / "set")
    assert ids(samples) == ["a.tar/0000", "a.tar/0001", "b.tar/0002", "b.tar/0003"]
    assert [sample.label for sample in samples] == LABELS[:4]
    assert [sample.image for sample in samples] == IMAGES[:4]


def test_a_single_tar_is_a_data_set_too(tmp_path):
    path = write_tar(tmp_path / "only.tar", IMAGES[:1], LABELS[:1])
    assert ids(samples_of(path)) == ["only.tar/0000"]


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "JPG"])
def test_every_image_extension_is_read_and_a_missing_cls_is_no_label(tmp_path, extension):
    tar_with(tmp_path / "s.tar", {f"a.{extension}": b"bytes", "a.json": b"{}"})
    [sample] = samples_of(tmp_path)
    assert (sample.sample_id, sample.image, sample.label) == ("s.tar/a", b"bytes", None)
    assert sample.error is None


def test_a_label_may_come_before_its_image_and_have_a_newline(tmp_path):
    tar_with(tmp_path / "s.tar", {"a.cls": b"12\n", "a.jpg": b"bytes"})
    [sample] = samples_of(tmp_path)
    assert (sample.label, sample.image) == (12, b"bytes")


def test_keys_end_at_the_first_dot_of_the_name_and_keep_their_folder(tmp_path):
    tar_with(
        tmp_path / "s.tar",
        {
            "./x.jpg": b"1",
            "./x.cls": b"1",
            "a.b/c.jpg": b"2",
            "a.b/c.cls": b"2",
            "a/b.c.jpg": b"3",
            "a/b.cls": b"3",
        },
    )
    samples = samples_of(tmp_path)
    assert ids(samples) == ["s.tar/x", "s.tar/a.b/c", "s.tar/a/b"]
    assert [sample.label for sample in samples] == [1, 2, 3]
    # `c.jpg` is the only member of `a/b` that ends as an image does
    assert [sample.image for sample in samples] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_compressed_tars_are_read(tmp_path, suffix, mode):
    tar_with(tmp_path / f"s{suffix}", {"a.jpg": b"1", "a.cls": b"4", "b.jpg": b"2"}, mode)
    samples = samples_of(tmp_path)
    assert [(s.sample_id, s.image, s.label) for s in samples] == [
        (f"s{suffix}/a", b"1", 4),
        (f"s{suffix}/b", b"2", None),
    ]


def test_a_folder_in_a_tar_is_no_sample_and_a_link_is_one_that_cannot_be_used(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, kind in (("d.jpg", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "d.jpg"
            tar.addfile(info)
    [sample] = samples_of(tmp_path)
    assert (sample.sample_id, sample.image) == ("s.tar/l", None)
    assert "is a link or a device, not a file" in sample.error


def test_a_member_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("dawin_ray.data.formats.limits.MAX_MEMBER_BYTES", 100)
    tar_with(tmp_path / "s.tar", {"a.jpg": b"1" * 101, "b.jpg": b"2" * 100})
    first, second = samples_of(tmp_path)
    assert (first.image, first.error) == (
        None, "its member 'a.jpg' has 101 bytes; at most 100 are read"
    )  # fmt: skip
    assert second.image == b"2" * 100


@pytest.mark.parametrize("text", [b"cat", b"1.5", b"", b"\xff"])
def test_a_label_that_is_no_integer_is_an_error_of_its_sample_alone(tmp_path, text):
    tar_with(tmp_path / "s.tar", {"a.jpg": b"1", "a.cls": text, "b.jpg": b"2", "b.cls": b"0"})
    first, second = samples_of(tmp_path)
    assert "no integer" in first.error
    assert (first.image, first.label) == (None, None)
    assert (second.image, second.label, second.error) == (b"2", 0, None)


def test_a_key_that_comes_twice_is_an_error_with_a_name_of_its_own(tmp_path):
    tar_with(tmp_path / "s.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")])
    samples = samples_of(tmp_path)
    assert [sample.image for sample in samples] == [b"1", b"2", None]
    assert "occurs before" in samples[2].error
    assert len(set(ids(samples))) == 3
    assert ids(samples)[:2] == ["s.tar/a", "s.tar/b"]


def test_a_tar_that_breaks_in_an_image_keeps_what_came_before(tmp_path):
    path = write_tar(tmp_path / "s.tar", IMAGES, LABELS)
    path.write_bytes(path.read_bytes()[: member_end(path, "0003.png") - 1])
    samples = samples_of(path)
    assert ids(samples[:-1]) == ["s.tar/0000", "s.tar/0001", "s.tar/0002"]
    assert [sample.image for sample in samples[:-1]] == IMAGES[:3]
    assert all(sample.error is None for sample in samples[:-1])
    assert samples[-1].image is None
    assert "breaks" in samples[-1].error


def test_a_tar_that_breaks_in_a_header_ends_with_an_error_too(tmp_path):
    path = write_tar(tmp_path / "s.tar", IMAGES, None)
    with tarfile.open(path) as tar:
        header = tar.getmember("0003.png").offset
    path.write_bytes(path.read_bytes()[: header + TAR_BLOCK // 2])
    samples = samples_of(path)
    assert ids(samples[:-1]) == ["s.tar/0000", "s.tar/0001", "s.tar/0002"]
    assert "breaks" in samples[-1].error


def test_a_tar_with_a_damaged_header_ends_with_an_error_too(tmp_path):
    path = write_tar(tmp_path / "s.tar", IMAGES, None)
    with tarfile.open(path) as tar:
        header = tar.getmember("0003.png").offset
    data = bytearray(path.read_bytes())
    data[header : header + TAR_BLOCK] = b"\xa5" * TAR_BLOCK
    path.write_bytes(data)
    samples = samples_of(path)
    assert ids(samples[:-1]) == ["s.tar/0000", "s.tar/0001", "s.tar/0002"]
    assert "breaks" in samples[-1].error


def test_a_broken_gz_keeps_what_came_before(tmp_path):
    # incompressible, so that a part of the compressed file holds whole members
    write_tar(tmp_path / "s.tar", [bytes(image) for image in IMAGES], LABELS)
    data = gzip.compress((tmp_path / "s.tar").read_bytes())
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "s.tar.gz").write_bytes(data[: len(data) * 2 // 3])
    samples = samples_of(tmp_path / "set")
    assert 1 < len(samples) < len(IMAGES) + 1
    assert [sample.image for sample in samples[:-1]] == IMAGES[: len(samples) - 1]
    assert "breaks" in samples[-1].error


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_a_file_that_is_no_tar_is_one_error_sample(tmp_path, data):
    (tmp_path / "s.tar").write_bytes(data)
    [sample] = samples_of(tmp_path)
    assert sample.image is None
    assert "breaks" in sample.error


# clip-benchmark's layout


def clip_benchmark(root, shards: int = 2, said: str = "2\n", split: str = "test"):
    for i in range(shards):
        write_tar(root / split / f"{i}.tar", IMAGES[i : i + 1], LABELS[i : i + 1], start=i)
    (root / split / "nshards.txt").write_text(said)
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    return root


def test_clip_benchmarks_class_names_and_templates_are_found_above_the_split(tmp_path):
    root = clip_benchmark(tmp_path / "wds")
    listing = list_files(DatasetConfig(name="set", path=str(root / "test")))
    assert listing.format == "webdataset"
    assert listing.class_names == str(root / "classnames.txt")
    assert listing.templates == str(root / "zeroshot_classification_templates.txt")
    assert ids(samples_of(root / "test")) == ["0.tar/0000", "1.tar/0001"]
    assert ids(samples_of(root)) == ["test/0.tar/0000", "test/1.tar/0001"]


@pytest.mark.parametrize("said", ["3\n", "1"])
def test_a_number_of_shards_other_than_nshards_says_is_refused(tmp_path, said):
    root = clip_benchmark(tmp_path / "wds", said=said)
    with pytest.raises(UserError, match=rf"'set'.*2 tar shards.*says {said.strip()}"):
        list_files(DatasetConfig(name="set", path=str(root / "test")))


def test_an_nshards_file_without_a_number_is_refused(tmp_path):
    root = clip_benchmark(tmp_path / "wds", said="two")
    with pytest.raises(UserError, match="two") as caught:
        list_files(DatasetConfig(name="set", path=str(root / "test")))
    assert all(part in str(caught.value) for part in ("'set'", "nshards.txt"))


def test_a_path_above_several_splits_is_refused_with_an_example(tmp_path):
    root = clip_benchmark(tmp_path / "wds", split="test")
    clip_benchmark(root, split="train")
    with pytest.raises(UserError, match=r"several splits.*wds/(test|train)'"):
        list_files(DatasetConfig(name="set", path=str(root)))


# Parquet


def test_a_parquet_sample_is_named_by_file_and_row(tmp_path):
    write_parquet(tmp_path / "set" / "p.parquet", IMAGES, LABELS)
    samples = samples_of(tmp_path / "set")
    assert ids(samples) == [f"p.parquet/{row}" for row in range(len(IMAGES))]
    assert [sample.image for sample in samples] == IMAGES
    assert [sample.label for sample in samples] == LABELS


def test_rows_are_numbered_through_all_row_groups(tmp_path):
    table = pa.table({"image": [b"%d" % i for i in range(11)]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=3)
    samples = samples_of(tmp_path)
    assert ids(samples) == [f"p.parquet/{i}" for i in range(11)]
    assert [sample.image for sample in samples] == [b"%d" % i for i in range(11)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_binary_column_is_found_whatever_its_name(tmp_path, kind):
    table = pa.table({"scan": pa.array([b"1", b"2"], kind), "note": ["a", "b"]})
    pq.write_table(table, tmp_path / "p.parquet")
    samples = samples_of(tmp_path)
    assert [(s.image, s.label) for s in samples] == [(b"1", None), (b"2", None)]


def test_named_columns_win_over_those_that_would_be_found(tmp_path):
    table = pa.table({"image": [b"no"], "scan": [b"yes"], "label": [0], "truth": [4]})
    pq.write_table(table, tmp_path / "p.parquet")
    [sample] = samples_of(tmp_path, image_column="scan", label_column="truth")
    assert (sample.image, sample.label) == (b"yes", 4)
    [sample] = samples_of(tmp_path)
    assert (sample.image, sample.label) == (b"no", 0)


def test_a_row_without_bytes_is_an_error_of_its_own(tmp_path):
    images = [{"bytes": b"1", "path": "a"}, {"bytes": None, "path": "b"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, kind)}), tmp_path / "p.parquet")
    samples = samples_of(tmp_path)
    assert [sample.error is None for sample in samples] == [True, False, False]
    assert all("no image bytes" in sample.error for sample in samples[1:])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int32(), pa.int64()])
def test_labels_of_any_integer_type_are_read_and_null_is_no_label(tmp_path, kind):
    table = pa.table({"image": [b"1", b"2"], "label": pa.array([5, None], kind)})
    pq.write_table(table, tmp_path / "p.parquet")
    labels = [sample.label for sample in samples_of(tmp_path)]
    assert labels == [5, None]
    assert isinstance(labels[0], int)


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"image": [b"1"], "label": ["cat"]}, {}, r"'label'.*string.*label_column"),
        ({"image": [b"1"], "label": [True]}, {}, r"'label'.*bool.*label_column"),
        ({"image": [b"1"]}, {"label_column": "truth"}, r"'truth'.*missing.*label_column"),
        ({"url": ["http"]}, {}, r"no column of encoded images.*url.*image_column"),
        ({"image": [b"1"]}, {"image_column": "scan"}, r"named 'scan'.*image.*image_column"),
        ({"a": [b"1"], "b": [b"2"]}, {}, r"a, b.*image_column"),
    ],
)
def test_columns_that_cannot_be_used_are_one_error_sample_with_a_remedy(
    tmp_path, columns, settings, message
):
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    [sample] = samples_of(tmp_path, **settings)
    assert sample.image is None
    assert re.search(message, sample.error)


def test_a_file_that_is_no_parquet_is_one_error_sample(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", IMAGES, LABELS)
    path.write_bytes(path.read_bytes()[:-20])
    [sample] = samples_of(path)
    assert sample.image is None
    assert "no readable Parquet" in sample.error


def test_a_parquet_file_that_breaks_keeps_the_rows_before(tmp_path):
    path = tmp_path / "p.parquet"
    table = pa.table({"image": IMAGES[:3]})
    pq.write_table(table, path, row_group_size=1, use_dictionary=False, compression="none")
    data = bytearray(path.read_bytes())
    begin = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[begin : begin + 16] = b"\xff" * 16
    path.write_bytes(data)
    samples = samples_of(path)
    assert [sample.image for sample in samples[:-1]] == IMAGES[:2]
    assert "breaks after row 2 of 3" in samples[-1].error


# All formats


def write_format(root, kind: str):
    if kind == "folder":
        return write_folder(root, IMAGES, sorted(LABELS))
    if kind == "webdataset":
        return write_tar(root / "s.tar", IMAGES, LABELS).parent
    return write_parquet(root / "p.parquet", IMAGES, LABELS).parent


FORMATS = ["folder", "webdataset", "parquet"]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_format_is_found_out(tmp_path, kind):
    root = write_format(tmp_path / "set", kind)
    (root / "notes.txt").write_text("x")
    assert list_files(DatasetConfig(name="set", path=str(root))).format == kind


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_not_wanted_is_named_but_not_read(tmp_path, kind):
    root = write_format(tmp_path / "set", kind)
    [shard] = shards_of(root)
    everything = list(read_samples(shard))
    asked = []

    def wanted(ordinal: int) -> bool:
        asked.append(ordinal)
        return ordinal in (1, 4)

    some = list(read_samples(shard, wanted))
    assert ids(some) == ids(everything)
    assert [sample.label for sample in some] == [sample.label for sample in everything]
    assert [sample.error for sample in some] == [None] * len(IMAGES)
    assert {i for i, sample in enumerate(some) if sample.image is not None} == {1, 4}
    assert all(some[i].image == everything[i].image for i in (1, 4))
    assert set(asked) == set(range(len(IMAGES)))


@pytest.mark.parametrize("broken", ["0005.png", "0003.png", "0003.cls"])
def test_a_broken_tar_has_the_same_ordinals_whatever_is_wanted(tmp_path, broken):
    path = write_tar(tmp_path / "s.tar", IMAGES, LABELS)
    path.write_bytes(path.read_bytes()[: member_end(path, broken) - 1])
    [shard] = shards_of(path)
    everything = list(read_samples(shard))
    nothing = list(read_samples(shard, lambda ordinal: False))
    assert ids(nothing) == ids(everything)
    assert [s.error is None for s in nothing] == [s.error is None for s in everything]


@pytest.mark.parametrize("kind", FORMATS)
def test_positions_never_fall_and_stay_within_the_shard(tmp_path, kind):
    [shard] = shards_of(write_format(tmp_path / "set", kind))
    positions = [sample.position for sample in read_samples(shard)]
    assert positions == sorted(positions)
    assert positions[0] > 0
    assert positions[-1] <= shard.bytes


@pytest.mark.parametrize("kind", FORMATS)
def test_the_headers_count_what_reading_yields(tmp_path, kind):
    [shard] = shards_of(write_format(tmp_path / "set", kind))
    assert count_samples(shard) == len(list(read_samples(shard))) == len(IMAGES)


@pytest.mark.parametrize(("name", "kind"), [("s.tar", "webdataset"), ("p.parquet", "parquet")])
def test_a_broken_shard_has_no_count(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"neither tar nor Parquet")
    [shard] = shards_of(tmp_path, format=kind)
    assert count_samples(shard) is None


def test_a_remote_or_compressed_tar_has_no_count(tmp_path):
    tar_with(tmp_path / "s.tar.gz", {"a.jpg": b"1"}, "w:gz")
    [shard] = shards_of(tmp_path)
    assert count_samples(shard) is None


@pytest.mark.parametrize("kind", FORMATS)
def test_a_shard_survives_the_way_to_a_worker(tmp_path, kind):
    root = write_format(tmp_path / "set", kind)
    labels = {f"class_{i}": i for i in range(3)}  # the others' are null
    for shard in shards_of(root, labels, image_column="image"):
        copy = Shard.from_json(shard.to_json())
        assert copy == shard
        assert hash(copy) == hash(shard)


def test_shards_of_like_names_have_keys_of_their_own(tmp_path):
    for name in ("a/b.tar", "a-b.tar", "a_b.tar", "a b.tar", "a.b.tar"):
        write_tar(tmp_path / name, IMAGES[:1], None)
    keys = [shard.key for shard in shards_of(tmp_path)]
    assert len(set(keys)) == 5
    assert all(key.replace("-", "").replace("_", "").isalnum() for key in keys)


@pytest.mark.parametrize("kind", FORMATS)
def test_any_fsspec_address_holds_the_same_samples(tmp_path, kind):
    root = write_format(tmp_path / "set", kind)
    memory = fsspec.filesystem("memory")
    address = f"memory://{tmp_path.name}/set"
    memory.put(str(root), address, recursive=True)
    try:
        there, here = samples_of(address), samples_of(root)
    finally:
        memory.rm(f"/{tmp_path.name}", recursive=True)
    assert there == here


# What is refused


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", r"does not exist.*Check the path"),
        ("empty", r"no images \(.jpg.*no tar shards.*no Parquet.*Check the path"),
        ("empty/*.tar", r"is empty.*Check the path"),
        ("foo://x", r"foo"),
    ],
)
def test_an_address_without_a_data_set_is_refused_by_name(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        list_files(DatasetConfig(name="my-set", path=path))
    assert "my-set" in str(caught.value)
    assert path in str(caught.value)


def test_a_folder_without_files_of_the_asked_format_is_refused(tmp_path):
    write_tar(tmp_path / "s.tar", IMAGES[:1], None)
    with pytest.raises(UserError, match=r"'set'.*no Parquet files.*1 files.*format"):
        list_files(DatasetConfig(name="set", path=str(tmp_path), format="parquet"))


def test_an_empty_folder_is_a_data_set_only_where_it_may_be_and_has_a_format(tmp_path):
    config = DatasetConfig(name="set", path=str(tmp_path), format="webdataset")
    assert list_files(config, may_be_empty=True).files == ()
    with pytest.raises(UserError, match="is empty"):
        list_files(config)
    with pytest.raises(UserError, match="Where it may be empty, say its format"):
        list_files(DatasetConfig(name="set", path=str(tmp_path)), may_be_empty=True)


def test_several_formats_are_refused_until_one_is_named(tmp_path):
    write_tar(tmp_path / "s.tar", IMAGES[:1], None)
    write_parquet(tmp_path / "p.parquet", IMAGES[:1], None)
    with pytest.raises(UserError, match=r"'set'.*several formats \(webdataset, parquet\)"):
        list_files(DatasetConfig(name="set", path=str(tmp_path)))
    assert ids(samples_of(tmp_path, format="parquet")) == ["p.parquet/0"]
    assert ids(samples_of(tmp_path, format="webdataset")) == ["s.tar/0000"]


def test_a_folder_that_may_not_be_read_is_refused_by_name(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", IMAGES[:1], [0])

    def denied(*_, **__):
        raise PermissionError("not allowed")

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(UserError, match=r"'set'.*PermissionError.*permissions"):
        list_files(DatasetConfig(name="set", path=str(root)))


def test_a_moved_folder_keeps_its_sample_ids_and_keys(tmp_path):
    here = write_folder(tmp_path / "here", IMAGES, LABELS)
    there = shutil.copytree(here, tmp_path / "there")
    for a, b in zip(shards_of(here), shards_of(there), strict=True):
        assert a.key == b.key
        assert ids(read_samples(a)) == ids(read_samples(b))


def test_a_border_is_cut_before_anything_else(tmp_path):
    """As ObjectNet's, whose border of two pixels is red."""
    image = Image.new("RGB", (36, 44), (255, 0, 0))
    image.paste((0, 0, 255), (2, 2, 34, 42))
    image.save(tmp_path / "a.png")
    Image.new("RGB", (4, 9)).save(tmp_path / "b.png")
    preprocessing = Preprocessing.of({"size": (32, 32)})
    decode = DecodeImages(preprocessing, 10, {"set": DatasetClasses(count=2)})
    for border, red in ((0, True), (2, False)):
        config = DatasetConfig(name="set", path=str(tmp_path), crop_border=border)
        [shard] = make_shards(config, list_files(config))
        [chunk] = decode(shard)
        assert (chunk.images[0][..., 0] > 100).any() == red
        assert [r.sample_id for r in chunk.rejects] == (["b.png"] if border else [])
