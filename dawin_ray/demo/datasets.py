"""The demo's test sets, written as WebDataset shards (tar files of PNG images and labels)."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dawin_ray.demo import images
from dawin_ray.errors import UserError

DATASETS = ("digits", *images.SHIFTS, "printed")  # their order is part of their seeds
PRINTED_IMAGES = 800  # about as many as there are test digits, and ten classes divide it
SHARDS = 2  # of each data set: enough that a job has something to distribute
SEED = 20_250_224  # of the shifts and the printed glyphs of the test sets


def make_test_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of DATASETS: images [N, 32, 32] uint8 and labels [N] int64, the same at every call.

    Raises:
        UserError: there is no such data set.
    """
    if name not in DATASETS:
        raise UserError(f"the demo has no data set {name!r}; choose from: {', '.join(DATASETS)}")
    rng = np.random.default_rng([SEED, DATASETS.index(name)])
    if name == "printed":
        return images.printed_digits(PRINTED_IMAGES, images.UNSEEN_FONTS, rng)
    images_NHW, labels_N = images.handwritten_digits("test")
    if name in images.SHIFTS:
        images_NHW = images.SHIFTS[name](images_NHW, rng)
    return images_NHW, labels_N


def write_datasets(folder: Path, names: Sequence[str] | None = None) -> None:
    """Write the test sets `names` (all of DATASETS by default) under `folder`, as `write_shards`.

    Raises:
        UserError: there is no data set of that name; nothing has been written then.
    """
    names = DATASETS if names is None else names
    write_shards(folder, {name: make_test_set(name) for name in names})


def write_shards(folder: Path, sets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write images [N, 32, 32] uint8 and labels [N] of each set under `folder`.

    `<folder>/<name>/<name>-000000.tar` and so on hold `<key>.png` (grey, lossless) and
    `<key>.cls` (the label as ASCII text), with keys that are unique within a data set. The bytes
    are the same at every call.
    """
    for name, (images_NHW, labels_N) in sets.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for shard, rows_N in enumerate(np.array_split(np.arange(len(labels_N)), SHARDS)):
            with tarfile.open(
                folder / name / f"{name}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT
            ) as tar:
                for row in rows_N:
                    _add_member(tar, f"{name}-{row:05d}.png", _png(images_NHW[row]))
                    _add_member(tar, f"{name}-{row:05d}.cls", b"%d" % labels_N[row])


def _png(image_HW: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_HW).save(buffer, format="PNG")
    return buffer.getvalue()


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time, owner and mode are constants, not this machine's
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
