"""`dawin-ray calibrate`, and jobs that apply what it wrote."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job import prepare
from dawin_ray.job.labelled import labelled_by_share
from dawin_ray.runs import Calibration
from tests.conftest import CLASSES, make_images, write_folder, write_parquet, write_tar

IMAGES = 60
LABELS = [i % CLASSES for i in range(IMAGES)]


def command(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same images in three formats."""
    root = tmp_path_factory.mktemp("data")
    images = make_images(IMAGES)
    write_folder(root / "folder", images, LABELS)
    write_tar(root / "tars" / "a.tar", images, LABELS)
    write_parquet(root / "parquet" / "0.parquet", images, LABELS)
    return root


def job_of(small, folder, data, names=("folder", "tars", "parquet"), experts=2, **sections):
    """A job of experts without temperatures, as plain values and as a file."""
    job = small.job(folder / "run", [{"name": n, "path": str(data / n)} for n in names], **sections)
    job["experts"] = [
        {"name": f"expert_{i}", "checkpoint": path}
        for i, path in enumerate(small.checkpoints[:experts])
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return job, str(folder / "job.yaml")


@pytest.fixture(scope="module")
def calibrated(small, data, tmp_path_factory):
    """The address of a calibration by a third of the labels, and what the command said."""
    folder = tmp_path_factory.mktemp("calibrated")
    _, job = job_of(small, folder, data)
    said = command("calibrate", job, "--fraction", "0.33", "--out", str(folder / "c.json"))
    assert not (folder / "run").exists()
    return str(folder / "c.json"), said


def changed(address, tmp_path, **log_odds) -> str:
    """The same with other log odds of data sets, and temperatures that tell experts apart."""
    found = Calibration.read(address)
    datasets = {
        name: dataclasses.replace(of_set, log_odds=log_odds.get(name, (0.0, 0.0)))
        for name, of_set in found.datasets.items()
    }
    other = dataclasses.replace(
        found, temperatures=(1.7, 0.6), kept=(False, False), datasets=datasets
    )
    other.write(str(tmp_path / "changed.json"))
    return str(tmp_path / "changed.json")


def test_the_file_says_what_was_found_and_the_command_too(calibrated):
    address, said = calibrated
    found = Calibration.read(address)
    assert found.names == ("expert_0", "expert_1")
    assert list(found.datasets) == ["folder", "tars", "parquet"]
    for name, of_set in found.datasets.items():
        assert 5 < of_set.labels < 35
        assert of_set.chosen[0] == 0
        assert of_set.log_odds in (of_set.chosen, (0.0, 0.0))
        assert any(of_set.log_odds) == (of_set.gain.low > 0)
        assert f"log odds      {name}: " in said
    assert f"written       {address}; a job applies it: coefficient: {{calibration: " in said


def test_level_and_temperatures_are_options(small, data, calibrated, tmp_path):
    _, job = job_of(small, tmp_path, data, names=("folder",))
    options = ("--fraction", "0.33", "--level", "0", "--no-temperatures")
    said = command("calibrate", job, *options, "--out", str(tmp_path / "c.json"))
    found = Calibration.read(str(tmp_path / "c.json"))
    assert found.level == 0
    assert found.kept == (True, True)
    assert "temperatures  expert_0 1 (the job's own), expert_1 1 (the job's own)" in said
    assert Calibration.read(calibrated[0]).level == 0.8


def test_no_forward_is_made_but_of_labelled_samples(calibrated):
    found = Calibration.read(calibrated[0])
    labels = sum(of_set.labels for of_set in found.datasets.values())
    assert found.forwards == labels * (2 + 11)
    assert found.exact_forwards <= 30 * labels  # of many candidates, those between two answers


@pytest.mark.parametrize("name", ["folder", "tars", "parquet"])
def test_a_smaller_share_is_a_part_of_a_larger_one_with_the_datas_labels(
    small, data, tmp_path, name
):
    prepared = prepare(make_job(job_of(small, tmp_path, data)[0]))
    few, more = (labelled_by_share(prepared, f, print)[name] for f in (0.2, 0.5))
    assert set(few.ids) < set(more.ids)
    known = [int(i.split("/")[1][:4]) for i in more.ids]  # images are numbered
    assert more.labels.tolist() == [LABELS[i] for i in known]
    assert more.crops.shape == (len(known), 32, 32, 3)
    everything = labelled_by_share(prepared, 1.0, print)[name]
    assert len(everything.ids) == IMAGES


def test_a_file_of_labels_gives_what_the_datas_own_give(small, data, calibrated, tmp_path):
    """Names or numbers; samples in any order; labels of the file and not of the data."""
    job, file = job_of(small, tmp_path, data)
    prepared = prepare(make_job(job))
    few = labelled_by_share(prepared, 0.33, print)
    rows = [
        {"sample_id": i, "label": label, "dataset": name}
        for name, of_set in few.items()
        for i, label in zip(of_set.ids, of_set.labels, strict=True)
    ]
    pd.DataFrame(rows[::-1]).to_csv(tmp_path / "l.csv", index=False)
    command("calibrate", file, "--labels", str(tmp_path / "l.csv"), "--out",
            str(tmp_path / "c.json"))  # fmt: skip
    ours, theirs = Calibration.read(str(tmp_path / "c.json")), Calibration.read(calibrated[0])
    assert ours.labels == str(tmp_path / "l.csv")
    assert dataclasses.replace(ours, labels=theirs.labels) == theirs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_id,label\na,1\n", "have no column 'dataset'; their header is sample_id, label"),
        ("sample_id,label,dataset\na,1,other\n", "the data set is 'other'; the job has folder"),
        ("sample_id,label,dataset\na,9,folder\n", "line 2 .* the label is '9'; expected a number "),
        ("sample_id,label,dataset\na,1,folder\n", "name 1 samples that data set 'folder' does not"),
        ("sample_id,label,dataset\na,1,folder\na,2,folder\n", "line 3.*'a' has another label"),
        ("sample_id,label,dataset\n", "name no sample"),
        ("", "their header is empty"),
    ],
)
def test_a_wrong_file_of_labels_is_refused(small, data, tmp_path, text, message):
    _, file = job_of(small, tmp_path, data)
    (tmp_path / "l.csv").write_text(text)
    said = command("calibrate", file, "--labels", str(tmp_path / "l.csv"), code=2)
    assert re.search(message, " ".join(said.split()))


