"""Images that lie in their files as plain pixels, as encoded images for the samples."""

from __future__ import annotations

import numpy as np


def as_pnm(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 [H, W] or [H, W, 3], as a PGM or PPM, which is a header and the pixels."""
    height, width, *colours = pixels.shape
    assert pixels.dtype == np.uint8, "a byte each"
    assert colours in ([], [3]), "grey or RGB"
    return b"P%d %d %d 255\n" % (6 if colours else 5, width, height) + pixels.tobytes()
