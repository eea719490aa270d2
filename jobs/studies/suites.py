"""The suites of the study new_suites.py, and the protocol that fixes how they are used."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import emoji
import numpy as np
import textures

from dawin_ray import demo
from dawin_ray.demo import datasets as digits

HERE = Path(__file__).parent
PROTOCOL: dict[str, Any] = json.loads((HERE / "new_suites.json").read_text())
ARCHITECTURES = {"vit": HERE / "suites_vit.json", "resnet": HERE / "letters.json"}

Labelled = tuple[np.ndarray, np.ndarray]  # images uint8 and labels int64 [N]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Data sets of the same images, the clean one first, and what its experts learn.

    `reference` are clean images without labels that no expert has learnt and no set tests.
    """

    classes: tuple[str, ...]
    datasets: tuple[str, ...]
    test_set: Callable[[str], Labelled]
    reference: Callable[[], np.ndarray]
    broad_images: Callable[[int, int], Labelled]  # of a number and a seed
    fine_tuning_images: Callable[[int, int], Labelled]


def suite_of(name: str, packages: Path) -> Suite:
    """One of the new suites; `packages` are the unpacked ones of emoji."""
    if name == "textures":
        return Suite(
            classes=textures.CLASSES,
            datasets=textures.DATASETS,
            test_set=textures.test_set,
            reference=textures.reference,
            broad_images=textures.broad_images,
            fine_tuning_images=textures.fine_tuning_images,
        )
    of = emoji.Emoji(packages)
    return Suite(
        classes=of.classes,
        datasets=emoji.DATASETS,
        test_set=of.test_set,
        reference=of.reference,
        broad_images=of.broad_images,
        fine_tuning_images=of.fine_tuning_images,
    )


def demo_suite() -> tuple[Suite, Path, Path]:
    """The demo's digits, its architecture and the folder of its experts.

    Its clean test set is the reference, as in reference_on_digits.py, and nothing is trained.
    """

    def trained(count: int, seed: int) -> Labelled:
        raise NotImplementedError("train_digits.py trains the demo's experts")

    suite = Suite(
        classes=tuple("0123456789"),
        datasets=digits.DATASETS,
        test_set=digits.make_test_set,
        reference=lambda: digits.make_test_set("digits")[0],
        broad_images=trained,
        fine_tuning_images=trained,
    )
    return suite, demo.MODEL_CONFIG, demo.CHECKPOINTS["zero_shot"].parent
