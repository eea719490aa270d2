"""Jobs that `ray job submit` brings, package and all, to machines that share no disk.

Data, checkpoints, model config and run directory are on S3, emulated at 127.0.0.1.
"""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dawin_ray
from tests.integration.conftest import BUCKET
from tests.integration.machines import HOME, Machines, why_not
from tests.integration.processes import DRIVER, assert_equal_runs, job_at, rows

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

WORKERS = ("one", "two")
ENTRYPOINT = ("python", "-m", "dawin_ray", "run", "job.yaml")
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
COMPUTE = {"engine": "ray", "actors": 2, "batch_size": 8, "chunk_size": 8}
WAIT_SECONDS = 500.0  # 120 of which a lease takes to lapse, and some more on a busy machine


@pytest.fixture(scope="module")
def alone(small, uploaded, tries, tmp_path_factory) -> Path:
    """The run that nobody disturbs, on one machine and its disk."""
    folder = tmp_path_factory.mktemp("alone")
    job = job_at(small, folder, str(uploaded), str(folder / "run"), compute=COMPUTE)
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    return folder / "run"


@pytest.fixture(scope="module")
def machines(alone, aws_env, tmp_path_factory) -> Iterator[Machines]:
    env = aws_env | {"AWS_EC2_METADATA_DISABLED": "true", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
    made = Machines(tmp_path_factory.mktemp("machines"), env)
    try:
        made.start(*WORKERS)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Path:
    """What goes with a job as its working directory: this package, and the job's file."""
    folder = tmp_path_factory.mktemp("sent")
    source = Path(dawin_ray.__file__).parent
    shutil.copytree(source, folder / "dawin_ray", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def job_of(small, sent: Path, run_dir: str, **sections) -> str:
    """Write the job, all of it on S3 but for `sections`; the option that sends it."""
    job_at(small, sent, f"s3://{BUCKET}", run_dir, compute=COMPUTE, **sections)
    return f"--working-dir={sent}"


def submitted(machines: Machines, working_dir: str, *options: str, entrypoint=ENTRYPOINT):
    return machines.job("submit", working_dir, *options, "--", *entrypoint)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    return process.returncode, output


def failed(process: subprocess.Popen) -> tuple[int, str]:
    """The entrypoint's exit code and what it said; `ray job submit` itself ends with 1."""
    code, output = ended(process)
    said, _, status = output.partition("Status message: ")
    found = re.search(r"failed with exit code (\d+)", status)
    assert (code, found is not None) == (1, True), output
    return int(found[1]), said


def until(s3, process: subprocess.Popen, kind: str) -> None:
    """Wait for the first chunk that is committed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not s3.find(f"{BUCKET}/run/work/{kind}"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no {kind} by now: {process.stdout.read()}")
        time.sleep(0.1)


def test_a_job_that_is_killed_and_stopped_ends_as_one_that_is_left_alone(
    small, s3, alone, sent, machines, tmp_path
):
    run, working_dir = f"{BUCKET}/run", job_of(small, sent, f"s3://{BUCKET}/run")
    process = submitted(machines, working_dir)
    until(s3, process, "experts")
    machines.driver().kill()
    code, output = failed(process)
    assert code == 128 + signal.SIGKILL, output
    print(f"killed when {len(s3.find(f'{run}/work/experts'))} chunks of pass 1 were there")
    assert s3.exists(f"{run}/.lock")  # nobody could give it back

    process = submitted(machines, working_dir, "--submission-id=stopped")
    until(s3, process, "predictions")
    code, stopping = ended(machines.job("stop", "stopped"))
    assert (code, "stopped" in stopping) == (0, True), stopping
    code, output = ended(process)
    assert code == 0, output  # of `ray job submit`, to which that is no failure
    assert "unless that one renews its lease" in output
    assert output.count("Stopped. The same command resumes") == 1, output
    print(f"stopped when {len(s3.find(f'{run}/work/predictions'))} chunks of pass 2 were there")
    assert not s3.exists(f"{run}/.lock")
    assert not s3.exists(f"{run}/manifest.json")

    code, output = ended(submitted(machines, working_dir))
    assert code == 0, output
    s3.get(run, str(tmp_path / "fetched"), recursive=True)
    assert_equal_runs(alone, tmp_path / "fetched")
    print(f"{len(rows(tmp_path / 'fetched'))} predictions equal to those of the run left alone")
    for name in WORKERS:  # read once by each, and by no other's disk
        kept = machines.disk(name, HOME / ".cache/dawin_ray/checkpoints")
        assert len([path for path in kept.iterdir() if path.is_file()]) == 2


def test_a_small_file_of_the_job_comes_with_its_working_directory(
    small, s3, alone, sent, machines, tmp_path
):
    """A model config by its name alone, which is a file beside the job's on every machine."""
    config = shutil.copy(small.config, sent)
    model = {"architecture": Path(config).name}
    working_dir = job_of(small, sent, f"s3://{BUCKET}/beside", model=model)
    code, output = ended(submitted(machines, working_dir))
    assert code == 0, output
    s3.get(f"{BUCKET}/beside", str(tmp_path / "fetched"), recursive=True)
    assert_equal_runs(alone, tmp_path / "fetched")


def test_a_run_dir_of_each_machine_is_refused_before_anything_runs(small, sent, machines):
    code, output = failed(submitted(machines, job_of(small, sent, "runs/here")))
    assert code == 2, output
    assert "The run_dir 'runs/here' is not shared by 2 of 2 nodes, and nothing was run" in output
    assert all(f"node {name} (" in output for name in WORKERS)
    assert "Traceback" not in output
    assert "pass 1" not in output


def test_credentials_at_the_driver_alone_are_one_message(small, sent, machines, aws_env):
    """A runtime environment takes them from all of the job, and the entrypoint's has them."""
    without = json.dumps({"env_vars": {name: "" for name in SECRETS}})
    having = [f"{name}={aws_env[name]}" for name in SECRETS]
    process = submitted(
        machines, job_of(small, sent, f"s3://{BUCKET}/mine"), f"--runtime-env-json={without}",
        entrypoint=("env", *having, *ENTRYPOINT),
    )  # fmt: skip
    code, output = failed(process)
    assert code == 2, output
    assert output.count("\nError: ") == 1, output
    assert output.count("NoCredentialsError") == len(WORKERS)
    assert "Give all nodes the credentials" in output
    assert "Traceback" not in output
    assert "pass 1" not in output
