"""The scripts of cluster/slurm on a real Slurm of one node: to the end, and taken up again.

`tests/cluster/slurm.sh` installs it; without it these tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.cluster.slurm import Slurm, missing
from tests.conftest import CLASSES, make_images, write_folder, write_parquet, write_tar
from tests.integration.processes import assert_equal_runs, job_file, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: {missing()}"),
]
SCRIPTS = Path(__file__).parents[2] / "cluster" / "slurm"
IMAGES = 40

# dawin-ray, whose driver takes its time for each chunk; PAUSE is of the job's environment.
COMMAND = f"""#!{sys.executable}
import os, time
from dawin_ray.runs import ledger
add = ledger.PassLedger.add
def slow(self, summary):
    time.sleep(float(os.environ["PAUSE"]))
    add(self, summary)
ledger.PassLedger.add = slow
from dawin_ray.cli import main
main()
"""


@pytest.fixture(scope="module")
def slurm():
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets want a short path
    command = folder / "bin" / "dawin-ray"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    path = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {
        "PATH": os.pathsep.join(path),
        "PAUSE": "0.5",
        "PYTHONPATH": str(SCRIPTS.parents[1]),
        "RAY_memory_monitor_refresh_ms": "0",  # other tests may use the memory
    }
    made = Slurm(folder, environment)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
        for job in range(made.first, made.first + 100):  # what failed leaves its logs
            shutil.rmtree(f"/tmp/dawin-ray-{job}", ignore_errors=True)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("data")
    images, labels = make_images(IMAGES), [i % CLASSES for i in range(IMAGES)]
    write_tar(root / "tars" / "a.tar", [*images, b"no image"], None)
    write_folder(root / "folder", images, sorted(labels))
    write_parquet(root / "parquet" / "a.parquet", images, labels)
    return [{"name": name, "path": str(root / name)} for name in ("tars", "folder", "parquet")]


def submitted(slurm: Slurm, folder: Path, *options: str) -> str:
    """The job of a folder that holds a job file, with as much as the node has."""
    small = ("--cpus-per-task=2", "--mem=4G", "--time=10", *options)
    return slurm.submit(*small, str(SCRIPTS / "job.sbatch"), "job.yaml", cwd=folder)


def output_of(folder: Path, job: str) -> str:
    found = sorted(folder.glob(f"dawin-ray-{job}*.out"))
    return "\n".join(f"== {path.name}\n{path.read_text()}" for path in found)


def completed(slurm: Slurm, folder: Path, job: str) -> str:
    state = slurm.ended(job)
    output = output_of(folder, job)
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), f"{state} {output}"
    assert not Path(f"/tmp/dawin-ray-{job}").exists()
    return output


def wait_for(found, job: str, folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not found():
        assert time.monotonic() < deadline, output_of(folder, job)
        time.sleep(0.1)


def assert_equal_rows(alone: Path, whole: Path, dataset: str) -> None:
    """A data set that was scored alone, and the same among others."""
    wanted = rows(whole)
    wanted = wanted[wanted.dataset == dataset].drop(columns="dataset").reset_index(drop=True)
    found = rows(alone).drop(columns="dataset")
    # where other data sets have no labels, pandas makes floats of them
    pd.testing.assert_frame_equal(found, wanted.astype(found.dtypes), check_exact=True)


@pytest.fixture(scope="module")
def whole(slurm, small, datasets, tmp_path_factory) -> Path:
    """A run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    job_file(small, folder, datasets, engine="ray")
    completed(slurm, folder, submitted(slurm, folder))
    return folder / "run"


@pytest.mark.parametrize("name", ["job.sbatch", "array.sbatch"])
def test_slurm_would_take_a_script_and_none_with_a_typo(slurm, tmp_path, name):
    text = (SCRIPTS / name).read_text().replace("=32G", "=4G").replace("=8\n", "=2\n")

    def taken(text: str) -> int:
        (tmp_path / name).write_text(text)
        command = ["sbatch", "--test-only", str(tmp_path / name), "job.yaml"]
        return subprocess.run(command, env=slurm.environment, capture_output=True).returncode

    assert taken(text) == 0
    # it takes beginnings of words for the words, so that test_scripts.py is stricter
    for right, wrong in (("--requeue", "--reqeue"), ("=12:00:00", "=12h"), ("TERM@", "TREM@")):
        assert right in text
        assert taken(text.replace(right, wrong, 1)) != 0, wrong