def test_labels_come_from_one_place(small, data, tmp_path):
    _, file = job_of(small, tmp_path, data)
    for both in ([], ["--labels", "l.csv", "--fraction", "0.5"]):
        assert "either --labels FILE.csv or --fraction" in command("calibrate", file, *both, code=2)
    assert "No sample of the share" in command("calibrate", file, "--fraction", "0", code=2)


@pytest.mark.parametrize("mixture", [{"clusters": 2}, {"clusters": "exact"}])
def test_a_job_adds_log_odds_to_entropies_of_the_temperatures(
    small, data, calibrated, tmp_path, mixture
):
    """lambda = sigmoid(H_0 - H_1 + d), in two passes and in one."""
    address = changed(calibrated[0], tmp_path, tars=(0.0, 0.9))
    _, file = job_of(small, tmp_path, data, mixture=mixture, coefficient={"calibration": address})
    command("run", file)
    _, plain = job_of(small, tmp_path / "plain", data, mixture=mixture)
    command("run", plain, "experts.0.temperature=1.7", "experts.1.temperature=0.6")

    def rows(run, name):
        return pd.read_parquet(run / "predictions" / f"dataset={name}").set_index("sample_id")

    for name, d in (("folder", 0.0), ("tars", 0.9)):
        ours, theirs = rows(tmp_path / "run", name), rows(tmp_path / "plain" / "run", name)
        h = np.stack(ours["expert_entropy"])
        np.testing.assert_array_equal(h, np.stack(theirs["expert_entropy"]))
        lambda_ = np.stack(ours["coefficient"])[:, 1]
        np.testing.assert_allclose(lambda_, 1 / (1 + np.exp(-(h[:, 0] - h[:, 1] + d))), atol=1e-6)
        assert ours["confidence"].equals(theirs["confidence"]) == (d == 0)
    fits = json.loads((tmp_path / "run" / "mixture.json").read_text())["fits"]
    assert fits["tars"]["log_odds"] == [0, 0.9]
    assert "log_odds" not in fits["folder"]
    assert "is what its manifest says" in command("verify", str(tmp_path / "run"), "--sample", "1")


def test_a_saved_fit_has_its_log_odds_with_it(small, data, calibrated, tmp_path):
    """On the data of the run it gives the same rows; without the calibration it is refused."""
    address = changed(calibrated[0], tmp_path, tars=(0.0, 0.9))
    coefficient = {"calibration": address}
    _, file = job_of(small, tmp_path, data, ["tars"], coefficient=coefficient)
    command("run", file)
    fit = {"from": str(tmp_path / "run"), "dataset": "tars"}
    other, again = job_of(small, tmp_path / "again", data, ["tars"], fit=fit,
                          coefficient=coefficient)  # fmt: skip
    other["datasets"][0]["name"] = "new"  # which the calibration does not know
    (tmp_path / "again" / "job.yaml").write_text(yaml.safe_dump(other))
    command("run", again)
    ours, theirs = (
        pd.read_parquet(run / "predictions").drop(columns="dataset")
        for run in (tmp_path / "run", tmp_path / "again" / "run")
    )
    pd.testing.assert_frame_equal(ours, theirs)
    _, without = job_of(small, tmp_path / "without", data, ["tars"], fit=fit)
    assert "does not hold for this job" in command("run", without, code=2)


