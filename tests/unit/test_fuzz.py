"""Bytes of good shards are flipped, cut, doubled, zeroed: no crash, no sample unaccounted for."""

import random

import pytest

from dawin_ray.classes import DatasetClasses
from dawin_ray.datasets import Shard
from dawin_ray.decoding import DecodeImages
from dawin_ray.models import ModelConfig, PreprocessCfg, Preprocessing, create_model
from tests.conftest import CLASSES, make_images, write_parquet, write_tar

CASES = 500  # of each format
SAMPLES = 6


@pytest.fixture(scope="module")
def decode(small) -> DecodeImages:
    visual = create_model(ModelConfig(architecture=small.config)).visual
    preprocessing = Preprocessing(config=PreprocessCfg(**visual.preprocess_cfg))
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
