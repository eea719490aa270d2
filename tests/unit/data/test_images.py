"""Bytes of an image become its crop or a reason, and nothing else."""

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import EpsImagePlugin, Image, ImageFile

from dawin_ray.data import images, reading
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.images import FORMATS, MAX_PIXELS, ImageDecoder, open_image, reason_of
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.models.preprocessing import Preprocessing
from dawin_ray.report.thumbnails import _thumbnail
from tests.conftest import make_images, write_parquet, write_tar
from tests.unit.data.decoders import of_zeros

PLAIN = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
[JPEG] = make_images(1)
Image.init()
HERE = tuple(name for name in FORMATS if name in Image.SAVE or name == "MPO")


def preprocessing(size=32, mode: str = "shortest") -> Preprocessing:
    return Preprocessing.of({"size": size, "resize_mode": mode})


@pytest.fixture(scope="module")
def decoder() -> ImageDecoder:
    return ImageDecoder(preprocessing())


def encoded(image: Image.Image = PLAIN, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


# Formats


@pytest.mark.parametrize("kind", HERE)
def test_a_format_of_the_list_is_decoded_as_pillow_does(decoder, kind):
    options = {"save_all": True, "append_images": [PLAIN.rotate(9)]} if kind == "MPO" else {}
    data = encoded(PLAIN, kind, **options)
    crop = decoder.preprocessing.crop(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoder(data), crop)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (33, 47), (400, 300)])
def test_modes_and_sizes_that_pass_have_the_pixels_of_before(decoder, mode, size):
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else "TIFF"
    image = PLAIN.resize(size)
    image = image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    data = encoded(image, kind)
    crop = decoder.preprocessing.crop(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoder(data), crop)


