"""Crops have the pixels of open_clip's transform, by Pillow alone."""

from dataclasses import asdict

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from dawin_ray.models.crops import CropConfig

SIDES = [(1, 1), (1, 90), (90, 1), (23, 40), (40, 23), (32, 32), (33, 32), (47, 300), (300, 47)]
MODES = ["RGB", "L", "LA", "P", "PA", "RGBA", "CMYK", "1", "I", "I;16", "F", "YCbCr", "HSV"]
SIZES = [32, (32, 32), (24, 40), (40, 24)]


def pictures(mode: str):
    rng = np.random.default_rng(3)
    for width, height in SIDES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        if mode == "I;16":
            image = image.convert("L").convert("I")
        yield image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)


def ended(steps, image):
    """What comes of an image, and what is said where nothing does."""
    try:
        for step in steps:
            image = step(image)
    except ValueError as error:
        return None, str(error)
    return image, ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_pixels_are_those_of_open_clip(mode, resize_mode):
    """Up to where it makes a tensor of them; with what it raises, where it does."""
    for size in SIZES:
        for interpolation, fill in (("bicubic", 0), ("bilinear", 7)):
            settings = {"size": size, "resize_mode": resize_mode, "interpolation": interpolation,
                        "fill_color": fill}  # fmt: skip
            theirs = image_transform_v2(PreprocessCfg(**settings), False).transforms[:-2]
            ours = CropConfig(**settings)
            for image in pictures(mode):
                (crop, said), expected = ended([ours.crop], image), ended(theirs, image)
                assert said == expected[1]
                if not said:
                    assert (crop.dtype, crop.shape) == (np.uint8, (*ours.height_and_width, 3))
                    np.testing.assert_array_equal(crop, np.asarray(expected[0]))


def test_settings_are_those_of_open_clip():
    assert asdict(CropConfig()) == asdict(PreprocessCfg())
    assert list(asdict(CropConfig())) == list(asdict(PreprocessCfg()))


@pytest.mark.parametrize("other", [{"mode": "L"}, {"interpolation": "random"}, {"resize_mode": ""}])
def test_what_open_clip_may_learn_is_not_taken_for_what_it_knows(other):
    with pytest.raises(AssertionError):
        CropConfig(**other)
