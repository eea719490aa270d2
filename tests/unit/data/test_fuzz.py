"""Bytes of good shards are flipped, cut, doubled, zeroed: no crash, no sample unaccounted for."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.images import FORMATS
from dawin_ray.models.experts import create_model
from dawin_ray.models.preprocessing import Preprocessing
from dawin_ray.models.spec import ModelConfig
from tests.conftest import CLASSES, make_images, write_parquet, write_tar

CASES = 500  # of each format
SAMPLES = 6


@pytest.fixture(scope="module")
def decode(small) -> DecodeImages:
    visual = create_model(ModelConfig(architecture=small.config)).visual
    preprocessing = Preprocessing.of(visual.preprocess_cfg)
    return DecodeImages(preprocessing, 4, {"set": DatasetClasses(count=CLASSES)})


def spoil(data: bytes, rng: random.Random) -> bytes:
    """One to four changes."""
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(spoilt))
        how = rng.choice(["flip", "byte", "cut", "double", "zero"])
        if how == "flip":
            spoilt[at] ^= 1 << rng.randrange(8)
        elif how == "byte":
            spoilt[at] = rng.randrange(256)
        elif how == "cut" and len(spoilt) > 100:
            del spoilt[at : at + rng.randint(1, 600)]
        elif how == "double":
            spoilt[at:at] = spoilt[at : at + 100]
        elif how == "zero":
            end = min(at + rng.randint(1, 600), len(spoilt))
            spoilt[at:end] = bytes(end - at)
    return bytes(spoilt)


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_spoilt_shards_lose_nothing_silently(tmp_path, decode, kind):
    suffix = {"webdataset": "tar", "parquet": "parquet"}[kind]
    path = tmp_path / f"s.{suffix}"
    write = {"webdataset": write_tar, "parquet": write_parquet}[kind]
    good = write(path, make_images(SAMPLES), [i % CLASSES for i in range(SAMPLES)]).read_bytes()
    broken = whole = 0
    for case in range(CASES):
        path.write_bytes(spoil(good, random.Random(case)))
        shard = Shard(
            dataset="set", name=path.name, address=str(path), format=kind,
            bytes=path.stat().st_size, key="s",
        )  # fmt: skip
        chunks = list(decode(shard))
        ids = [i for c in chunks for i in (*c.sample_ids, *(r.sample_id for r in c.rejects))]
        assert len(ids) == len(set(ids)), case
        reasons = [reject.reason for chunk in chunks for reject in chunk.rejects]
        if any("breaks after" in r or "no readable" in r or "no column" in r for r in reasons):
            broken += 1
        else:
            assert len(ids) >= SAMPLES, case
            whole += 1
    assert broken > CASES // 10
    assert whole > CASES // 10
    print(
        f"{kind}: {CASES} cases, {broken} told as broken, {whole} with every sample accounted for"
    )


def whole_images() -> list[tuple[str, bytes]]:
    """Of every format that is read and that Pillow writes, in several modes and options."""
    Image.init()
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    image = coarse.resize((48, 37), Image.Resampling.BICUBIC)
    several = {"save_all": True, "append_images": [image.rotate(9)]}
    exif = Image.Exif()
    exif[0x010E] = "an image"
    options = {
        "JPEG": [{}, {"progressive": True}, {"exif": exif}, {"icc_profile": b"profile" * 20}],
        "MPO": [several],
        "PNG": [{}, {"compress_level": 0}, several],
        "WEBP": [{}, {"lossless": True}, several],
        "GIF": [{}, several],
        "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, several],
        "AVIF": [{}, several],
        "ICO": [{}, {"bitmap_format": "bmp"}],
    }
    modes = {"PNG": ("L", "P", "RGBA", "I;16"), "TIFF": ("CMYK", "F", "1"), "JPEG": ("L", "CMYK"),
             "PPM": ("L", "1"), "BMP": ("P", "1"), "JPEG2000": ("L",)}  # fmt: skip
    found = []
    for kind in FORMATS:
        if kind not in Image.SAVE and kind != "MPO":
            continue
        variants = [(image, option) for option in options.get(kind, [{}])]
        for mode in modes.get(kind, ()):
            base = image.convert("L").convert("I") if mode == "I;16" else image
            variants.append((base.convert(mode), {}))
        for variant, option in variants:
            buffer = io.BytesIO()
            if "append_images" in option:  # Pillow keeps settings of one format in them
                option = option | {"append_images": [image.rotate(9)]}
            variant.copy().save(buffer, format=kind, **option)
            found.append((kind, buffer.getvalue()))
    return found


def spoil_image(data: bytes, rng: random.Random) -> bytes:
    """As `spoil`, or the header alone, where formats say how large they are, or an end cut off."""
    how = rng.choice(["anywhere", "anywhere", "header", "header", "end"])
    if how == "end":
        return data[: rng.randrange(len(data))]
    if how == "anywhere":
        return spoil(data, rng)
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(spoilt), 200))
        spoilt[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(spoilt)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, at what it makes of damaged tags
def test_damaged_images_of_all_formats_are_scored_or_rejected(tmp_path, decode):
    whole, rng, count = whole_images(), random.Random(0), 3000
    kinds = {kind for kind, _ in whole}
    assert kinds >= {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO"}
    images = [spoil_image(whole[i % len(whole)][1], rng) for i in range(count)]
    path = write_parquet(tmp_path / "s.parquet", images, [i % CLASSES for i in range(count)])
    shard = Shard(
        dataset="set", name="s", address=str(path), format="parquet",
        bytes=path.stat().st_size, key="s",
    )  # fmt: skip
    scored, reasons = [], {}
    for chunk in decode(shard):
        assert len(chunk.images) == len(chunk.sample_ids) == len(chunk.labels)
        scored += chunk.sample_ids
        reasons |= {reject.sample_id: reject.reason for reject in chunk.rejects}
    assert sorted([*scored, *reasons]) == sorted(f"s/{row}" for row in range(count))
    assert all(r.startswith("cannot be decoded: ") for r in reasons.values())
    assert all(r.isprintable() and len(r) < 400 and " 0x" not in r for r in reasons.values())
    assert min(len(scored), len(reasons)) > count // 10
    print(f"{count} damaged images of {len(kinds)} formats: {len(reasons)} rejected")