def test_of_several_frames_the_first_is_taken(decoder):
    other = PLAIN.rotate(90)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        first = encoded(PLAIN, kind, **({"lossless": True} if kind == "WEBP" else {}))
        both = encoded(PLAIN, kind, save_all=True, append_images=[other],
                       **({"lossless": True} if kind == "WEBP" else {}))  # fmt: skip
        np.testing.assert_array_equal(decoder(both), decoder(first))


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 40
%%EndComments
0 0 40 40 rectfill
%%EOF
"""
BINARY_EPS = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + bytes(24) + EPS
SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif", "jp2", "eps")


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """A stand-in for `gs` on the path; what it was called with is in this file."""
    log, program = tmp_path / "called", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return log


def test_pillow_alone_hands_postscript_to_a_program(ghostscript):
    with pytest.raises(OSError):
        Image.open(io.BytesIO(EPS)).load()
    assert ghostscript.exists()


@pytest.mark.parametrize("data", [EPS, BINARY_EPS], ids=["text", "binary"])
def test_postscript_under_any_suffix_reaches_no_program(tmp_path, ghostscript, data):
    folder = tmp_path / "folder"
    folder.mkdir()
    for suffix in SUFFIXES:
        (folder / f"{suffix}.{suffix}").write_bytes(data)
    shards = [
        *make_shards(c := DatasetConfig(name="set", path=str(folder)), list_files(c)),
        *(
            Shard(dataset="set", name=path.name, address=str(path), format=kind, key=kind,
                  bytes=path.stat().st_size)
            for kind, path in (
                ("webdataset", write_tar(tmp_path / "s.tar", [data] * 4, None)),
                ("parquet", write_parquet(tmp_path / "s.parquet", [data] * 4, None)),
            )
        ),
    ]  # fmt: skip
    decode = DecodeImages(preprocessing(), 64, {"set": DatasetClasses(count=2)})
    reasons = [r.reason for shard in shards for chunk in decode(shard) for r in chunk.rejects]
    assert len(reasons) >= 4 + 4 + 4
    assert all("it is PostScript (EPS), which is not read; expected one of JPEG" in r
               for r in reasons)  # fmt: skip
    assert _thumbnail(data, 0) is None
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(PLAIN, "DDS"), "it is DDS, which is not read"),
        (encoded(PLAIN, "QOI"), "it is QOI"),
        (encoded(PLAIN, "PDF"), "it is PDF"),
        (b"\xd7\xcd\xc6\x9a" + bytes(90), "it is WMF"),
        (b"SIMPLE  =                    T", "it is FITS"),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG"),
        (b"<!DOCTYPE html><title>404</title>", "it is HTML"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "it is HEIC"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"", "it is empty"),
        (b"\x01\x02\x03", "it begins with 01 02 03"),
        (encoded(PLAIN, "TGA"), "it is no image that can be read"),
        (encoded(PLAIN, "IM"), "it is no image that can be read"),
        (encoded(PLAIN, "PCX"), "it is no image that can be read"),
    ],
)
def test_what_is_no_image_of_the_list_is_told_for_what_it_is(decoder, data, said):
    reason = decoder(data)
    assert reason.startswith("cannot be decoded: ")
    assert said in reason
    assert "git lfs" in reason or "expected one of JPEG, MPO, PNG" in reason


# Whatever a decoder raises


ERRORS = [
    RuntimeError("Failed to decode frame 0"), NotImplementedError("mode"), KeyError(b"\xff"),
    TypeError("a"), AttributeError("b"), IndexError(), ZeroDivisionError("c"), AssertionError(),
    RecursionError("d"), OSError("broken data stream"), SyntaxError("e"), EOFError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "f"), StopIteration(), BufferError("g"),
    zlib.error("h"), LookupError("i"), Warning("j"),
    UnicodeEncodeError("utf-8", "\udcff", 0, 1, "k"),
]  # fmt: skip


@pytest.mark.parametrize("error", [*ERRORS, MemoryError()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("when", ["open", "load", "crop"])
def test_whatever_is_raised_at_one_image_is_its_reason(decoder, monkeypatch, error, when):
    def fail(*_, **__):
        raise error

    if when == "open":
        monkeypatch.setattr(Image, "open", fail)
    elif when == "load":
        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    else:
        monkeypatch.setattr(Preprocessing, "crop", fail)
    reason = decoder(encoded())
    assert reason.startswith(f"cannot be decoded: {type(error).__name__}")
    assert reason == decoder(encoded())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_ends_the_process_is_not_an_image(decoder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(error):
        decoder(JPEG)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot identify <_io.BytesIO object at 0x7f1c0a>", "cannot identify"),
        ("at 0x7f1c0a2b44d0 it failed", "at  it failed"),
        ("two\nlines\r\x1b[31m and \x00", r"two\nlines\r\x1b[31m and \x00"),
        ("\udcff and \u202e", r"\xff and \u202e"),
        ("long " * 999, "..."),
    ],
)
def test_a_reason_is_one_line_of_bounded_length_and_the_same_in_every_run(message, shown):
    reason = reason_of(ValueError(message))
    assert shown in reason
    assert reason.isprintable()
    assert len(reason) < 400


def test_a_damaged_avif_is_a_reject_and_its_neighbours_are_scored(tmp_path):
    data = bytearray(encoded(PLAIN, "AVIF"))
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path = write_parquet(tmp_path / "s.parquet", [JPEG, bytes(data), JPEG], [0, 1, 0])
    shard = Shard(dataset="set", name="s", address=str(path), format="parquet", bytes=9, key="s")
    [chunk] = DecodeImages(preprocessing(), 9, {"set": DatasetClasses(count=2)})(shard)
    assert chunk.sample_ids == ["s/0", "s/2"]
    assert chunk.rejects[0].reason.startswith("cannot be decoded: RuntimeError: Failed to decode")


# Sizes


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, (24, 48), (48, 24), 224])
def test_the_size_is_known_before_it_is_made(mode, size):
    config = PreprocessCfg(size=size, resize_mode=mode)
    resize = image_transform_v2(config, is_train=False).transforms[0]
    rng = np.random.default_rng(0)
    for width, height in [(1, 1), (1, 300), (300, 1), *rng.integers(1, 400, (60, 2)).tolist()]:
        expected = preprocessing(size, mode).resized(width, height)
        if min(expected) < 1:
            with pytest.raises(ValueError):
                resize(Image.new("L", (width, height)))
        else:
            assert resize(Image.new("L", (width, height))).size == expected


THIN = """
import resource, sys
from dawin_ray.data.images import ImageDecoder
from dawin_ray.models import Preprocessing
from tests.unit.data.decoders import of_zeros
encoded = {(w, h): of_zeros(w, h) for side in (20_000, 10**6, 10**7) for w, h in
           ((1, side), (side, 1), (5, side), (side, 5))}
decoders = {mode: ImageDecoder(Preprocessing.of({"size": 224, "resize_mode": mode}))
            for mode in ("shortest", "longest", "squash")}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
for mode, decode in decoders.items():
    for (w, h), data in encoded.items():
        for border in (0, 2):
            out = decode(data, border)
            print(mode, w, h, border, out if isinstance(out, str) else out.shape, sep="|")
