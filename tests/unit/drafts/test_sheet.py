"""The contact sheet: images as they are, captions as text."""

import io

import numpy as np
from PIL import Image

from dawin_ray.drafts.samples import SIDE, Looked, Seen
from dawin_ray.drafts.sheet import LINE, MARGIN, WIDTH, fitting, font, sheet_of
from tests.unit.drafts.test_classes import place


def seen(image, label=3, sample_id="a.tar/1"):
    return Seen(sample_id=sample_id, label=label, image=image)


def opened(*looks):
    return np.asarray(Image.open(io.BytesIO(sheet_of(looks))))


def test_an_image_is_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    sheet = opened(Looked(place=place(), classes=None, seen=[seen(Image.fromarray(pixels))]))
    top, left = MARGIN + LINE + 6, MARGIN
    assert (sheet[top : top + SIDE, left : left + SIDE] == pixels).all()


def test_a_small_image_is_enlarged_by_whole_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sheet = opened(Looked(place=place(), classes=None, seen=[seen(Image.fromarray(pixels))]))
    top, left = MARGIN + LINE + 6, MARGIN
    assert (sheet[top : top + SIDE : 5, left : left + SIDE : 5] == pixels).all()


def test_each_data_set_has_a_row_and_captions():
    image = Image.new("RGB", (40, 20), "red")
    looks = [Looked(place=place(n), classes=None, seen=[seen(image)] * 5) for n in "ab"]
    two, one = opened(*looks), opened(looks[0])
    assert two.shape[1] == one.shape[1] == WIDTH
    assert two.shape[0] - MARGIN == 2 * (one.shape[0] - MARGIN)
    other = Looked(place=place("a"), classes=None, seen=[seen(image, label=7)] * 5)
    assert (opened(other) != one).any()  # its caption


def test_what_cannot_be_shown_says_why():
    bad = Seen(sample_id="x", label=None, image=None, why_not="cannot be decoded")
    sheet = opened(Looked(place=place(), classes=None, seen=[bad]))
    assert (sheet[MARGIN + LINE + 6 + SIDE // 2] != 255).any()


def test_captions_fit_and_steer_nothing():
    letters = font()
    for text in ("short", "long " * 50, "a\x1b[31m\nb", "\udc80", "日本語" * 40, ""):
        cut = fitting(text, SIDE, letters)
        assert letters.getlength(cut) <= SIDE
        assert cut.isprintable()
    assert fitting("short", SIDE, letters) == "short"
