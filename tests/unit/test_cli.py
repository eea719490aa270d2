"""The command itself: version, signals, and names that stand for nothing but themselves."""

import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import dawin_ray
from dawin_ray.cli import app
from dawin_ray.stopping import EXIT_CODES, SAME_SECONDS

WAITING = """
import time
from dawin_ray import terminal
with terminal.friendly(False):
    try:
        print("ready", flush=True)
        for _ in range(600):  # a signal just before one long sleep would wait for its end
            time.sleep(0.1)
    finally:
        {cleaning}
"""


def waiting(cleaning: str = "pass") -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(cleaning=cleaning)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"dawin-ray {dawin_ray.__version__}\n")
    module = subprocess.run(
        [sys.executable, "-m", "dawin_ray", "--version"], capture_output=True, text=True
    )
    assert module.stdout == result.output


@pytest.mark.parametrize("number", EXIT_CODES)
def test_a_signal_is_a_message_and_a_code(number):
    process = waiting()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert errors == "Stopped. The same command resumes the run where it was.\n"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_whatever_is_being_cleaned(second):
    process = waiting("print('cleaning', flush=True); [time.sleep(0.1) for _ in range(600)]")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    time.sleep(SAME_SECONDS + 0.2)
    process.send_signal(second)
    assert process.wait(timeout=30) == 128 + second


def test_handlers_are_those_of_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    CliRunner().invoke(app, ["run", "/nowhere.yaml"])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["[/bold]", "[red]", "a\x1b[31mb"])
def test_a_path_in_an_error_is_as_it_is_but_for_what_steers(name):
    result = CliRunner().invoke(app, ["run", f"/nowhere/{name}.yaml"])
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert name.replace("\x1b", "\\x1b") in result.output


@pytest.mark.parametrize("name", ["[/bold]", ":smile: [red]"])
def test_a_run_dir_in_a_plan_is_as_it_is(small, tmp_path, name):
    from tests.conftest import CLASSES, make_images, write_folder

    write_folder(tmp_path / name / "data", make_images(6), list(range(CLASSES)))
    datasets = [{"name": "set", "path": str(tmp_path / name / "data")}]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / name / "run", datasets)
    result = CliRunner().invoke(app, ["plan", job])
    assert result.exit_code == 0, result.output
    whole = "".join(f"Plan of {tmp_path / name / 'run'}".split())
    assert whole in "".join(result.output.split())  # a title is broken where the table ends
    assert "listing set, 6 files: " in result.output
    assert "reading 2 checkpoints, 0.00 GB: " in result.output