print("most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_thin_images_are_refused_by_their_size_in_little_memory():
    """A process that may take 1 GB more than it has loaded; both orientations, with a border."""
    result = subprocess.run(
        [sys.executable, "-c", THIN], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    *lines, _ = result.stdout.splitlines()
    assert len(lines) == 3 * 12 * 2
    outcomes = {tuple(line.split("|")[:4]): line.split("|")[4] for line in lines}
    assert "MemoryError" not in result.stdout
    said = "1 x 20000 pixels would be resized to 224 x 4480000"
    assert said in outcomes["shortest", "1", "20000", "0"]
    assert (
        "19996 x 1 pixels would be resized to 4479104 x 224"
        in (outcomes["shortest", "20000", "5", "2"])
    )
    for (mode, *_), out in outcomes.items():
        if mode == "shortest":
            assert "would be resized to" in out or "leave nothing" in out or "224, 224" in out
    assert "by way of 224 x 10000000" in outcomes["squash", "1", "10000000", "0"]
    assert outcomes["squash", "20000", "1", "0"] == "(224, 224, 3)"


@pytest.mark.parametrize("side", [20, 700, 2900])
def test_thin_images_within_the_limit_have_the_pixels_of_before(side):
    decoder = ImageDecoder(preprocessing(64))
    for size in ((1, side), (side, 1)):
        data = encoded(PLAIN.resize(size))
        crop = decoder.preprocessing.crop(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(decoder(data), crop)


def test_the_limit_of_pixels_holds_whatever_another_library_has_set(decoder, monkeypatch):
    data = of_zeros(MAX_PIXELS // 10_000 + 1, 10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "DecompressionBombError" in decoder(data)
    assert _thumbnail(data, 0) is None


def test_a_size_that_is_known_only_once_it_is_decoded_is_checked_too(monkeypatch):
    decoder = ImageDecoder(preprocessing(224))
    real = ImageFile.ImageFile.load

    def grow(image):
        real(image)
        image._size = (1, 200_000)

    monkeypatch.setattr(ImageFile.ImageFile, "load", grow)
    assert "1 x 200000 pixels would be resized" in decoder(encoded())


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_what_a_png_says_of_itself_is_bounded(decoder, kind):
    """A few hundred kB that stand for 300 MB of text, or of a colour profile."""
    packed = zlib.compress(bytes(300 << 20))
    body = {
        b"zTXt": b"a\x00\x00" + packed,
        b"iTXt": b"a\x00\x01\x00\x00\x00" + packed,
        b"iCCP": b"a\x00\x00" + packed,
    }[kind]
    crc = zlib.crc32(kind + body).to_bytes(4, "big")
    data = encoded()
    after_header = 8 + 25
    chunk = len(body).to_bytes(4, "big") + kind + body + crc
    tracemalloc.start()
    out = decoder(data[:after_header] + chunk + data[after_header:])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(out, np.ndarray) or "too large" in out
    assert most < 100 << 20


# How it is used


def test_a_decoder_travels_to_another_process(decoder):
    other = pickle.loads(pickle.dumps(decoder))  # noqa: S301  (our own)
    np.testing.assert_array_equal(other(JPEG), decoder(JPEG))


def test_a_border_that_leaves_nothing_is_a_reason(decoder):
    assert "leave nothing within a border of 30" in decoder(encoded(), 30)


def test_encoded_images_are_not_kept_until_the_chunk_is_full(monkeypatch):
    """A chunk of 60 images of 4 MB takes the memory of a few."""

    def samples(*_):
        for i in range(60):
            yield Sample(sample_id=str(i), image=JPEG + bytes(4 << 20), position=i)

    monkeypatch.setattr(reading, "read_samples", samples)
    decode = DecodeImages(preprocessing(), 60, {"set": DatasetClasses(count=2)})
    shard = Shard(dataset="set", name="s", address="", format="parquet", bytes=60, key="s")
    tracemalloc.start()
    [chunk] = decode(shard)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(chunk.images) == 60
    assert most < 40 << 20


def test_what_a_broken_shard_lost_comes_with_its_reject(monkeypatch):
    broken = Sample(sample_id="s/x", image=None, error="cut", position=5, broken=True, lost=7)
    monkeypatch.setattr(reading, "read_samples", lambda *_: iter([broken]))
    shard = Shard(dataset="set", name="s", address="", format="parquet", bytes=60, key="s")
    [chunk] = DecodeImages(preprocessing(), 9, {"set": DatasetClasses(count=2)})(shard)
    [reject] = chunk.rejects
    assert (reject.reason, reject.broken, reject.lost) == ("cut", True, 7)


def test_no_other_module_opens_images():
    package = Path(images.__file__).parents[1]
    users = {p.name for p in package.rglob("*.py") if "Image.open(" in p.read_text()}
    assert users == {"images.py"}
    with open_image(JPEG) as image:
        assert image.format == "JPEG"
