"""The demo's second suite as a job: eight experts, eight heads, and its table from Parquet."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dawin_ray import load_job, prepare, score
from dawin_ray.cli import app
from dawin_ray.demo.job import write_tasks_job
from dawin_ray.demo.tasks import TASKS, TEST_IMAGES
from tests.readme import rows

FEW = 32  # images of each task: as many as a batch

SHOWN = {  # what the README calls the methods, in its order
    "base": "base",
    "averaging": "averaging",
    "task arithmetic": "task_arithmetic_0.3",
    "TIES": "ties",
    "DaWin, K = 1": "dawin_K1",
    "DaWin, K = 3": "dawin",
    "DaWin, exact": "exact",
    "own expert": "own_expert",
    "oracle": "oracle",
}


def recounted(run: Path, job: Path) -> dict[str, dict[str, float]]:
    """Accuracy of each method on each task, in per cent, from the Parquet files alone."""
    methods = [m for m in load_job(str(job)).methods if m.kind != "fit"]
    fits = [m for m in load_job(str(job)).methods if m.kind == "fit"]
    found: dict[str, dict[str, float]] = {}
    for name in TASKS:
        predictions = pd.read_parquet(run / "predictions" / f"dataset={name}")
        experts = pd.read_parquet(run / "experts" / f"dataset={name}")
        of_pass_1, of_fits = (
            np.stack(experts.baseline_prediction), np.stack(predictions.fit_prediction)
        )  # fmt: skip
        found[name] = {
            **{m.name: share(of_pass_1[:, q], experts.label) for q, m in enumerate(methods)},
            **{m.name: share(of_fits[:, q], predictions.label) for q, m in enumerate(fits)},
            "dawin": share(predictions.prediction, predictions.label),
        }
    return found


def share(predicted, labels) -> float:
    return 100 * float((np.asarray(predicted) == np.asarray(labels)).mean())


def test_the_suite_is_scored_by_every_method(tmp_path, monkeypatch):
    """On few of its images, without Ray."""
    monkeypatch.setattr("dawin_ray.demo.tasks.TEST_IMAGES", FEW)
    path = write_tasks_job(tmp_path)
    job = load_job(str(path), ["compute.engine=local", "compute.device=cpu"])
    score(prepare(job))
    found = recounted(tmp_path / "run", path)
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    for row in audit["datasets"]:
        assert row["labelled"] == FEW
        assert set(SHOWN.values()) <= row["methods"].keys()
        for method, scores in row["methods"].items():
            ours = found[row["dataset"]][method]
            assert ours == pytest.approx(100 * scores["accuracy"]["value"])
        # the own expert is that one of the eight experts, whose task it is
        assert found[row["dataset"]]["own_expert"] == found[row["dataset"]][row["dataset"]]


@pytest.mark.slow
def test_the_demo_gives_the_table_of_its_tasks(tmp_path):
    """Every accuracy within two samples of 400 of another machine's float32."""
    result = CliRunner().invoke(app, ["demo", "--suite", "tasks", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = recounted(tmp_path / "run", tmp_path / "job.yaml")
    table = {name.strip("*"): cells for name, *cells in rows("| task | classes | base")}
    assert [name for name in table if name != "mean"] == list(TASKS)
    for name, (classes, *accuracies) in table.items():
        if name == "mean":
            continue
        assert int(classes) == len(TASKS[name].classes)
        ours = [found[name][method] for method in SHOWN.values()]
        assert ours == pytest.approx([float(a) for a in accuracies], abs=200 / TEST_IMAGES + 0.05)
