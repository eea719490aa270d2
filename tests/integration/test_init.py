"""From the demo's images and its two expert files to the right accuracies."""

import numpy as np
import pytest
from s3fs import S3FileSystem
from typer.testing import CliRunner

from dawin_ray import load_job, prepare, read_predictions, score
from dawin_ray.cli import app
from dawin_ray.data import looking
from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import make_test_set, write_shards
from tests.integration.conftest import BUCKET

SAMPLES = 60  # of each data set


def test_the_demo_from_its_images_and_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = {name: make_test_set(name) for name in ("digits", "inversion")}
    write_shards(tmp_path / "data", {n: (i[:SAMPLES], x[:SAMPLES]) for n, (i, x) in sets.items()})
    given = [word for path in CHECKPOINTS.values() for word in ("--experts", str(path))]
    done = CliRunner().invoke(app, ["init", "data", *given])
    assert done.exit_code == 0, done.output
    assert "doubt" not in done.output
    job = load_job("job.yaml", ["compute.engine=local"])
    assert job.model.architecture == str(MODEL_CONFIG)
    assert [expert.name for expert in job.experts] == ["zero_shot", "fine_tuned"]
    score(prepare(job))
    rows = read_predictions(job.run_dir)
    assert len(rows) == 2 * SAMPLES
    right = (rows.prediction == rows.label).groupby(rows.dataset).mean()
    assert set(right.index) == {"digits", "inversion"}
    # the first of each set, in the table of the README 98.1 and 81.8
    assert right["digits"] == pytest.approx(0.98, abs=0.03)
    assert right["inversion"] == pytest.approx(0.82, abs=0.08)
    for name, (_, labels) in sets.items():
        of_set = rows[rows.dataset == name].sort_values("sample_id")
        assert np.array_equal(of_set.label, labels[:SAMPLES])


@pytest.mark.slow
def test_data_and_checkpoints_on_s3_in_few_requests(aws, s3, tmp_path, monkeypatch):
    """Of a folder of many names two pages are asked for, and of files the first ones."""
    monkeypatch.chdir(tmp_path)
    images, labels = make_test_set("digits")
    write_shards(tmp_path / "data", {"digits": (images[:40], labels[:40])})
    for path in [*tmp_path.rglob("*.tar"), *CHECKPOINTS.values(), MODEL_CONFIG]:
        kind = "data/digits" if path.suffix == ".tar" else "models"
        s3.put(str(path), f"{BUCKET}/drafts/{kind}/{path.name}")
    for i in range(30):
        s3.pipe_file(f"{BUCKET}/drafts/data/digits/{i:03d}.txt", b"x")
    asked = []
    call = S3FileSystem.call_s3

    def counting(fs, method, *args, **asking):
        page = call(fs, method, *args, **asking, MaxKeys=4)
        asked.append((asking["Prefix"], len(page.get("Contents", []))))
        return page

    monkeypatch.setattr(S3FileSystem, "call_s3", counting)
    monkeypatch.setattr(S3FileSystem, "_find", None)  # which lists all that is below
    monkeypatch.setattr(looking, "MOST_NAMES", 6)
    where = f"s3://{BUCKET}/drafts"
    given = [w for p in CHECKPOINTS.values() for w in ("--experts", f"{where}/models/{p.name}")]
    done = CliRunner().invoke(app, ["init", f"{where}/data", *given, "--out", "mine.yaml"])
    assert done.exit_code == 2  # the first six names are of no images
    assert sum(count for prefix, count in asked if prefix.endswith("digits/")) == 2 * 4
    asked.clear()
    monkeypatch.setattr(looking, "MOST_NAMES", 31)
    done = CliRunner().invoke(app, ["init", f"{where}/data", *given, "--out", "mine.yaml"])
    assert done.exit_code == 0, done.output
    job = load_job("mine.yaml")
    assert job.model.architecture == f"{where}/models/model.json"
    assert [dataset.path for dataset in job.datasets] == [f"{where}/data/digits"]
