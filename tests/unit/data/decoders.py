"""What processes of tests decode, which import no more than a process of a run does."""

import io
import os
import time

import numpy as np
from PIL import Image

from dawin_ray.data import isolated
from dawin_ray.data.images import ImageDecoder


class Fatal(ImageDecoder):
    """A decoder that does what the image says, or decodes it."""

    def __call__(self, encoded, border=0):
        if encoded.startswith(b"signal "):
            os.kill(os.getpid(), int(encoded.split()[1]))
        if encoded == b"hang":
            time.sleep(600)
        if encoded == b"noise":
            print("a library that prints " * 1000, flush=True)
            return "printed"
        if encoded == b"memory":
            np.empty(isolated.MAX_BYTES + (1 << 30), np.uint8)  # which no page is touched of
        if encoded == b"surrogate":
            return "cannot \udcff"
        return super().__call__(encoded, border)


def of_zeros(width: int, height: int) -> bytes:
    """A PNG of a bit a pixel, as small as it gets."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        buffer = io.BytesIO()
        Image.new("1", (width, height)).save(buffer, format="PNG")
        return buffer.getvalue()
    finally:
        Image.MAX_IMAGE_PIXELS = limit
