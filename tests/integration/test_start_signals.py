"""A run that is asked to stop while its Ray starts, or is joined, leaves nothing behind."""

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import DRIVER, Tries, job_file
from tests.integration.test_signals import EXIT_SECONDS, NO_DUMP
from tests.sockets import accepting

pytestmark = pytest.mark.slow

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
SETTINGS, SETTINGS_HEARD = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"  # frames of HTTP/2


def assert_stops(process: subprocess.Popen, number: int, tries: Tries, run_dir: Path) -> None:
    asked = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - asked
    print(f"{seconds:.1f} s")
    assert process.returncode == CODES[number], output
    assert output.count("Stopped. The same command resumes the run") == 1, output
    assert not any(words in output for words in NO_DUMP), output
    assert seconds < EXIT_SECONDS
    assert not (run_dir / ".lock").exists()
    _, left = psutil.wait_procs(tries.ours(), timeout=5)
    assert not left


def below(process: subprocess.Popen) -> list[str]:
    """The commands of the processes that it has begun."""
    words = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            words.append(" ".join(child.cmdline()[:3]))
        except psutil.Error:
            continue
    return words


@pytest.mark.parametrize("number", CODES, ids=["TERM", "INT"])
@pytest.mark.parametrize("began", ["gcs/gcs_server", "raylet/raylet", "runtime_env/agent", "ray::"])
def test_while_a_ray_starts(small, datasets, tries, tmp_path, began, number):
    process = tries.start(DRIVER, "", 0, job_file(small, tmp_path, datasets, engine="ray"))
    deadline = time.monotonic() + 120
    while not any(began in words for words in below(process)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert_stops(process, number, tries, tmp_path / "run")


@pytest.mark.parametrize("number", CODES, ids=["TERM", "INT"])
@pytest.mark.parametrize("says", [b"", SETTINGS], ids=["nothing", "what Ray says first"])
def test_while_an_address_is_asked(small, datasets, tries, tmp_path, monkeypatch, says, number):
    """One that answers and is no Ray: before ray.init, or in the midst of it."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # or Ray asks another address
    asked, kept = threading.Semaphore(0), []

    def take(connection: socket.socket) -> None:
        kept.append(connection)
        if says:
            connection.sendall(says + SETTINGS_HEARD)
        asked.release()

    with accepting(take) as address:
        job = job_file(small, tmp_path, datasets, compute={"engine": "ray", "address": address})
        process = tries.start(DRIVER, "", 0, job)
        for _ in range(2 if says else 1):  # Ray asks after the run has
            assert asked.acquire(timeout=120)
        time.sleep(0.5)
        assert_stops(process, number, tries, tmp_path / "run")
    for connection in kept:
        connection.close()
