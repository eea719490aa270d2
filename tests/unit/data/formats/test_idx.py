"""MNIST's idx files: read as they are written, gzipped or not, with the labels beside them."""

import gzip
import struct

import numpy as np
import pytest

from dawin_ray.data import DatasetConfig, Shard, count_samples, list_files, make_shards
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.images import open_image
from dawin_ray.errors import UserError
from tests.unit.data.layouts import idx_images, idx_labels, write_idx

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
LABELS = [3, 0, 9, 1, 7]
NAME = "t10k-images-idx3-ubyte"


def shards_of(path, **settings) -> list[Shard]:
    config = DatasetConfig(name="set", path=str(path), **settings)
    return make_shards(config, list_files(config))


def samples_of(path, **settings):
    return [sample for shard in shards_of(path, **settings) for sample in read_samples(shard)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("named", ["t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"])
def test_each_image_is_its_pixels_with_its_label(tmp_path, packed, named):
    path = write_idx(tmp_path, PIXELS, LABELS, named=named, packed=packed)
    samples = samples_of(path)
    assert [sample.label for sample in samples] == LABELS
    assert [sample.sample_id for sample in samples] == [f"{path.name}/{i}" for i in range(5)]
    for sample, pixels in zip(samples, PIXELS, strict=True):
        image = open_image(sample.image)
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), pixels)


def test_torchvisions_folder_is_one_format_with_two_splits(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    write_idx(tmp_path, PIXELS, LABELS, named="train-images-idx3-ubyte")
    with pytest.raises(UserError, match=r"several splits: test, train.*t10k\*"):
        shards_of(tmp_path)
    [shard] = shards_of(tmp_path / "t10k-*")
    assert (shard.format, shard.name) == ("idx", NAME)


def test_a_file_beside_its_gzipped_self_is_not_scored_twice(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    write_idx(tmp_path, PIXELS, LABELS, packed=True)
    with pytest.raises(UserError, match="are the same images twice"):
        shards_of(tmp_path)
    assert len(samples_of(tmp_path / NAME)) == 5


def test_the_labels_are_told_and_not_taken_for_what_is_left_out(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    listing = list_files(DatasetConfig(name="set", path=str(tmp_path)))
    assert listing.labelling.words == "t10k-labels-idx1-ubyte"
    assert listing.notes == ()
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    listing = list_files(DatasetConfig(name="set", path=str(tmp_path)))
    assert listing.labelling.words == f"none: no labels-idx1-ubyte lies beside {NAME}"
    assert [sample.label for sample in samples_of(tmp_path)] == [None] * 5


def test_label_column_none_reads_no_labels(tmp_path):
    path = write_idx(tmp_path, PIXELS, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    samples = samples_of(path, label_column="none")
    assert [(sample.label, sample.error) for sample in samples] == [(None, None)] * 5


def test_other_labels_are_other_data(tmp_path):
    path = write_idx(tmp_path, PIXELS, LABELS)
    config = DatasetConfig(name="set", path=str(path))
    before, [shard] = list_files(config), shards_of(path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_labels([1, *LABELS]))
    assert list_files(config).identity() != before.identity()
    with pytest.raises(UserError, match=r"has changed since it was listed.*labels-idx1"):
        list(read_samples(Shard.from_json(shard.to_json())))


def test_images_that_are_not_wanted_are_named_and_not_made(tmp_path):
    [shard] = shards_of(write_idx(tmp_path, PIXELS, LABELS))
    samples = list(read_samples(shard, lambda row: row == 2))
    assert [sample.image is not None for sample in samples] == [False, False, True, False, False]
    assert [sample.label for sample in samples] == LABELS
    assert count_samples(shard) == 5


@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_file_keeps_what_lies_before_the_cut(tmp_path, packed):
    path = write_idx(tmp_path, PIXELS, LABELS, packed=packed)
    data = idx_images(PIXELS)[: 16 + 2 * 24 + 5]
    path.write_bytes(gzip.compress(data)[:-9] if packed else data)
    *whole, broken = samples_of(path)
    assert len(whole) <= 2
    if not packed:
        assert len(whole) == 2
        assert "breaks after image 2 of 5: it ends too early" in broken.error
        assert broken.lost == 3
    assert broken.broken
    told = []
    [shard] = shards_of(path)
    assert count_samples(shard, told.append) is None
    assert told[0].broken


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it ends too early"),
        (b"\x00\x00\x0d\x03" + bytes(40), "begins with 00 00 0d 03, not 00 00 08 03"),
        (b"\x00\x00\x08\x01" + bytes(40), "begins with 00 00 08 01"),
        (b"\x1f\x8b" + bytes(40), "BadGzipFile"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 0, 4), "images are of 0 x 4 pixels"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 1 << 31, 1 << 31), "its images are of 2147483648"),
        (idx_images(PIXELS) + b"\0", "more bytes follow than its header says"),
        (idx_images(PIXELS[:3]), "t10k-labels-idx1-ubyte: it has 5 labels for 3 images"),
    ],
)
def test_what_is_no_such_file_is_one_broken_shard(tmp_path, data, reason):
    path = write_idx(tmp_path, PIXELS, LABELS)
    path.write_bytes(data)
    *_, broken = samples_of(path)
    assert broken.broken
    assert reason in broken.error


def test_a_header_that_lies_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_MEMBER_BYTES", 100)
    path = write_idx(tmp_path, PIXELS, LABELS)
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", (1 << 32) - 1, 11, 10))
    [broken] = samples_of(path)
    assert "images are of 11 x 10 pixels" in broken.error


def test_a_folder_of_images_beside_is_still_a_folder(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"an image")
    assert list_files(DatasetConfig(name="set", path=str(tmp_path))).format == "folder"
    config = DatasetConfig(name="set", path=str(tmp_path), format="idx")
    assert list_files(config).format == "idx"
