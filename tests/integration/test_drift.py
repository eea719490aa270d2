"""A run that applies a fit says when its data have left it: report, pages, metrics, exit code."""

import io
import json
import runpy
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from scipy import stats
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.engine.local import LocalEngine
from dawin_ray.engine.ray_cluster import publish_drift
from tests.conftest import make_images, write_tar
from tests.integration.processes import job_file

IMAGES = 150
EXPERTS = ("expert_0", "expert_1")


def darkened(images: list[bytes]) -> list[bytes]:
    changed = []
    for data in images:
        buffer = io.BytesIO()
        image = Image.open(io.BytesIO(data)).point(lambda value: value // 6)
        image.filter(ImageFilter.GaussianBlur(4)).save(buffer, format="PNG")
        changed.append(buffer.getvalue())
    return changed


def run(job: Path, *arguments: str):
    return CliRunner().invoke(app, ["run", str(job), *arguments])


@pytest.fixture(scope="module")
def series(small, tmp_path_factory) -> tuple[Path, Path]:
    """A fit, and a batch like its data."""
    root = tmp_path_factory.mktemp("drift")
    write_tar(root / "fit" / "a.tar", make_images(IMAGES, seed=1), None)
    fit_job = job_file(small, root / "fitted", [{"name": "set", "path": str(root / "fit")}])
    result = run(fit_job, "--fail-on-drift")
    assert result.exit_code == 2
    assert "this job has none" in " ".join(result.output.split())
    result = run(fit_job)
    assert result.exit_code == 0, result.output
    assert json.loads((root / "fitted" / "run" / "report.json").read_text())["drift"] is None
    write_tar(root / "data" / "1.tar", make_images(IMAGES, seed=2), None)
    fit = {"from": str(root / "fitted" / "run"), "dataset": "set"}
    data = [{"name": "set", "path": str(root / "data")}]
    job = job_file(small, root, data, mode="append", fit=fit)
    result = run(job, "--fail-on-drift")
    assert result.exit_code == 0, result.output
    return root, job


def drift_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "report.json").read_text())["drift"]["set"]


def test_drift_is_told_and_no_drift_is_not(series, local_ray, monkeypatch, capsys):
    root, job = series
    (first,) = (root / "run" / "batches").iterdir()
    assert drift_of(first)["judged"]
    assert not drift_of(first)["alarms"]
    page = root / "run" / "report.html"
    assert "no drift from their fit was detected" in page.read_text()

    write_tar(root / "data" / "2.tar", darkened(make_images(IMAGES, seed=3)), None)
    write_tar(root / "data" / "3.tar", make_images(9, seed=4), None)
    # as RayEngine does, where a whole run on Ray would take long
    monkeypatch.setattr(LocalEngine, "publish", lambda self, drift, on: publish_drift(drift, on))
    result = run(job, "--fail-on-drift")
    assert result.exit_code == 3, result.output
    assert "All rows are scored" in result.output
    second = max((root / "run" / "batches").iterdir())
    found = drift_of(second)
    assert found["alarms"]
    assert run(job, "--fail-on-drift").exit_code == 3  # a scheduler tries again: still so
    monkeypatch.setattr(sys, "argv", ["score_new.py", str(job)])
    script = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "score_new.py"))
    assert script["main"]() == 3
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["batch"], line["rows"]) == (second.name, {"set": IMAGES + 9})
    assert line["drift"] == [f"set: {name}" for name in found["alarms"]]
    assert run(job).exit_code == 0
    assert "they have drifted from their fit" in page.read_text()
    assert "Drift</span> of set from 150 samples of its fit" in (second / "report.html").read_text()
    table = pd.read_csv(root / "run" / "csv" / "drift.csv")
    assert len(table) == len(found["statistics"]) + len(drift_of(first)["statistics"])
    alarms = table[table.alarm].groupby("batch").size()
    assert alarms.to_dict() == {second.name: len(found["alarms"])}

    before = page.read_text()
    result = CliRunner().invoke(app, ["report", str(root / "run")])
    assert result.exit_code == 0, result.output
    assert page.read_text() == before
    result = CliRunner().invoke(app, ["report", str(root / "run"), str(second)])
    assert result.exit_code == 2
    assert "give one of" in result.output

    _recomputed(root, second, found)
    _in_metrics(found)


def _recomputed(root: Path, batch: Path, found: dict) -> None:
    """The statistics from Parquet, by numpy and scipy."""
    there = pd.read_parquet(root / "fitted" / "run" / "predictions" / "dataset=set")
    here = pd.read_parquet(root / "run" / "predictions" / "dataset=set" / f"batch={batch.name}")
    statistics = {(s["kind"], s["quantity"], s["of"]): s["value"] for s in found["statistics"]}
    for column, quantity in (("expert_entropy", "entropy"), ("coefficient", "coefficient")):
        for i, name in enumerate(EXPERTS):
            if quantity == "coefficient" and i == 0:  # it says what the other one says
                assert ("psi", quantity, name) not in statistics
                continue
            a, b = (np.stack(t[column])[:, i].astype(np.float64) for t in (here, there))
            edges = np.quantile(b, np.arange(0.1, 1, 0.1))
            p, q = (np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5 for x in (a, b))
            p, q = p / p.sum(), q / q.sum()
            psi = float(((p - q) * np.log(p / q)).sum())
            assert statistics["psi", quantity, name] == pytest.approx(psi, rel=0.05)
            distance = stats.wasserstein_distance(a, b)  # ours knows only the percentiles
            assert statistics["wasserstein", quantity, name] == pytest.approx(distance, rel=0.05)
    differing = [
        np.stack(t["expert_prediction"]).min(axis=1) != np.stack(t["expert_prediction"]).max(axis=1)
        for t in (here, there)
    ]
    assert statistics["disagreement", None, None] == pytest.approx(
        abs(differing[0].mean() - differing[1].mean())
    )
    counts = np.array([np.bincount(t["cluster"], minlength=2) for t in (here, there)])
    expected = stats.chi2_contingency(counts, correction=False).statistic
    # against the reference's shares, not the pooled ones: of one order
    assert 0.3 * expected <= statistics["occupancy", None, None] <= 3 * expected + 1


def _in_metrics(found: dict) -> None:
    """The last batch's gauges, where Prometheus would read them."""
    import ray  # not before the run has said where it listens

    port, deadline = ray.nodes()[0]["MetricsExportPort"], time.monotonic() + 60
    wanted = {
        (s["kind"], s["quantity"] or "", s["of"] or ""): s["value"] for s in found["statistics"]
    }
    shown: dict = {}
    while shown != wanted and time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        for line in lines:
            if line.startswith("ray_dawin_ray_drift_value{"):
                labels, value = line.split("{")[1].split("} ")
                tags = dict(pair.split("=", 1) for pair in labels.split(","))
                key = tuple(tags[name].strip('"') for name in ("kind", "quantity", "of"))
                shown[key] = pytest.approx(float(value))
        time.sleep(1)
    assert shown == wanted
