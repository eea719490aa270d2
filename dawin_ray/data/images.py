"""From the bytes of one image to its crop, or to the reason why there is none.

Data choose the bytes, never what reads them: FORMATS lists what is read, none of which starts a
program (Pillow hands PostScript to Ghostscript), and what an image would take once it is resized is
known before memory is taken.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from dawin_ray.names import escaped
from dawin_ray.storage import LFS_POINTER, lfs_pointer

if TYPE_CHECKING:
    from dawin_ray.models import Preprocessing

# By Pillow's names; AVIF and JPEG 2000 where this Pillow was built with them.
FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO",
)  # fmt: skip

# Of files of FORMATS; the first of a sample's members or columns is taken.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k",
)  # fmt: skip

# Pixels of an image, and of what it is resized to: Pillow's own limit of decompression, whatever
# another library has set it to. As RGB it is some 700 MB.
MAX_PIXELS = 178_956_970

# libpng's default bound of a side. Pillow's resize takes some 32 bytes for each pixel of a side.
MAX_SIDE = 1_000_000

MAX_REASON = 300  # characters of a decoder's message

# What is found in the place of images, by its first bytes: told, as it is not read.
OTHERS = (
    (b"%!PS", "PostScript (EPS)"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML (SVG?)"),
    (b"<html", "HTML"),
    (b"<!doctype", "HTML"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip"),
)

HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")

_ADDRESS = re.compile(r"\s*<[^<>]*\bat 0x[0-9a-fA-F]+>|\b0x[0-9a-fA-F]{6,}")


class ImageDecoder:
    """Decodes one image after another; cheap to pickle, for another process too."""

    def __init__(self, preprocessing: Preprocessing):
        """`preprocessing` is the model's."""
        self.preprocessing = preprocessing

    def __call__(self, encoded: bytes, border: int = 0) -> np.ndarray | str:
        """Its crop, uint8 [H, W, 3], without `border` pixels on each side; or why there is none.

        Whatever a decoder raises at one image's bytes is that image's reason.
        """
        try:
            with open_image(encoded) as image:
                self._check_resize(image.size, border)
                image.load()
                self._check_resize(image.size, border)  # an ICO tells its size only now
                return self.preprocessing.crop(without_border(image, border))
        except MemoryError:
            return "cannot be decoded: MemoryError: there is not enough memory for it"
        except Exception as error:  # noqa: BLE001  (decoders raise anything at damaged data)
            return reason_of(error)

    def _check_resize(self, size: tuple[int, int], border: int) -> None:
        """Refuse what would be larger than any image may be, by its size alone."""
        width, height = (side - 2 * border for side in size)
        if min(width, height) < 1:
            return  # for `without_border` to say
        new_width, new_height = self.preprocessing.resized(width, height)
        # Pillow resizes each row first, then the columns of that
        if new_width * max(height, new_height) > MAX_PIXELS:
            through = f" by way of {new_width} x {height}" if height > new_height else ""
            raise _UnusableError(
                f"{width} x {height} pixels would be resized to {new_width} x {new_height}"
                f"{through}; at most {MAX_PIXELS:,} pixels are made of an image"
            )
        if max(width, height) > MAX_SIDE:
            raise _UnusableError(
                f"{width} x {height} pixels; a side of at most {MAX_SIDE:,} pixels is read"
            )


class _UnusableError(ValueError):
    """What we say of an image ourselves."""


def open_image(encoded: bytes) -> Image.Image:
    """An image of one of FORMATS, its pixels not decoded yet.

    Raises:
        Exception: whatever Pillow's plugin raises at these bytes; see `reason_of`.
    """
    Image.init()
    formats = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        image = Image.open(io.BytesIO(encoded), formats=formats)
    except UnidentifiedImageError as error:
        raise _UnusableError(_unknown(encoded)) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read"
        )
    return image


def without_border(image: Image.Image, border: int) -> Image.Image:
    """The image without `border` pixels on each side.

    Raises:
        ValueError: nothing would be left.
    """
    if not border:
        return image
    width, height = image.size
    if min(width, height) <= 2 * border:
        raise ValueError(f"{width} x {height} pixels leave nothing within a border of {border}")
    return image.crop((border, border, width - border, height - border))


def reason_of(error: Exception) -> str:
    """Why an image is no crop: the same in every run, on one line, of bounded length."""
    name = "" if isinstance(error, _UnusableError) else f"{type(error).__name__}: "
    message = escaped(_ADDRESS.sub("", str(error))).strip()
    if len(message) > MAX_REASON:
        message = message[:MAX_REASON] + "..."
    return f"cannot be decoded: {name}{message}".rstrip(": ")


def _unknown(encoded: bytes) -> str:
    """What bytes are that no format of ours begins with."""
    expected = f"expected one of {', '.join(FORMATS)}"
    if not encoded:
        return f"it is empty; {expected}"
    if lfs_pointer(encoded[:64]):
        return LFS_POINTER
    start = encoded[:16].lstrip().lower()
    found = next((name for magic, name in OTHERS if start.startswith(magic.lower())), None)
    if encoded[4:8] == b"ftyp" and encoded[8:12] in HEIF_BRANDS:
        found = "HEIC"
    if found is None:
        # what differs from image to image comes last: reasons are counted by how they begin
        return f"it is no image that can be read; {expected}; it begins with {encoded[:8].hex(' ')}"
    return f"it is {found}, which is not read; {expected}"
