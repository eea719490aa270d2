"""A run that is asked to stop gives its directory back, and goes on to the same rows when asked.

In this process, without Ray; what Ray adds is in test_signals.py.
"""

import importlib
import os
import signal
import threading

import fsspec
import pytest

from dawin_ray import load_job, prepare, score
from dawin_ray.engine.local import LocalEngine
from dawin_ray.job.progress import ConsoleProgress
from dawin_ray.runs.ledger import PassLedger
from dawin_ray.stopping import Stopped, stoppable
from dawin_ray.storage import LOCK
from dawin_ray.storage import lock as locking
from tests.integration.processes import assert_equal_runs, job_file

MOMENTS = [  # where the signal comes, and at which call
    ("dawin_ray.job.score:counts_of", 1),
    ("dawin_ray.runs.ledger:PassLedger.add", 1),
    ("dawin_ray.runs.work:Work.commit", 4),
    ("dawin_ray.job.parts:plan_parts", 1),
    ("dawin_ray.job.fitting:fit", 1),
    ("dawin_ray.runs.ledger:PassLedger.add", 2),
    ("dawin_ray.job.score:manifest_of", 1),
]


def stop_at(monkeypatch, target: str, call: int, number: signal.Signals) -> None:
    module, _, path = target.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, stopping)


def run(job) -> None:
    score(prepare(load_job(str(job))), ConsoleProgress())


@pytest.fixture(scope="module")
def whole(small, datasets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(job_file(small, folder, datasets))
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_stopped_again_and_again_ends_the_same(
    small, datasets, whole, tmp_path, monkeypatch, number
):
    job, run_dir = job_file(small, tmp_path, datasets), tmp_path / "run"
    before = signal.getsignal(number)
    for target, call in MOMENTS:
        stop_at(monkeypatch, target, call, number)
        with pytest.raises(Stopped, match="The same command resumes") as stopped:
            run(job)
        assert stopped.value.exit_code == 143
        assert not (run_dir / LOCK).exists(), target
        assert signal.getsignal(number) is before
        assert not list(run_dir.rglob("*.tmp")), target
        monkeypatch.undo()
    run(job)
    assert_equal_runs(whole, run_dir)


def test_a_stream_is_closed_before_its_engine_ends(small, datasets, tmp_path, monkeypatch):
    """One that Python closes at its own end has Ray Data start another Ray, and hang."""
    whole, closed = LocalEngine.run, []

    def watched(self, stage, tasks, wiring):
        try:
            yield from whole(self, stage, tasks, wiring)
        finally:
            closed.append((tmp_path / "run" / LOCK).exists())

    monkeypatch.setattr(LocalEngine, "run", watched)
    stop_at(monkeypatch, "dawin_ray.runs.ledger:PassLedger.add", 1, signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        run(job_file(small, tmp_path, datasets[:1]))
    assert stopped.traceback  # which holds what was not closed
    assert closed == [True]


def test_a_call_from_another_thread_is_left_alone(small, datasets, tmp_path, monkeypatch):
    """Python raises signals in the main thread, which is not this run's to disturb."""
    seen = []
    add = PassLedger.add
    monkeypatch.setattr(
        PassLedger,
        "add",
        lambda self, summary: seen.append(signal.getsignal(signal.SIGTERM)) or add(self, summary),
    )
    job = job_file(small, tmp_path, datasets[:1])
    thread = threading.Thread(target=run, args=[job])
    thread.start()
    thread.join()
    assert set(seen) == {signal.getsignal(signal.SIGTERM)}
    assert (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.parametrize("moment", ["_renew", "_give_back"])
def test_a_lease_is_given_back_whenever_the_signal_comes(tmp_path, monkeypatch, moment):
    """While it is taken, and while it is given back."""
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    stop_at(monkeypatch, f"dawin_ray.storage.lock:_Lease.{moment}", 1, signal.SIGTERM)
    address = f"memory://{tmp_path.name}/run"

    def hold():
        with locking.exclusive(address):
            pass

    with pytest.raises(Stopped), stoppable(signal.SIGTERM):
        hold()
    assert not fsspec.filesystem("memory").find(f"/{tmp_path.name}")
