"""A run that is stopped, or whose Ray dies, says so, ends with its code, and goes on when asked."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.integration.processes import DRIVER, assert_equal_runs, job_file

pytestmark = pytest.mark.slow
NO_DUMP = ("Traceback", "*** SIG", "Stack trace", "Fatal", "core dumped", "C  [")


# Sends itself SIGTERM at the given call, in place of killing itself.
ASKED = DRIVER.replace(
    "os.kill(os.getpid(), signal.SIGKILL)",
    "print('ASKED', time.time(), flush=True); os.kill(os.getpid(), signal.SIGTERM)",
).replace("import importlib, os,", "import importlib, time, os,")

EXIT_SECONDS = 30.0  # after which Kubernetes and Slurm kill what they have asked to stop

# One after the other in one run directory, so that what one leaves the next one takes up.
MOMENTS = [
    ("Ray starts", "dawin_ray.engine.ray_cluster:start", 1),
    ("Ray is there", "dawin_ray.engine.ray_stream:resources", 1),
    ("first chunk of pass 1", "dawin_ray.runs.ledger:PassLedger.add", 1),
    ("middle of pass 1", "dawin_ray.runs.ledger:PassLedger.add", 3),
    ("a shard's mark of pass 1", "dawin_ray.runs.work:Work.mark", 1),
    ("tables of pass 1", "dawin_ray.job.parts:plan_parts", 1),
    ("fit", "dawin_ray.job.fitting:fit", 1),
    ("first chunk of pass 2", "dawin_ray.runs.ledger:PassLedger.add", 1),
    ("tables of predictions", "dawin_ray.job.score:predictions_parts", 1),
    ("manifest", "dawin_ray.job.score:manifest_of", 1),
]


def test_a_run_that_is_asked_to_stop_at_ten_moments_ends_the_same(
    small, datasets, tries, undisturbed, tmp_path
):
    job, run_dir = job_file(small, tmp_path, datasets, engine="ray"), tmp_path / "run"
    for moment, target, call in MOMENTS:
        process = tries.start(ASKED, target, call, job)
        output, _ = process.communicate(timeout=300)
        ended = time.time()
        assert process.returncode == 143, f"{moment}: {output}"
        asked = float(output.split("ASKED ")[1].split()[0])
        print(f"{moment}: {ended - asked:.1f} s")
        assert ended - asked < EXIT_SECONDS, moment
        assert output.count("Stopped. The same command resumes the run") == 1, f"{moment}: {output}"
        assert not any(words in output for words in NO_DUMP), f"{moment}: {output}"
        assert not (run_dir / ".lock").exists(), moment
        _, left = psutil.wait_procs(tries.ours(), timeout=30)
        assert not left, moment
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    assert_equal_runs(undisturbed, run_dir)


def started(small, datasets, tries, tmp_path) -> subprocess.Popen:
    """A run that has committed its first chunk."""
    process = tries.start(DRIVER, "", 0, job_file(small, tmp_path, datasets, engine="ray"))
    deadline = time.monotonic() + 240
    while not list((tmp_path / "run" / "work").rglob("*.parquet")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)],
    ids=["TERM", "INT", "USR1"],
)
def test_a_run_that_is_asked_to_stop_does(
    small, datasets, tries, undisturbed, tmp_path, number, code
):
    process = started(small, datasets, tries, tmp_path)
    children = children_of(process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "Stopped. The same command resumes the run" in output
    assert not any(words in output for words in NO_DUMP), output
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    code, output = tries.run(DRIVER, "", 0, tmp_path / "job.yaml")
    assert code == 0, output
    assert_equal_runs(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_ray_that_dies_is_one_message(small, datasets, tries, undisturbed, tmp_path, name):
    process = started(small, datasets, tries, tmp_path)
    children = children_of(process)
    next(child for child in children if child.name() == name).kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert output.count("Error: ") == 1
    assert "The work done is kept" in output or "goes on where the run stopped" in output
    assert not any(words in output for words in NO_DUMP), output
    code, output = tries.run(DRIVER, "", 0, tmp_path / "job.yaml")
    assert code == 0, output
    assert_equal_runs(undisturbed, tmp_path / "run")


def test_a_reader_who_has_had_enough_of_the_output_is_no_error(tmp_path):
    script = (
        "from dawin_ray import terminal\n"
        "with terminal.friendly(False):\n"
        "    for i in range(100_000): terminal.echo(f'line {i}')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert not errors
