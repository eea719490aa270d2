"""What the README says of a run directory and of the demo, held against finished runs."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dawin_ray import read_predictions
from dawin_ray.cli import app
from dawin_ray.demo.datasets import DATASETS
from tests.conftest import CLASSES, make_images, write_folder, write_tar
from tests.integration.processes import job_file
from tests.readme import README, block, listing, rows

IMAGES = 24
LOCK = ".lock"  # of the process that runs, and no part of what it makes


def run(job: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["run", str(job), *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory) -> Path:
    """A run of a labelled folder and of a tar with an image that is none."""
    root = tmp_path_factory.mktemp("finished")
    images, labels = make_images(IMAGES), sorted(i % CLASSES for i in range(IMAGES))
    write_folder(root / "data" / "folder", images, labels)
    write_tar(root / "data" / "tars" / "a.tar", [*images, b"no image"], None)
    datasets = [{"name": name, "path": str(root / "data" / name)} for name in ("folder", "tars")]
    baselines = {"fits": [{"clusters": 1}]}
    job = job_file(small, root, datasets, max_reject_fraction=0, baselines=baselines)
    # half of what "How it fails" promises: it ends after the pass, and the work is kept
    message = run(job, code=2)
    assert "Data set 'tars': 1 of 25 samples were rejected" in message
    assert "1 x cannot be decoded" in message
    committed = {p: p.stat().st_mtime_ns for p in (root / "run").rglob("work/experts/**/*.parquet")}
    assert sum(len(pd.read_parquet(path)) for path in committed) == 2 * IMAGES
    message = run(job, "max_reject_fraction=0.1")
    assert "pass 1, experts: 2 of 2 shards are there already" in message
    return root / "run"


@pytest.fixture(scope="module")
def grown(small, finished, tmp_path_factory) -> Path:
    """A run directory that grows, with one batch."""
    root = tmp_path_factory.mktemp("grown")
    write_tar(root / "data" / "1.tar", make_images(5, seed=1), None)
    fit = {"from": str(finished), "dataset": "tars"}
    data = [{"name": "set", "path": str(root / "data")}]
    run(job_file(small, root, data, mode="append", fit=fit, baselines={"even_interpolation": True}))
    return root / "run"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK}


def test_a_finished_run_holds_what_is_listed_and_nothing_else(finished):
    listed = [path.replace("NAME", "folder") for path in listing("written last: counts")]
    assert len(listed) > 10
    assert not [path for path in listed if not list(finished.glob(path))]
    assert names_in(finished) == {path.split("/")[0] for path in listed}


def test_a_run_directory_that_grows_holds_what_is_listed(grown):
    (batch,) = (grown / "batches").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{4}", batch.name)
    listed = [
        path.replace("NAME", "set").replace("2026-11-25T0600", batch.name)
        for path in listing("batches/2026-11-25T0600/ ")
    ]
    assert len(listed) >= 5
    assert not [path for path in listed if not list(grown.glob(path))]
    of_all = {"experts", "rejects", "job.yaml", "fingerprint.json"}  # as of any run
    assert names_in(grown) == {path.split("/")[0] for path in listed} | of_all
    assert {"report.html", "report.json", "manifest.json"} <= names_in(batch)
    seal = json.loads((batch / "manifest.json").read_text())["seal"]
    assert json.loads((grown / "manifest.json").read_text())["batches"] == {batch.name: seal}


def test_the_lines_of_python_give_the_accuracy(finished):
    *lines, last = block("python", "read_parquet").replace("runs/demo/run", str(finished)).split(
        "\n"
    )[:-1]  # fmt: skip
    names: dict = {}
    exec("\n".join(lines), names)
    accuracy = eval(last, names)
    report = json.loads((finished / "report.json").read_text())
    found = {row["dataset"]: row["accuracy"]["dawin"] for row in report["datasets"]}
    assert accuracy["folder"] == found["folder"]
    assert found["tars"] is None


def test_the_five_lines_of_python_give_the_accuracy(finished):
    """Of a run that is finished, so that nothing is scored again."""
    job = str(finished / "job.yaml")
    *lines, last = block("python", "read_predictions").replace("job.yaml", job).split("\n")[:-1]
    names: dict = {}
    exec("\n".join(lines), names)
    accuracy = eval(last, names)
    plain = pd.read_parquet(finished / "predictions")
    right = (plain.prediction == plain.label).groupby(plain.dataset, observed=True).mean()
    assert accuracy["folder"] == right["folder"]
    assert accuracy.isna()["tars"]
    assert names["rows"].dataset.tolist() == plain.dataset.tolist()
    assert names["rows"].sample_id.tolist() == plain.sample_id.tolist()


def test_a_growing_directory_is_read_by_the_same_lines(grown):
    rows = pd.read_parquet(grown / "predictions")
    assert read_predictions(str(grown)).batch.tolist() == rows.batch.tolist()
    assert set(rows.dataset) == {"set"}
    assert rows.batch.nunique() == 1


def test_columns_are_filled_as_the_table_says(finished):
    rows = pd.read_parquet(finished / "predictions")
    labelled = rows.dataset == "folder"
    assert rows.label[labelled].notna().all()
    assert rows.label[~labelled].isna().all()
    for column in ("nll", "brier"):
        assert rows[column][labelled].notna().all()
        assert rows[column][~labelled].isna().all()
    assert rows.float32_prediction.isna().all()  # precision and rank are whole
    assert np.stack(rows.fit_prediction).shape == (2 * IMAGES, 1)
    assert np.stack(rows.top_classes).shape == (2 * IMAGES, 5)
    assert (np.stack(rows.top_classes)[:, 0] == rows.prediction).all()
    np.testing.assert_allclose(np.stack(rows.coefficient).sum(axis=1), 1, atol=1e-6)
    of_batch = pd.read_parquet(finished / "rejects")
    assert of_batch[["dataset", "shard", "sample_id"]].values.tolist() == [
        ["tars", "a.tar", f"a.tar/{IMAGES:04d}"]
    ]
    assert of_batch.sha256.str.len().tolist() == [64]


def test_the_tables_hold_the_figures_of_the_audit(finished):
    found = json.loads((finished / "audit.json").read_text())
    (row,) = [row for row in found["datasets"] if row["labelled"]]
    scores = pd.read_csv(finished / "csv" / "scores.csv").set_index("method")
    assert scores.index.tolist() == list(row["methods"])
    for name, score in row["methods"].items():
        for key in ("accuracy", "nll", "brier"):
            assert scores.loc[name, key] == pytest.approx(score[key]["value"])
            assert scores.loc[name, f"{key}_low"] == pytest.approx(score[key]["low"])
        for key in ("ece", "aurc"):
            assert scores.loc[name, key] == pytest.approx(score[key])
        for coverage, value in score["accuracy_at_coverage"].items():
            assert scores.loc[name, f"accuracy_at_{coverage}"] == pytest.approx(value)
    differences = pd.read_csv(finished / "csv" / "differences.csv").set_index("method")
    for name, difference in row["differences"].items():
        for key in ("value", "low", "high", "better", "worse", "p", "p_holm"):
            assert differences.loc[name, key] == pytest.approx(difference[key])
    clusters = pd.read_csv(finished / "csv" / "clusters.csv")
    assert clusters["size"].sum() == 2 * IMAGES
    classes = pd.read_csv(finished / "csv" / "classes.csv")
    for kind in ("gains", "losses"):
        listed = {line["class"] for line in row["classes"][kind]}
        assert set(classes[classes.kind == kind]["class"]) == listed
    assert len(classes[classes.n > 0]) == row["classes"]["present"]
    assert classes.n.sum() == row["labelled"]
    confused = pd.read_csv(finished / "csv" / "confusions.csv")
    assert confused.n.sum() == round((1 - scores.loc["dawin", "accuracy"]) * row["labelled"])


@pytest.mark.slow
def test_the_demo_gives_the_table(tmp_path):
    """Every accuracy within two samples of 800 of another machine's float32."""
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    found = {row["dataset"]: row for row in report["datasets"]}
    assert list(found) == list(DATASETS)
    for name, count, *accuracies in rows("| data set | rows | zero_shot"):
        if name in found:
            assert found[name]["rows"] == int(count)
            ours = [found[name]["accuracy"][m] for m in
                    ("zero_shot", "fine_tuned", "even_interpolation", "dawin")]  # fmt: skip
            assert [100 * a for a in ours] == pytest.approx(list(map(float, accuracies)), abs=0.3)
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    mean = re.search(r"\*\*mean of the seven shifts\*\* \| +\| (.*) \|", README)[1].split(" | ")
    suite = [audit["suite"]["accuracy"][m]["value"] for m in
             ("zero_shot", "fine_tuned", "even_interpolation", "dawin")]  # fmt: skip
    assert [100 * a for a in suite] == pytest.approx(list(map(float, mean)), abs=0.3)
    assert "mean of 7" in result.output
    words = next(said for said in audit["words"] if said.startswith("Averaged over the shifts (7)"))
    shown = re.search(r"\((−[\d.]+ points \[.*?\]) over the seven shifts\)", README)[1]
    assert f"({shown}, no significant difference)" in words[words.index(", zero_shot on ") :]