def test_one_of_other_experts_or_without_a_data_set_is_refused(small, data, calibrated, tmp_path):
    job, _ = job_of(small, tmp_path, data, coefficient={"calibration": calibrated[0]})
    prepare(make_job(job))
    swapped = job | {"experts": [e | {"checkpoint": small.checkpoints[2 - i]}
                                 for i, e in enumerate(job["experts"])]}  # fmt: skip
    with pytest.raises(UserError, match="does not hold for this job:\n  experts: "):
        prepare(make_job(swapped))
    three = job | {"experts": [*job["experts"], {"name": "c", "checkpoint": small.checkpoints[2]}]}
    with pytest.raises(UserError, match="does not hold for this job:\n  experts: "):
        prepare(make_job(three))
    with pytest.raises(UserError, match="has no data set 'other'"):
        prepare(make_job(job | {"datasets": [job["datasets"][0] | {"name": "other"}]}))


def test_a_run_is_another_jobs_where_its_calibration_says_other_things(
    small, data, calibrated, tmp_path
):
    fingerprints = []
    for name, odds in (("a", 0.9), ("b", 0.9), ("c", 0.5)):
        (tmp_path / name).mkdir()
        address = changed(calibrated[0], tmp_path / name, tars=(0.0, odds))
        job, _ = job_of(small, tmp_path, data, coefficient={"calibration": address})
        fingerprints.append(prepare(make_job(job)).fingerprint)
    assert fingerprints[0] == fingerprints[1]  # wherever it lies
    assert fingerprints[0] != fingerprints[2]
    plain = prepare(make_job(job_of(small, tmp_path, data)[0])).fingerprint
    assert "calibration" not in plain["job"]["coefficient"]


def test_the_plan_says_what_is_applied(small, data, calibrated, tmp_path):
    address = changed(calibrated[0], tmp_path, tars=(0.0, 0.9))
    _, file = job_of(small, tmp_path, data, coefficient={"calibration": address})
    said = command("plan", file)
    assert f"calibration   of {address}, from 33 % of the data's own labels" in said
    assert "temperatures  expert_0 1.7, expert_1 0.6" in said
    assert "log odds      tars: " in said


def test_more_experts_have_a_vector(small, data, tmp_path):
    _, file = job_of(small, tmp_path, data, ["folder"], experts=3)
    command("calibrate", file, "--fraction", "0.5", "--out", str(tmp_path / "c.json"))
    found = Calibration.read(str(tmp_path / "c.json"))
    (of_set,) = found.datasets.values()
    assert (len(of_set.chosen), len(found.temperatures)) == (3, 3)
    assert found.forwards == 3 * of_set.labels
    assert found.exact_forwards == 4 * of_set.labels  # temperatures or none, log odds or none
    _, applied = job_of(small, tmp_path / "applied", data, ["folder"], experts=3,
                        coefficient={"calibration": str(tmp_path / "c.json")})  # fmt: skip
    command("run", applied)


def test_a_job_that_applies_one_can_be_calibrated_anew(small, data, calibrated, tmp_path):
    _, file = job_of(small, tmp_path, data,
                     coefficient={"calibration": changed(calibrated[0], tmp_path)})  # fmt: skip
    command("calibrate", file, "--fraction", "0.33", "--out", str(tmp_path / "c.json"))
    assert Calibration.read(str(tmp_path / "c.json")) == Calibration.read(calibrated[0])
    _, other = job_of(small, tmp_path, data, coefficient={"offset_adjustment": True})
    assert "log odds from labels take the place" in command(
        "calibrate", other, "--fraction", "0.3", code=2
    )


def test_a_report_estimates_the_set_that_has_no_labels(small, data, tmp_path):
    """In its words and in audit.json; what is true of the others is as in Parquet."""
    images = make_images(40, seed=1)
    write_tar(tmp_path / "bare" / "b.tar", images, None)
    job, _ = job_of(small, tmp_path, data)
    job["datasets"].append({"name": "bare", "path": str(tmp_path / "bare")})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    command("run", str(tmp_path / "job.yaml"))
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    estimates = found["estimates"]
    assert estimates["labelled"] == ["folder", "tars", "parquet"]
    rows = pd.read_parquet(tmp_path / "run" / "predictions")
    of_set = rows[rows.dataset == "tars"]
    true = (of_set.prediction == of_set.label).mean()
    assert estimates["datasets"]["tars"]["dawin"]["true"] == pytest.approx(true)
    error = 100 * estimates["mean_error"]["dawin"]
    bare = estimates["datasets"]["bare"]["dawin"]
    assert bare["true"] is None
    told = [w for w in found["words"] if w.startswith(("Without its own", "On bare"))]
    said = f"on the 3 that have labels, DaWin's came out with a mean absolute error of {error:.1f}"
    assert said in told[0]
    assert f"DaWin is estimated to be right on {100 * bare['value']:.1f} % [" in told[1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"mean absolute error of {error:.1f} points" in page
