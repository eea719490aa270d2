"""Eight experts over a base, a head for each task: killed, checked, applied to new data, and told.

All in this process but what is killed; towers are small and random, as only what happens to files
and rows is looked at here. What they predict is held against the reference in tests/parity.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dawin_ray.cli import app
from tests.conftest import MODEL_CONFIG, expert_state, make_images, write_tar
from tests.integration.processes import DRIVER, KILLED, assert_equal_runs, job_file, rows
from tests.integration.test_drift import darkened

EXPERTS = [f"task_{i}" for i in range(8)]
CLASSES = {"task_0": 4, "task_5": 7}  # the data sets, of two of the tasks
IMAGES = 90


class Eight:
    """Checkpoints without heads, a file with a head for each data set, and their images."""

    def __init__(self, folder: Path):
        self.folder = folder
        towers = [self._tower(seed) for seed in range(9)]
        base = towers.pop()
        self.save("base", base)
        for name, tower in zip(EXPERTS, towers, strict=True):
            # not far from the base, as what was fine-tuned from it
            self.save(name, {k: base[k] + 0.3 * (tower[k] - base[k]) for k in base})
        for seed, (name, count) in enumerate(CLASSES.items()):
            torch.manual_seed(seed)
            head = {"classification_head.weight": 8 * torch.randn(count, MODEL_CONFIG["embed_dim"])}
            self.save(f"head_{name}", head)
            labels = [i % count for i in range(IMAGES)]
            write_tar(self.data(name) / "a.tar", make_images(IMAGES, seed), labels)

    def _tower(self, seed: int) -> dict[str, torch.Tensor]:
        return {k: v for k, v in expert_state(seed).items() if k.startswith("visual.")}

    def save(self, name: str, state: dict[str, torch.Tensor]) -> None:
        save_file(state, self.file(name))

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.safetensors")

    def data(self, name: str) -> Path:
        return self.folder / "data" / name

    def dataset(self, name: str, path: Path | None = None) -> dict:
        head = {"checkpoint": self.file(f"head_{name}")}
        return {"name": name, "path": str(path or self.data(name)), "head": head, "expert": name}

    def job(self, small, folder: Path, datasets: list[dict] | None = None, **sections) -> str:
        experts = [{"name": name, "checkpoint": self.file(name)} for name in EXPERTS]
        own = {"experts": experts, "merge": {"base": self.file("base")}}
        datasets = datasets or [self.dataset(name) for name in CLASSES]
        return str(job_file(small, folder, datasets, **own | sections))


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Eight:
    return Eight(tmp_path_factory.mktemp("eight"))


@pytest.fixture(scope="module")
def done(small, eight, tmp_path_factory) -> Path:
    """A finished run, clustered."""
    folder = tmp_path_factory.mktemp("done")
    command("run", eight.job(small, folder))
    return folder / "run"


def command(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_every_expert_has_its_column_and_its_line_in_the_report(done):
    table = rows(done)
    assert len(table) == len(CLASSES) * IMAGES
    for name in ("coefficient", "expert_entropy", "expert_prediction"):
        assert np.stack(table[name]).shape == (len(table), len(EXPERTS))
    np.testing.assert_allclose(np.stack(table["coefficient"]).sum(axis=1), 1, atol=1e-6)
    report = json.loads((done / "report.json").read_text())
    for of_set in report["datasets"]:
        assert set(EXPERTS) < set(of_set["accuracy"])
        labels = table[table["dataset"] == of_set["dataset"]]
        hits = np.stack(labels["expert_prediction"]) == labels["label"].to_numpy()[:, None]
        expected = dict(zip(EXPERTS, hits.mean(axis=0), strict=True))
        assert {n: of_set["accuracy"][n] for n in EXPERTS} == pytest.approx(expected)
    page = (done / "report.html").read_text()
    assert all(name in page for name in EXPERTS)


def test_the_report_tells_what_is_kept_of_each_tasks_own_expert(done):
    """From Parquet once more; made again, the report is the same."""
    table = rows(done)
    report, audit = (
        json.loads((done / f"{name}.json").read_text()) for name in ("report", "audit")
    )
    kept, leading = {}, 0
    for name in CLASSES:
        found = table[table["dataset"] == name]
        own = np.stack(found["expert_prediction"])[:, EXPERTS.index(name)] == found["label"]
        kept[name] = (found["prediction"] == found["label"]).mean() / own.mean()
        means = np.stack(found["coefficient"]).mean(axis=0)
        leading += EXPERTS[int(means.argmax())] == name
    of_run = {row["dataset"]: row["normalised"]["dawin"] for row in report["datasets"]}
    of_audit = {row["dataset"]: row["normalised"]["dawin"]["value"] for row in audit["datasets"]}
    assert of_run == pytest.approx(kept)
    assert of_audit == pytest.approx(kept)
    mean = audit["tasks"]["normalised"]["dawin"]["value"]
    assert mean == pytest.approx(np.mean(list(kept.values())))
    page = (done / "report.html").read_text()
    assert f"the largest mean weight on {leading} of {len(CLASSES)} tasks" in page
    assert f"{100 * mean:.1f}" in page[page.index('<h2 id="tasks">') :]
    before = {path.name: path.read_bytes() for path in done.iterdir() if path.is_file()}
    command("report", str(done))
    assert {path.name: path.read_bytes() for path in done.iterdir() if path.is_file()} == before


def test_each_data_set_is_scored_by_its_own_head(done, eight):
    table = rows(done)
    for name, count in CLASSES.items():
        said = np.stack(table[table["dataset"] == name]["expert_prediction"])
        assert set(np.unique(said)) <= set(range(count))
        assert len(np.unique(said)) > 1
    claimed = json.loads((done / "fingerprint.json").read_text())["inputs"]["head"]
    assert claimed.keys() == {eight.file(f"head_{name}") for name in CLASSES}


def test_a_killed_run_goes_on_to_the_same_rows(small, eight, done, tries, tmp_path):
    job = eight.job(small, tmp_path)
    code, output = tries.run(DRIVER, "dawin_ray.runs.ledger:PassLedger.add", 3, job)
    assert code == KILLED, output
    assert "is unfinished" in command("run", job)
    assert_equal_runs(done, tmp_path / "run")


def test_verify_scores_it_again_and_misses_a_head_that_changed(small, eight, done, tmp_path):
    run = shutil.copytree(done, tmp_path / "run")
    assert "is what its manifest says" in command("verify", str(run), "--sample", "1")
    name = next(iter(CLASSES))
    before = load_file(eight.file(f"head_{name}"))
    try:
        eight.save(f"head_{name}", {k: v + 1 for k, v in before.items()})
        changed = command("run", eight.job(small, tmp_path), code=2)
        assert f"inputs.head.{eight.file(f'head_{name}')}" in changed
        assert f"head_{name}" in command("verify", str(run), "--sample", "1", code=1)
    finally:
        eight.save(f"head_{name}", before)
    assert "complete already" in command("run", eight.job(small, tmp_path))


def test_a_saved_fit_is_applied_as_data_come_and_tells_drift(small, eight, done, tmp_path):
    name = "task_5"
    new = tmp_path / "new"
    write_tar(new / "1.tar", make_images(IMAGES, seed=1), [0] * IMAGES)
    sections = {"mode": "append", "fit": {"from": str(done), "dataset": name}}
    job = eight.job(small, tmp_path, [eight.dataset(name, new)], **sections)
    command("run", job)
    first = rows(tmp_path / "run")
    # the images that it was fitted to: the same coefficients, clusters and predictions
    two_pass = pd.read_parquet(done / "predictions" / f"dataset={name}")
    for column in ("prediction", "cluster", "confidence"):
        assert first[column].tolist() == two_pass[column].tolist()

    other = darkened(make_images(IMAGES, seed=5))
    write_tar(new / "2.tar", other, [0] * IMAGES, start=IMAGES)
    command("run", job, "--fail-on-drift", code=3)
    assert len(rows(tmp_path / "run")) == 2 * IMAGES
    batches = sorted((tmp_path / "run" / "batches").iterdir())
    told = [json.loads((b / "report.json").read_text())["drift"][name] for b in batches]
    assert [report["judged"] for report in told] == [True, True]
    assert [bool(report["alarms"]) for report in told] == [False, True]
    figures = json.dumps(told[1])
    assert all(expert in figures for expert in EXPERTS)
    command("verify", str(tmp_path / "run"), "--sample", "1")


def test_a_fit_of_another_head_is_refused(small, eight, done, tmp_path):
    fit = {"from": str(done), "dataset": "task_5"}
    other = eight.dataset("task_5")
    state = load_file(eight.file("head_task_5"))
    eight.save("head_other", {k: 2 * v for k, v in state.items()})
    other["head"] = {"checkpoint": eight.file("head_other")}
    output = command("run", eight.job(small, tmp_path, [other], fit=fit), code=2)
    assert "does not hold for this job" in output
    assert "head of 'task_5'" in output


def test_checkpoints_with_heads_of_their_own_are_refused_with_what_to_do(small, eight, tmp_path):
    experts = [{"name": f"e{i}", "checkpoint": path} for i, path in enumerate(small.checkpoints)]
    name = "task_0"
    without = {k: v for k, v in eight.dataset(name).items() if k not in ("head", "expert")}
    sections = {"experts": experts[:2], "merge": {"base": small.checkpoints[2]}}
    output = command("run", eight.job(small, tmp_path, [without], **sections), code=2)
    for part in ("'e0'", "'merge.base'", "heads that differ", "datasets[].head"):
        assert part in output


@pytest.mark.slow
def test_the_driver_is_killed_in_both_passes_on_ray(small, eight, done, tries, tmp_path):
    job = eight.job(small, tmp_path, engine="ray")
    for call in (2, 14):  # there are twelve chunks; of those of pass 1, ten at least are left
        code, output = tries.run(DRIVER, "dawin_ray.runs.ledger:PassLedger.add", call, job)
        assert code == KILLED, output
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    ours, theirs = rows(tmp_path / "run"), rows(done)
    for column in ("dataset", "sample_id", "label", "prediction", "cluster"):
        assert ours[column].tolist() == theirs[column].tolist()
    # actors may sum in another order than this process, with other numbers of threads
    for column in ("expert_entropy", "coefficient", "confidence"):
        a, b = (np.stack(table[column]) for table in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=1e-5)
