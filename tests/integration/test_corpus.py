"""Odd and broken samples and shards: none ends a run, none is lost, and each reason is right."""

import io
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.names import MADE
from tests.conftest import make_images, write_tar

PLAIN = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (40, 44, 3), dtype=np.uint8)
).resize((88, 80))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """A JPEG whose EXIF asks for a rotation, which open_clip's preprocessing does not heed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PLAIN, "JPEG", exif=exif)


def bomb() -> bytes:
    """A PNG of 400 million pixels in a few kB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoded(Image.new("1", (20_000, 20_000)), "PNG")


JPEG = encoded(PLAIN, "JPEG", quality=90)
DECODED = "cannot be decoded"
# key -> members, and the reason that is expected, or None for a sample that is scored
SAMPLES: dict[str, tuple[dict[str, bytes], str | None]] = {
    "grey": ({"png": encoded(PLAIN.convert("L"))}, None),
    "palette": ({"png": encoded(PLAIN.convert("P"))}, None),
    "bilevel": ({"png": encoded(PLAIN.convert("1"))}, None),
    "alpha": ({"png": encoded(PLAIN.convert("RGBA"))}, None),
    "grey-alpha": ({"png": encoded(PLAIN.convert("LA"))}, None),
    "cmyk": ({"jpg": encoded(PLAIN.convert("CMYK"), "JPEG")}, None),
    "sixteen-bit": (
        {"png": encoded(Image.fromarray(np.full((40, 40), 4000, dtype=np.uint16)))},
        None,
    ),
    "animated": (
        {"webp": encoded(PLAIN, "WEBP", save_all=True, append_images=[PLAIN.rotate(9)])},
        None,
    ),
    "exif": ({"jpeg": turned()}, None),
    "one-pixel": ({"png": encoded(Image.new("RGB", (1, 1)))}, None),
    "very-wide": ({"png": encoded(Image.new("RGB", (3000, 2)))}, None),
    "grüße-日本": ({"png": encoded(PLAIN), "cls": b"1"}, None),
    "../../escape": ({"png": encoded(PLAIN)}, None),
    "/absolute": ({"png": encoded(PLAIN)}, None),
    "upper": ({"PNG": encoded(PLAIN), "CLS": b"2"}, None),
    "wrong-extension": ({"png": JPEG}, None),
    "label-in-lines": ({"jpg": JPEG, "cls": b" 3\n"}, None),
    "empty": ({"jpg": b""}, DECODED),
    "cut-in-head": ({"jpg": JPEG[:2]}, DECODED),
    "cut-early": ({"jpg": JPEG[:200]}, DECODED),
    "cut-late": ({"jpg": JPEG[: len(JPEG) // 2]}, DECODED),
    "cut-png": ({"png": encoded(PLAIN)[:-30]}, DECODED),
    "html": ({"jpg": b"<!doctype html><title>404</title>"}, DECODED),
    "zeros": ({"jpg": bytes(5000)}, DECODED),
    "bomb": ({"png": bomb()}, "DecompressionBombError"),
    "lonely": ({"cls": b"1"}, "no image member"),
    "text-only": ({"txt": b"a caption"}, "no image member"),
    "label-word": ({"jpg": JPEG, "cls": b"cat"}, "is no integer"),
    "label-float": ({"jpg": JPEG, "cls": b"1.5"}, "is no integer"),
    "label-bytes": ({"jpg": JPEG, "cls": b"\xff\xfe"}, "is no integer"),
    "label-empty": ({"jpg": JPEG, "cls": b""}, "is no integer"),
    "label-large": ({"jpg": JPEG, "cls": b"6"}, "outside the classes 0..5"),
    "label-negative": ({"jpg": JPEG, "cls": b"-1"}, "outside the classes 0..5"),
    "label-novel": ({"jpg": JPEG, "cls": b"1" * 5000}, "at most 1,024 are read"),
}


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_corpus(root: Path) -> dict[str, str]:
    """All data sets; returns their paths."""
    (root / "samples").mkdir(parents=True)
    with tarfile.open(root / "samples" / "s.tar", "w") as tar:
        for key, (members, _) in SAMPLES.items():
            for extension, data in members.items():
                add(tar, f"{key}.{extension}", data)
        add(tar, "grey.png", encoded(PLAIN))  # a key that occurred before
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    images = make_images(12)
    shards = root / "shards"
    whole = write_tar(shards / "whole.tar", images, None).read_bytes()
    (shards / "zero.tar").write_bytes(b"")
    (shards / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (shards / "cut-header.tar").write_bytes(whole[:300])
    (shards / "html.tar").write_bytes(b"<!doctype html><title>404</title>" * 40)
    (shards / "no-samples.tar").write_bytes(bytes(10240))
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 900] = b"\x00\xff" * 450
    (shards / "damaged.tar").write_bytes(damaged)
    parquet = root / "parquet"
    parquet.mkdir()
    pq.write_table(pa.table({"image": [JPEG, None, b"", JPEG]}), parquet / "nulls.parquet")
    empty = pa.table({"image": pa.array([], pa.binary())})
    pq.write_table(empty, parquet / "no-rows.parquet")
    (parquet / "cut.parquet").write_bytes((parquet / "nulls.parquet").read_bytes()[:-20])
    return {name: str(root / name) for name in ("samples", "shards", "parquet")}


@pytest.fixture(scope="module")
def run_dir(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    datasets = [{"name": n, "path": p} for n, p in write_corpus(folder / "data").items()]
    job = small.job_file(folder / "job.yaml", folder / "run", datasets)
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    return folder / "run"


def rows(run_dir: Path, dataset: str) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")


def rejects(run_dir: Path, dataset: str) -> pd.DataFrame:
    table = pd.read_parquet(run_dir / "rejects")
    return table[table["dataset"] == dataset].set_index("sample_id")


def test_every_sample_is_scored_or_rejected_for_the_right_reason(run_dir):
    scored, refused = rows(run_dir, "samples"), rejects(run_dir, "samples")
    expected = {f"s.tar/{key}" for key, (_, reason) in SAMPLES.items() if reason is None}
    assert set(scored["sample_id"]) == expected
    for key, (_, reason) in SAMPLES.items():
        if reason is not None:
            assert reason in refused.loc[f"s.tar/{key}", "reason"], key
    others = refused.drop([f"s.tar/{key}" for key, (_, reason) in SAMPLES.items() if reason])
    assert sorted(others["reason"]) == [
        "its key occurs before in the same shard",
        "its member 'link.jpg' is a link or a device, not a file",
    ]
    assert len(scored) + len(refused) == len(SAMPLES) + 2
    print(f"{len(SAMPLES) + 2} odd samples: {len(scored)} scored, {len(refused)} rejected")


def test_labels_are_read_where_they_can_be(run_dir):
    labels = rows(run_dir, "samples").set_index("sample_id")["label"].dropna()
    assert labels.to_dict() == {"s.tar/grüße-日本": 1, "s.tar/upper": 2, "s.tar/label-in-lines": 3}


def test_a_reject_says_where_it_lies_and_what_it_is(run_dir):
    refused = rejects(run_dir, "samples")
    with open(run_dir.parent / "data" / "samples" / "s.tar", "rb") as stream:
        stream.seek(int(refused.loc["s.tar/html", "offset"]))
        assert tarfile.TarInfo.frombuf(stream.read(512), "utf-8", "strict").name == "html.jpg"
    assert len(refused.loc["s.tar/html", "sha256"]) == 64
    assert pd.isna(refused.loc["s.tar/lonely", "sha256"])


def test_a_broken_shard_keeps_the_samples_before_the_break(run_dir):
    scored, refused = rows(run_dir, "shards"), rejects(run_dir, "shards")
    shard = scored["sample_id"].str.split("/").str[0].value_counts()
    assert shard["whole.tar"] == 12
    assert 0 < shard["cut.tar"] < 12
    assert 0 < shard["damaged.tar"] <= 12
    for name in ("zero.tar", "cut.tar", "cut-header.tar", "html.tar"):
        reasons = refused[refused["shard"] == name]["reason"]
        assert reasons.str.contains("the shard breaks after byte").sum() == 1, name
    assert not (refused["shard"] == "whole.tar").any()


def test_parquet_without_images_or_rows(run_dir):
    refused = rejects(run_dir, "parquet")
    assert set(rows(run_dir, "parquet")["sample_id"]) == {"nulls.parquet/0", "nulls.parquet/3"}
    assert "no image bytes" in refused.loc["nulls.parquet/1", "reason"]
    assert DECODED in refused.loc["nulls.parquet/2", "reason"]
    assert "no readable Parquet" in refused.loc[f"cut.parquet/{MADE}0", "reason"]


def test_rows_are_conserved(run_dir):
    manifest = json.loads((run_dir / "manifest.json").read_text())
    for dataset, counts in manifest["rows"].items():
        assert counts["predictions"] == len(rows(run_dir, dataset))
        assert counts["rejects"] == len(rejects(run_dir, dataset))
        assert sum(s["rows"] for s in manifest["inputs"][dataset]) == counts["predictions"]
