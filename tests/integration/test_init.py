"""From the demo's images and its two expert files to the right accuracies."""

import numpy as np
import pytest
from typer.testing import CliRunner

from dawin_ray import load_job, prepare, read_predictions, score
from dawin_ray.cli import app
from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import make_test_set, write_shards

SAMPLES = 120  # of each data set


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
