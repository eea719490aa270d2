"""SVHN's cropped digits: images as scipy reads them, digit 0 for 10, and nothing that a file says
of its size believed."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from dawin_ray.data import DatasetConfig, count_samples, list_files, make_shards
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.images import open_image
from tests.unit.data.layouts import write_svhn

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 30, 3), dtype=np.uint8)
LABELS = [3, 0, 9, 1, 0]


def shard_of(path, **settings):
    config = DatasetConfig(name="set", path=str(path), **settings)
    [shard] = make_shards(config, list_files(config))
    return shard


def samples_of(path, **settings):
    return list(read_samples(shard_of(path, **settings)))


@pytest.mark.parametrize("compressed", [True, False])
def test_images_are_those_that_scipy_reads_and_ten_is_zero(tmp_path, compressed):
    path = write_svhn(tmp_path / "test_32x32.mat", PIXELS, LABELS, compressed=compressed)
    samples = samples_of(path)
    read = loadmat(path)
    assert sorted(set(read["y"][:, 0])) == [1, 3, 9, 10]
    assert [sample.label for sample in samples] == LABELS
    assert [sample.sample_id for sample in samples] == [f"test_32x32.mat/{i}" for i in range(5)]
    for i, sample in enumerate(samples):
        image = open_image(sample.image)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), read["X"][..., i])
    assert samples[-1].position == path.stat().st_size
    assert count_samples(shard_of(path)) == 5


def test_what_is_not_wanted_is_named_and_not_made(tmp_path):
    shard = shard_of(write_svhn(tmp_path / "test_32x32.mat", PIXELS, LABELS))
    samples = list(read_samples(shard, lambda row: row == 3))
    assert [sample.image is not None for sample in samples] == [False, False, False, True, False]


def test_labels_are_optional(tmp_path):
    path = write_svhn(tmp_path / "test_32x32.mat", PIXELS, LABELS)
    assert [s.label for s in samples_of(path, label_column="none")] == [None] * 5
    savemat(path, {"X": PIXELS.transpose(1, 2, 3, 0)})
    assert [s.label for s in samples_of(path)] == [None] * 5


def test_a_label_that_is_no_number_is_one_reject(tmp_path):
    path = tmp_path / "test_32x32.mat"
    savemat(path, {"X": PIXELS.transpose(1, 2, 3, 0), "y": [[1.0], [0.5], [2.0], [np.nan], [3.0]]})
    samples = samples_of(path)
    assert [sample.label for sample in samples] == [1, None, 2, None, 3]
    assert samples[1].error == "the label 0.5 is no whole number"
    assert [sample.image is None for sample in samples] == [False, True, False, False, False]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_cut_file_keeps_what_lies_before_the_cut(tmp_path, compressed):
    path = tmp_path / "test_32x32.mat"
    arrays = {"y": np.array([[label or 10] for label in LABELS]),
              "X": PIXELS.transpose(1, 2, 3, 0)}  # fmt: skip
    savemat(path, arrays, do_compression=compressed)
    path.write_bytes(path.read_bytes()[: -PIXELS[0].size * 3 // 2])
    *whole, broken = samples_of(path)
    assert 3 <= len(whole) <= 4
    assert [sample.label for sample in whole] == LABELS[: len(whole)]
    assert f"breaks after image {len(whole)} of 5: it ends within an array" in broken.error
    assert (broken.broken, broken.lost) == (True, 5 - len(whole))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"Z": [1]}, "no variable 'X' (its variables: Z)"),
        ({"X": np.zeros((3, 4, 5), np.uint8)}, "of shape [3, 4, 5], not [H, W, 3, N]"),
        ({"X": np.zeros((3, 4, 3, 2))}, "variable 'X' is not of bytes"),
        ({"X": np.zeros((3, 4, 3, 2), np.uint8), "y": [[1]]}, "it has 1 labels for 2 images"),
        ({"X": np.zeros((3, 4, 3, 2), np.uint8), "y": "ab"}, "'y' is no array of numbers"),
    ],
)
def test_what_is_no_such_file_is_one_broken_shard(tmp_path, arrays, reason):
    savemat(tmp_path / "a.mat", arrays)
    [broken] = samples_of(tmp_path / "a.mat")
    assert reason in broken.error
    assert broken.broken


def test_images_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    path = write_svhn(tmp_path / "test_32x32.mat", PIXELS, LABELS)
    monkeypatch.setattr(limits, "MAX_MEMBER_BYTES", PIXELS[0].size - 1)
    [broken] = samples_of(path)
    assert "has 2,880 bytes; at most 2,879 are read" in broken.error
    assert (broken.broken, broken.lost) == (True, 5)