@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_a_job_that_is_requeued_resumes(slurm, small, datasets, whole, tmp_path, kind):
    """In each pass: Slurm ends all steps, and starts the same job again."""
    job_file(small, tmp_path, datasets, engine="ray")
    job = submitted(slurm, tmp_path)
    chunks = tmp_path / "run" / "work" / kind
    wait_for(lambda: list(chunks.rglob("*.parquet")), job, tmp_path)
    slurm.requeue(job)
    wait_for(lambda: slurm.state(job)["JobState"] == "PENDING", job, tmp_path)
    output = completed(slurm, tmp_path, job)
    assert slurm.state(job)["Restarts"] == "1"
    assert "is unfinished; its finished chunks are kept" in output
    label = {"experts": "pass 1, experts", "predictions": "pass 2, merged models"}[kind]
    done = re.findall(rf"{label}: done, (\d+) images", output)
    assert [0 < int(images) < 3 * IMAGES for images in done] == [True], output
    assert_equal_runs(whole, tmp_path / "run")


def test_a_time_limit_ends_it_cleanly(slurm, small, datasets, whole, tmp_path, monkeypatch):
    job_file(small, tmp_path, datasets, engine="ray")
    monkeypatch.setitem(slurm.environment, "PAUSE", "60")  # longer than the limit in any case
    job = submitted(slurm, tmp_path, "--signal=B:TERM@60")
    wait_for(lambda: list((tmp_path / "run" / "work").rglob("*.parquet")), job, tmp_path)
    slurm.limit(job, 90)
    state = slurm.ended(job)
    output = output_of(tmp_path, job)
    assert (state["JobState"], state["ExitCode"]) == ("FAILED", "143:0"), output
    assert "Stopped. The same command resumes the run" in output
    assert not (tmp_path / "run" / ".lock").exists()
    assert not Path(f"/tmp/dawin-ray-{job}").exists()
    assert list((tmp_path / "run" / "work").rglob("*.parquet"))
    monkeypatch.setitem(slurm.environment, "PAUSE", "0")
    completed(slurm, tmp_path, submitted(slurm, tmp_path))
    assert_equal_runs(whole, tmp_path / "run")


def test_an_array_scores_each_data_set_by_itself(slurm, small, datasets, whole, tmp_path):
    job_file(small, tmp_path, datasets, engine="ray")
    script, runs = str(SCRIPTS / "array.sbatch"), tmp_path / "runs"
    options = ("--array=0-2", "--cpus-per-task=1", "--mem=2G", "--time=10")
    array = slurm.submit(*options, script, "job.yaml", str(runs), cwd=tmp_path)
    for task, dataset in enumerate(datasets):
        state = slurm.ended(f"{array}_{task}")
        output = output_of(tmp_path, array)
        assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), output
        assert_equal_rows(runs / dataset["name"], whole, dataset["name"])


def test_the_command_that_stops_it(slurm, small, datasets, whole, tmp_path, monkeypatch):
    job_file(small, tmp_path, datasets, engine="ray")
    options = ("--array=1", "--cpus-per-task=2", "--mem=4G", "--time=10")
    submit = (*options, str(SCRIPTS / "array.sbatch"), "job.yaml", "runs")
    monkeypatch.setitem(slurm.environment, "PAUSE", "30")
    task = slurm.submit(*submit, cwd=tmp_path) + "_1"
    work = tmp_path / "runs" / "folder" / "work"
    wait_for(lambda: list(work.rglob("*.parquet")), task, tmp_path)
    slurm.ask("scancel", "--batch", "--signal=TERM", task)
    state = slurm.ended(task)
    assert state["ExitCode"] == "143:0", output_of(tmp_path, task)
    monkeypatch.setitem(slurm.environment, "PAUSE", "0")
    again = slurm.submit(*submit, cwd=tmp_path) + "_1"
    assert slurm.ended(again)["JobState"] == "COMPLETED", output_of(tmp_path, again)
    assert_equal_rows(tmp_path / "runs" / "folder", whole, "folder")


def test_an_array_that_is_too_long_says_how_long(slurm, small, datasets, tmp_path):
    job_file(small, tmp_path, datasets)
    options = ("--array=3", "--cpus-per-task=1", "--mem=1G")
    script = str(SCRIPTS / "array.sbatch")
    array = slurm.submit(*options, script, "job.yaml", "runs", cwd=tmp_path)
    assert slurm.ended(f"{array}_3")["JobState"] == "FAILED"
    assert "job.yaml has 3 data sets: give --array=0-2" in output_of(tmp_path, array)
