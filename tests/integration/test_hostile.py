"""A supplier of data who wants more than a prediction: runs with Ray's types in every worker."""

import io
import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.tables import REJECTS
from tests.conftest import CLASSES, make_images, write_parquet
from tests.hostile import OBJECT, schemas
from tests.integration.processes import rows

COUNT = 12


def avif(damaged: bool) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="AVIF")
    data = bytearray(buffer.getvalue())
    if damaged:
        start = data.index(b"mdat") + 4
        data[start:] = bytes(len(data) - start)
    return bytes(data)


def thin(length: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (1, length)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run_dir(small, local_ray, tmp_path_factory):
    """A run over one shard of sound and damaged images, and one for each hostile schema."""
    root = tmp_path_factory.mktemp("hostile")
    images = [*make_images(COUNT), avif(damaged=False), avif(damaged=True), thin(10**7)]
    write_parquet(
        root / "data" / "sound.parquet", images, [i % CLASSES for i in range(len(images))]
    )
    for name, (table, _) in schemas(root / "mark", images[0]).items():
        pq.write_table(table, root / "data" / f"{name.replace(' ', '-')}.parquet")
    datasets = [{"name": "set", "path": str(root / "data")}]
    job = small.job_file(root / "job.yaml", root / "run", datasets, max_broken_shards=99,
                         compute={"engine": "ray", "actors": 1})  # fmt: skip
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    return root / "run"


def rejects(run_dir) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "rejects").set_index("shard")


def test_no_pickle_of_the_data_ran(run_dir):
    assert not (run_dir.parent / "mark").exists()


def test_each_shard_that_names_such_types_is_one_reject_with_what_it_lost(run_dir):
    found = rejects(run_dir)
    for name, (_, said) in schemas(run_dir.parent / "mark", b"").items():
        row = found.loc[f"{name.replace(' ', '-')}.parquet"]
        assert f"data may not choose what runs: {', '.join(said)}" in row["reason"]
        assert (bool(row["broken"]), int(row["lost"])) == (True, 3)
    assert found["reason"].str.contains(OBJECT).sum() == 8


def test_the_sound_images_are_scored_and_the_others_rejected(run_dir):
    scored = pd.read_parquet(run_dir / "predictions" / "dataset=set")
    assert set(scored["sample_id"]) == {f"sound.parquet/{i}" for i in range(COUNT + 1)}
    reasons = rejects(run_dir).loc[["sound.parquet"]].set_index("sample_id")["reason"]
    assert reasons["sound.parquet/13"].startswith("cannot be decoded: RuntimeError")
    assert "1 x 10000000 pixels would be resized to 32 x 320000000" in reasons["sound.parquet/14"]


def test_the_rows_are_those_of_the_local_engine(run_dir):
    """Of the same images, to what another number of threads does to float32."""
    job, local = run_dir.parent / "job.yaml", run_dir.parent / "local"
    result = CliRunner().invoke(app, ["run", str(job), f"run_dir={local}", "compute.engine=local"])
    assert result.exit_code == 0, result.output
    for kind in ("experts", "predictions", "rejects"):
        pd.testing.assert_frame_equal(rows(run_dir, kind), rows(local, kind), rtol=0, atol=1e-4)


def test_what_a_run_writes_carries_checksums_and_no_types_of_others(run_dir):
    for part in (run_dir / "rejects").iterdir():
        assert pq.ParquetFile(part).schema_arrow.equals(REJECTS)
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert all(re.fullmatch(r"[0-9a-f]{64}", output["sha256"]) for output in manifest["outputs"])
