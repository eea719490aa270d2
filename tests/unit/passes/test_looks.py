"""Hashes of crops: copies share one, all others differ; the range tells crops of one colour."""

import numpy as np
import pytest

from dawin_ray.passes.looks import BLOCK, looks_of


@pytest.mark.parametrize("side", [32, 5])  # 75 values are no whole words
def test_copies_share_a_hash_and_others_do_not(side):
    images = np.random.default_rng(0).integers(0, 256, (3 * BLOCK, side, side, 3), dtype=np.uint8)
    images[7] = images[2]
    found = looks_of(images)
    assert found["crop_hash"].dtype == np.uint64
    assert found["crop_hash"][7] == found["crop_hash"][2]
    assert len(np.unique(found["crop_hash"])) == len(images) - 1
    alone = [int(looks_of(image[None])["crop_hash"][0]) for image in images]
    assert alone == found["crop_hash"].tolist()  # whatever else is in the chunk


def test_a_single_pixel_makes_another_crop():
    one = np.zeros((3 * 8 * 8, 8, 8, 3), dtype=np.uint8)
    one.reshape(len(one), -1)[np.arange(len(one)), np.arange(len(one))] = 1
    assert len(np.unique(looks_of(one)["crop_hash"])) == len(one)
    high = one * 128  # the highest bit of the highest byte of a word, too
    pairs = np.concatenate([one + np.roll(high, i, axis=0) for i in (1, 7, 8)])
    assert len(np.unique(looks_of(pairs)["crop_hash"])) == len(np.unique(pairs, axis=0))


def test_the_hash_is_the_same_on_every_machine():
    images = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    assert looks_of(images)["crop_hash"].tolist() == [10686462852705456647]


def test_the_range_is_the_brightest_less_the_darkest():
    images = np.full((2, 4, 4, 3), 128, dtype=np.uint8)
    images[1, 0, 0] = 3, 128, 200
    assert looks_of(images)["crop_range"].tolist() == [0, 197]


def test_no_crops_are_no_rows():
    found = looks_of(np.zeros((0, 4, 4, 3), dtype=np.uint8))
    assert {name: len(values) for name, values in found.items()} == {
        "crop_hash": 0, "crop_range": 0,
    }  # fmt: skip
