"""Miniature data in the layouts that data sets come in, for the tests of their readers."""

import gzip
import struct
from pathlib import Path

import numpy as np
from scipy.io import savemat


def idx_images(pixels: np.ndarray) -> bytes:
    """Images, uint8 [N, H, W], as MNIST's files have them."""
    return b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes()


def idx_labels(labels) -> bytes:
    """Labels likewise."""
    return b"\0\0\x08\x01" + struct.pack(">I", len(labels)) + bytes(labels)


def write_idx(
    folder: Path, pixels, labels, *, named: str = "t10k-images-idx3-ubyte", packed: bool = False
) -> Path:
    """The two files of a split; the path of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    pack, suffix = (gzip.compress, ".gz") if packed else (bytes, "")
    beside = named.replace("images", "labels").replace("idx3", "idx1")
    (folder / f"{beside}{suffix}").write_bytes(pack(idx_labels(labels)))
    path = folder / f"{named}{suffix}"
    path.write_bytes(pack(idx_images(pixels)))
    return path


def write_svhn(path: Path, pixels: np.ndarray, labels, *, compressed: bool = True) -> Path:
    """Images, uint8 [N, H, W, 3], and digits, of which 0 is 10, as SVHN's files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = np.array([[label or 10] for label in labels], dtype=np.uint8)
    arrays = {"X": pixels.transpose(1, 2, 3, 0), "y": digits}
    savemat(path, arrays, do_compression=compressed)
    return path


def write_cars(path: Path, names, labels=None) -> Path:
    """Annotations as Stanford's: structs of a box, a class that counts from 1, and a file name."""
    fields = [(f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")]
    fields += ([("class", "O")] if labels is not None else []) + [("fname", "O")]
    rows = np.zeros((1, len(names)), dtype=fields)
    for i, name in enumerate(names):
        row = [np.array([[n]], np.uint8) for n in (30, 52, 246, 147)]
        if labels is not None:
            row.append(np.array([[labels[i] + 1]], np.uint8))
        rows[0, i] = (*row, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": rows}, do_compression=True)
    return path
