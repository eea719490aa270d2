"""Images of a suite of emoji, as four vendors draw them: a natural shift, and seven others.

The drawings come from the npm packages emoji-datasource-apple, -google, -twitter and -facebook
(16.0.0), unpacked side by side; nothing of them is in this repository. Classes are Unicode's
subcategories (`classes_of`). Image i of any set of the suite shows the same emoji with the same
turn of the dice: vendor, view and corruption are all that differs.
Shape suffixes: N images, H and W pixels (both SIDE).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from corruptions import SIDE, WHITE, Corruption, corrupted, dim, grey, jpeg, noise, patch
from PIL import Image

VENDORS = ("apple", "google", "twitter", "facebook")
LEAST, MOST = 20, 36  # emoji of a class: fewer make none, of more the first in Unicode's order
LEFT_OUT = ("family",)  # since version 15 some vendors draw all of them as one sign


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a drawing is seen; ranges are uniform. Sizes in pixels of SIDE, angles in degrees."""

    vendor: str
    size: tuple[float, float] = (24, 30)
    angle: tuple[float, float] = (-6, 6)
    jitter: float = 2  # of the place, to each side
    paper: tuple[int, int] = (225, 256)  # grey levels of the background
    tint: float = 0  # of the background, to each side of its grey
    noise: tuple[float, float] = (0, 0)


BROAD = Style(
    vendor="google",
    size=(18, 32),
    angle=(-15, 15),
    jitter=3,
    paper=(0, 256),
    tint=40,
    noise=(0, 10),
)
PHONE = Style(vendor="apple")
RESTYLED = {
    "google": replace(PHONE, vendor="google"),
    "twitter": replace(PHONE, vendor="twitter"),
    "facebook": replace(PHONE, vendor="facebook"),
    "dark": replace(PHONE, paper=(0, 40)),
    "small": replace(PHONE, size=(12, 17), jitter=6),
    "turned": replace(PHONE, angle=(30, 70)),
}
CORRUPTED: dict[str, Corruption] = {"grey": grey, "jpeg": jpeg, "patch": patch, "noise": noise}
DATASETS = ("apple", *RESTYLED, *CORRUPTED)  # their order is part of their seeds
BROAD_SHIFTS = (dim, noise, grey)  # that a third of the images of pretraining have
SEED = 1_702


@dataclass(frozen=True)
class Emoji:
    """The unpacked packages, one folder a vendor with `package/` in it."""

    folder: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return tuple(classes_of(self.folder))

    def images(
        self, count: int | None, style: Style, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views [N, 32, 32, 3] uint8 and labels [N] int64; each emoji in turn, once if no count."""
        found = [
            (label, name)
            for label, names in enumerate(classes_of(self.folder).values())
            for name in names
        ]
        order = np.random.default_rng(SEED).permutation(len(found))
        rows = order[np.arange(len(found) if count is None else count) % len(found)]
        images = [
            view(drawings(self.folder, style.vendor)[found[row][1]], style,
                 np.random.default_rng([*seed, 1 + i]))
            for i, row in enumerate(rows)
        ]  # fmt: skip
        return np.stack(images), np.array([found[row][0] for row in rows], dtype=np.int64)

    def test_set(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """One of DATASETS: images [N, 32, 32, 3] uint8 and labels [N], the same at every call."""
        images, labels_N = self.images(None, RESTYLED.get(name, PHONE), (SEED,))
        if name in CORRUPTED:
            images = corrupted(images, CORRUPTED[name], (SEED, DATASETS.index(name)))
        return images, labels_N

    def reference(self) -> np.ndarray:
        """Clean views that are neither in a test set nor fine-tuned to."""
        return self.images(None, PHONE, (SEED + 1,))[0]

    def broad_images(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """What the zero-shot expert learns: Google's drawings, of any size on any ground."""
        images, labels_N = self.images(count, BROAD, (seed, 0))
        for k, shift in enumerate(BROAD_SHIFTS):
            rows = slice(k, None, 3 * len(BROAD_SHIFTS))
            images[rows] = corrupted(images[rows], shift, (seed, 2 + k))
        return images, labels_N

    def fine_tuning_images(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """What the fine-tuned expert learns on top of it: Apple's, upright on white."""
        return self.images(count, PHONE, (seed, 1))


@cache
def classes_of(folder: Path) -> Mapping[str, list[str]]:
    """By subcategory the files of its emoji that all vendors have."""
    listed = json.loads((folder / "apple" / "package" / "emoji.json").read_text())
    listed.sort(key=lambda emoji: emoji["sort_order"])
    found: dict[str, list[str]] = {}
    for emoji in listed:
        if all(emoji[f"has_img_{vendor}"] for vendor in VENDORS):
            found.setdefault(emoji["subcategory"], []).append(emoji["image"])
    return {
        name: files[:MOST]
        for name, files in sorted(found.items())
        if len(files) >= LEAST and name not in LEFT_OUT
    }


@cache
def drawings(folder: Path, vendor: str) -> Mapping[str, Image.Image]:
    """The drawings of 64 pixels that a vendor has of the classes' emoji."""
    images = folder / vendor / "package" / "img" / vendor / "64"
    return {
        name: Image.open(images / name).convert("RGBA")
        for names in classes_of(folder).values()
        for name in names
    }


def view(drawing: Image.Image, style: Style, rng: np.random.Generator) -> np.ndarray:
    """A drawing on a background, as an image [32, 32, 3] uint8."""
    dice = rng.random(9)

    def between(k: int, limits: tuple[float, float]) -> float:
        return float(limits[0] + dice[k] * (limits[1] - limits[0]))

    side = round(between(0, style.size))
    angle = between(1, style.angle) * (1 if dice[2] < 0.5 else -1)
    small = drawing.rotate(angle, Image.Resampling.BILINEAR).resize(
        (side, side), Image.Resampling.BOX
    )
    left, top = (round((SIDE - side) / 2 + style.jitter * (2 * d - 1)) for d in dice[3:5])
    paper = between(5, style.paper) + style.tint * (2 * dice[6:9] - 1)
    whole = Image.new("RGBA", (SIDE, SIDE), (*(int(c) for c in paper.clip(0, WHITE)), WHITE))
    layer = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    layer.paste(small, (left, top))
    image = np.asarray(Image.alpha_composite(whole, layer).convert("RGB"), dtype=float)
    image = image + rng.uniform(*style.noise) * rng.standard_normal(image.shape)
    rounded: np.ndarray = image.round().clip(0, WHITE).astype(np.uint8)
    return rounded
