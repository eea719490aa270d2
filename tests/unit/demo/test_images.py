"""The demo's images, shards and committed experts."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo import images as demo_images
from dawin_ray.demo.datasets import (
    DATASETS,
    PRINTED_IMAGES,
    SHARDS,
    make_test_set,
    write_datasets,
)
from dawin_ray.demo.images import (
    CLASSES,
    SEEN_FONTS,
    SHIFTS,
    SIDE,
    UNSEEN_FONTS,
    broad_images,
    handwritten_digits,
    printed_digits,
)
from dawin_ray.errors import UserError

TEST_DIGITS = 797


def rng(seed=0):
    return np.random.default_rng(seed)


def pixel_rows(images_NHW):
    return {image_HW.tobytes() for image_HW in images_NHW}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_datasets(folder)
    return folder


def read_set(folder, name):
    images, labels = {}, {}
    for shard in sorted((folder / name).glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, suffix = member.name.rsplit(".", 1)
                content = tar.extractfile(member).read()
                kind = {"png": images, "cls": labels}[suffix]
                assert key not in kind, "keys are unique over the shards of a data set"
                if suffix == "png":
                    kind[key] = np.asarray(Image.open(io.BytesIO(content)))
                else:
                    kind[key] = int(content.decode("ascii"))
    return images, labels


def test_split_is_fixed_and_disjoint():
    train_NHW, train_labels_N = handwritten_digits("train")
    test_NHW, test_labels_N = handwritten_digits("test")
    assert train_NHW.shape == (1_000, SIDE, SIDE)
    assert test_NHW.shape == (TEST_DIGITS, SIDE, SIDE)
    assert train_NHW.dtype == test_NHW.dtype == np.uint8
    assert len(train_labels_N) + len(test_labels_N) == 1_797
    assert not pixel_rows(train_NHW) & pixel_rows(test_NHW)
    again_NHW, again_labels_N = handwritten_digits("test")
    np.testing.assert_array_equal(again_NHW, test_NHW)
    np.testing.assert_array_equal(again_labels_N, test_labels_N)


def test_seen_and_unseen_fonts_are_disjoint_and_draw_ten_different_digits():
    assert not set(SEEN_FONTS) & set(UNSEEN_FONTS)
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    for font in SEEN_FONTS + UNSEEN_FONTS:
        characters = FT2Font(f"{get_data_path()}/fonts/ttf/{font}").get_charmap()
        assert all(ord(digit) in characters for digit in CLASSES), font
        glyphs = {demo_images._master_glyph(font, digit).tobytes() for digit in CLASSES}
        assert len(glyphs) == len(CLASSES), f"{font} draws two digits alike"


def test_printed_digits_are_balanced_inked_and_follow_the_seed():
    images_NHW, labels_N = printed_digits(200, UNSEEN_FONTS, rng(1))
    assert images_NHW.shape == (200, SIDE, SIDE)
    assert images_NHW.dtype == np.uint8
    assert np.bincount(labels_N).tolist() == [20] * len(CLASSES)
    assert (images_NHW.max(axis=(1, 2)) > images_NHW.min(axis=(1, 2))).all()
    np.testing.assert_array_equal(printed_digits(200, UNSEEN_FONTS, rng(1))[0], images_NHW)
    assert (printed_digits(200, UNSEEN_FONTS, rng(2))[0] != images_NHW).any()


@pytest.mark.parametrize("name", SHIFTS)
def test_shift_keeps_shape_and_argument_and_follows_the_seed(name):
    images_NHW = handwritten_digits("test")[0][:40]
    before_NHW = images_NHW.copy()
    shifted_NHW = SHIFTS[name](images_NHW, rng(3))
    assert shifted_NHW.shape == images_NHW.shape
    assert shifted_NHW.dtype == np.uint8
    assert (shifted_NHW != images_NHW).any(axis=(1, 2)).all(), "every image is shifted"
    np.testing.assert_array_equal(images_NHW, before_NHW)
    np.testing.assert_array_equal(SHIFTS[name](images_NHW, rng(3)), shifted_NHW)
    is_random = name not in ("inversion", "edges")
    assert (SHIFTS[name](images_NHW, rng(4)) != shifted_NHW).any() == is_random


@pytest.mark.parametrize("name", ["inversion", "edges"])
def test_shift_of_an_image_does_not_depend_on_its_neighbours(name):
    images_NHW = handwritten_digits("test")[0][:10]
    alone = [SHIFTS[name](image_HW[None], rng())[0] for image_HW in images_NHW]
    np.testing.assert_array_equal(SHIFTS[name](images_NHW, rng()), np.stack(alone))


def test_broad_images_follow_the_seed_and_hold_no_test_digit():
    images_NHW, labels_N = broad_images(700, rng(5))
    assert images_NHW.shape == (700, SIDE, SIDE)
    assert images_NHW.dtype == np.uint8
    assert set(labels_N) == set(range(len(CLASSES)))
    np.testing.assert_array_equal(broad_images(700, rng(5))[0], images_NHW)
    assert not pixel_rows(images_NHW) & pixel_rows(handwritten_digits("test")[0])


@pytest.mark.parametrize("name", DATASETS)
def test_shards_hold_the_test_set(written, name):
    assert len(list((written / name).iterdir())) == SHARDS
    images, labels = read_set(written, name)
    assert images.keys() == labels.keys()
    expected_NHW, expected_labels_N = make_test_set(name)
    np.testing.assert_array_equal(np.stack([images[key] for key in sorted(images)]), expected_NHW)
    assert [labels[key] for key in sorted(labels)] == expected_labels_N.tolist()
    counts = np.bincount(expected_labels_N, minlength=len(CLASSES))
    if name == "printed":
        assert counts.tolist() == [PRINTED_IMAGES // len(CLASSES)] * len(CLASSES)
    else:
        assert counts.sum() == TEST_DIGITS
        assert counts.min() >= 70


def test_two_writes_give_the_same_bytes(written, tmp_path):
    names = ("noise", "printed")
    write_datasets(tmp_path, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for path in tmp_path.glob("*/*.tar"):
        assert path.read_bytes() == (written / path.relative_to(tmp_path)).read_bytes()


def test_unknown_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"'fog'.*digits, rotation, noise"):
        write_datasets(tmp_path, ["digits", "fog"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("expert", CHECKPOINTS)
def test_committed_expert_fits_the_committed_architecture(expert):
    import open_clip

    config = json.loads(MODEL_CONFIG.read_text())
    with torch.device("meta"):
        visual = open_clip.CLIP(**config).visual
    expected = {f"visual.{key}": list(value.shape) for key, value in visual.state_dict().items()}
    expected["classification_head.weight"] = [len(CLASSES), config["embed_dim"]]
    expected["classification_head.bias"] = [len(CLASSES)]
    with safe_open(CHECKPOINTS[expert], framework="pt") as file:
        assert {key: file.get_slice(key).get_shape() for key in file.keys()} == expected  # noqa: SIM118
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118
