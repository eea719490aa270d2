"""The contact sheet: a row of images for each data set, each with the label that was understood."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dawin_ray.drafts.samples import SHOWN, SIDE, Looked, Seen
from dawin_ray.names import escaped

MARGIN, LINE = 12, 18  # pixels; of a line of text

TEXT, FAINT, PAPER, FRAME = "#111111", "#555555", "#ffffff", "#cccccc"

SIZE = 13  # of letters

SMALLEST = SIDE // 2  # pixels that a side is enlarged to at least, by whole factors

FONT = ("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")  # of matplotlib, which is not imported

WIDTH = MARGIN + SHOWN * (SIDE + MARGIN)


def sheet_of(looks: Sequence[Looked]) -> bytes:
    """A PNG; a row of at most SHOWN images for each data set, its title above."""
    letters = font()
    row = LINE + 6 + SIDE + 2 * LINE + MARGIN
    page = Image.new("RGB", (WIDTH, MARGIN + row * max(len(looks), 1)), PAPER)
    draw = ImageDraw.Draw(page)
    for i, looked in enumerate(looks):
        top = MARGIN + i * row
        title = f"{looked.place.name}: {looked.place.config.path}; labels: {looked.labels_from}"
        draw.text((MARGIN, top), fitting(title, WIDTH - 2 * MARGIN, letters), TEXT, letters)
        for j, seen in enumerate(looked.seen):
            left = MARGIN + j * (SIDE + MARGIN)
            _cell(page, draw, (left, top + LINE + 6), looked.named(seen.label), seen, letters)
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()


def _cell(
    page: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], label: str, seen: Seen,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:  # fmt: skip
    left, top = at
    if seen.image is None:
        draw.rectangle((left, top, left + SIDE, top + SIDE), outline=FRAME)
        words = fitting(seen.why_not, SIDE - 8, font)
        draw.text((left + 4, top + SIDE // 2), words, FAINT, font)
    else:
        image = _enlarged(seen.image)
        page.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
    draw.text((left, top + SIDE + 2), fitting(label, SIDE, font), TEXT, font)
    draw.text((left, top + SIDE + 2 + LINE), _ending(seen.sample_id, SIDE, font), FAINT, font)


def _enlarged(image: Image.Image) -> Image.Image:
    """Small images by a whole factor, so that a pixel stays one."""
    factor = SIDE // max(image.size)
    if max(image.size) >= SMALLEST or factor < 2:
        return image
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of the beginning of a text as is so wide, on one line."""
    return _cut(escaped(text), width, font)


def _ending(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Likewise of its end."""
    return _cut(escaped(text)[::-1], width, font)[::-1]


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[: min(len(text) - 1, int(len(text) * width / font.getlength(f"{text}…")) + 1)]
    return f"{text}…"


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu, which has the letters of many scripts, where matplotlib brings it."""
    spec = find_spec("matplotlib")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder, *FONT)
        if path.exists():
            return ImageFont.truetype(str(path), SIZE)
    return ImageFont.load_default(SIZE)
