"""`dawin-ray advise` on small models: a pilot, its figures, and the job that does it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dawin_ray.advice.advise import Advised, advise
from dawin_ray.advice.saved import check_free, write_job
from dawin_ray.cli import app
from dawin_ray.config import load_job, read_values
from dawin_ray.errors import UserError
from dawin_ray.runs import FINGERPRINT, load_saved
from tests.conftest import CLASSES, make_images, write_tar

IMAGES = 48


@pytest.fixture(scope="module")
def job(small, tmp_path_factory):
    """A job file of a set with labels, two of whose samples are none."""
    root = tmp_path_factory.mktemp("advise")
    images = make_images(IMAGES)
    images[5] = b"no image"
    labels = [i % CLASSES for i in range(IMAGES)]
    labels[7] = CLASSES + 3
    write_tar(root / "data" / "a.tar", images, labels)
    (root / "run").mkdir()
    (root / "run" / FINGERPRINT).write_text("another's")
    path = root / "job.yaml"
    small.job_file(path, root / "run", [{"name": "d", "path": str(root / "data")}])
    path.write_text("# ours\n" + path.read_text())
    return path


@pytest.fixture(scope="module")
def said(job, tmp_path_factory):
    """What the command printed, its folder, and the temporary files that it left."""
    out, temporary = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        found = CliRunner().invoke(
            app,
            ["advise", str(job), "--out", str(out / "advised.yaml"), "--json", str(out / "a.json")],
        )
    assert found.exit_code == 0, found.output
    return found.output, out, temporary


def test_all_modes_have_a_price_and_an_accuracy_and_one_is_recommended(said):
    output, out, _ = said
    found = json.loads((out / "a.json").read_text())
    assert [mode["mode"] for mode in found["modes"]] == ["plain", "static", "clustered", "exact"]
    assert [mode["forwards"] for mode in found["modes"]] == [1, 1, 3, 4]
    for mode in found["modes"]:
        told, right = mode["seconds"], mode["accuracy"]
        assert 0 < told["low"] <= told["seconds"] <= told["high"]
        assert sum(told["parts"].values()) == pytest.approx(told["seconds"])
        assert right["low"] <= right["value"] <= right["high"]
        assert right["n"] == IMAGES - 2
        assert (mode["alone"] is not None) == (mode["mode"] in ("plain", "static"))
    assert [mode["gain"] is None for mode in found["modes"]] == [True, False, False, False]
    assert found["sentence"] in output
    assert found["sentence"].startswith("Use ")


def test_rejects_are_counted_and_said_and_no_row_is_lost(said):
    output, out, _ = said
    found = json.loads((out / "a.json").read_text())["datasets"]["d"]
    assert (found["samples"], found["pilot"], found["rejects"]) == (IMAGES, IMAGES, 2)
    assert found["labelled"] == IMAGES - 2
    assert sum(found["clusters"]) == IMAGES - 2
    assert "48 of 48 samples, 2 of them rejected, 46 with a label" in output
    assert f"pilot     {IMAGES} samples, " in output


def test_nothing_is_left_but_what_was_asked_for_and_the_run_directory_is_not_touched(said, job):
    _, out, temporary = said
    assert not [*temporary.iterdir()]
    assert {path.name for path in out.iterdir()} <= {"advised.yaml", "advised.fit.json", "a.json"}
    assert [path.name for path in (job.parent / "run").iterdir()] == [FINGERPRINT]


def test_the_job_that_it_writes_loads_and_stays_out_of_a_run_that_is_there(said, job):
    _, out, _ = said
    text = (out / "advised.yaml").read_text()
    assert "# ours\n" in text
    found, own = load_job(str(out / "advised.yaml")), load_job(str(job))
    assert found.experts == own.experts
    changed = json.loads((out / "a.json").read_text())["mode"] != "clustered"
    assert found.run_dir == own.run_dir + "-advised" * changed


def test_nothing_is_written_over(job, tmp_path):
    (tmp_path / "a.yaml").write_text("mine")
    for option in ("--out", "--json"):
        found = CliRunner().invoke(app, ["advise", str(job), option, str(tmp_path / "a.yaml")])
        assert found.exit_code == 2
        assert "nothing is written over" in found.output
    (tmp_path / "b.fit.json").write_text("mine")
    with pytest.raises(UserError, match=r"b\.fit\.json"):
        check_free(str(tmp_path / "b.fit.json"))
    assert (tmp_path / "a.yaml").read_text() == "mine"


def test_without_labels_it_says_so_and_the_exact_mode_is_only_timed(small, tmp_path):
    write_tar(tmp_path / "data" / "a.tar", make_images(IMAGES), None)
    path = small.job_file(
        tmp_path / "job.yaml", tmp_path / "run", [{"name": "d", "path": str(tmp_path / "data")}],
        mixture={"clusters": "exact"},
    )  # fmt: skip
    lines = []
    values = read_values(path)
    advised: Advised = advise(values, lines.append)
    advice = advised.advice
    assert (advice.mode, advice.why, advice.settled) == ("clustered", "no labels", False)
    assert all(mode.accuracy is None and mode.gain is None for mode in advice.modes)
    assert all(mode.seconds is not None for mode in advice.modes)
    assert "without labels" in advice.sentence
    assert not (tmp_path / "run").exists()
    # the jobs of all modes can be written; of the static one, with its fit
    written = write_job(advised, path, values, str(tmp_path / "even.yaml"), "static")
    assert [Path(name).name for name in written] == ["even.yaml", "even.fit.json"]
    even = load_job(written[0])
    assert even.run_dir == str(tmp_path / "run")  # which nobody has claimed
    saved = yaml.safe_load(Path(written[1]).read_text())
    fit = load_saved(even.saved_fit, saved["identity"], [])
    assert fit.fit.mixture.means.tolist() == [[0.5, 0.5]]
