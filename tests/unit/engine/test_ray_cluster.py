"""Ray's start, its token, and what it does to signals; nothing here starts Ray."""

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from dawin_ray.engine import ray_cluster
from dawin_ray.engine.ray_cluster import keep_token_private
from dawin_ray.errors import UserError
from dawin_ray.stopping import Stopped


@pytest.fixture
def token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / ".ray" / "auth_token"


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_for_its_owner_alone(token):
    keep_token_private(token)
    assert mode(token) == 0o600
    assert len(token.read_text()) == 64
    before = token.read_text()
    keep_token_private(token)
    assert token.read_text() == before
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize("wide", [0o644, 0o660, 0o604])
def test_a_token_that_others_can_read_is_closed(token, wide):
    token.parent.mkdir(parents=True)
    token.write_text("a" * 64)
    token.chmod(wide)
    keep_token_private(token)
    assert mode(token) == 0o600
    assert token.read_text() == "a" * 64


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAY_AUTH_TOKEN", "t"), ("RAY_AUTH_TOKEN_PATH", "/x"), ("RAY_AUTH_MODE", "disabled")],
)
def test_a_token_given_by_other_means_needs_no_file(token, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    keep_token_private(token)
    assert not token.exists()


def test_a_home_that_cannot_be_written_is_no_error(tmp_path, token, caplog):
    (tmp_path / "home").write_text("a file")
    keep_token_private(token)
    assert "cannot be made private" in caplog.text


def test_runs_that_start_together_agree_on_one_token(token):
    ready = threading.Barrier(8)

    def start():
        ready.wait()
        keep_token_private(token)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]
    assert len(token.read_text()) == 64


@pytest.fixture
def starts(monkeypatch):
    """Ray's starts, which fail as often as `left` says."""
    import ray

    calls, left = [], []

    def init(**options):
        calls.append(options)
        if left:
            raise left.pop(0)

    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # as if before Ray's import
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_cluster, "PAUSE_SECONDS", 0.0)
    return calls, left


def test_a_ray_that_was_imported_too_early_is_told(monkeypatch, starts):
    """It would listen on all addresses, and take no token."""
    import ray

    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(UserError, match=r"imported Ray before.*AUTH_MODE=token before `import ray`"),
        ray_cluster.ray_session(None),
    ):
        pass
    assert starts[0] == []  # no Ray was begun


def test_a_ray_that_does_not_come_up_is_tried_again(starts):
    calls, left = starts
    left += [Exception("The current node timed out during startup."), RuntimeError("")]
    lines = []
    ray_cluster._init(None, lines.append)
    assert len(calls) == 3
    assert "1st try" in lines[0]
    assert "timed out during startup" in lines[0]
    assert "2nd try" in lines[1]
    assert "RuntimeError" in lines[1]


def test_a_ray_that_never_comes_up_is_one_message(starts):
    calls, left = starts
    left += [TimeoutError(f"try {i}") for i in range(5)]
    with pytest.raises(UserError, match=r"does not start.*tried 3 times: TimeoutError: try 2"):
        ray_cluster._init(None, None)
    assert len(calls) == 3


def test_a_cluster_that_is_not_there_is_not_waited_for(starts):
    calls, left = starts
    left += [ConnectionError("nobody there")]
    with pytest.raises(UserError, match=r"at '10\.0\.0\.1:6379': ConnectionError: nobody"):
        ray_cluster._init("10.0.0.1:6379", None)
    assert len(calls) == 1


def test_the_handler_of_sigterm_is_kept():
    def ours(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with ray_cluster._own_handler_of_sigterm():
            signal.signal(signal.SIGTERM, lambda *_: None)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_rays_handler_gets_first_is_still_ours():
    """It has `sys.exit(signum)` from the beginning of ray.init to its end."""

    def ours(number, frame):
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with pytest.raises(Stopped), ray_cluster._own_handler_of_sigterm():
            raise SystemExit(signal.SIGTERM)
        with pytest.raises(SystemExit), ray_cluster._own_handler_of_sigterm():
            raise SystemExit(3)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_ray_of_its_own_has_the_cores_of_its_process(starts, monkeypatch):
    calls, _ = starts
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for cores, told in (({1}, 1), ({0, 1, 2, 3}, None)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        ray_cluster._init(None, None)
        assert calls[-1]["num_cpus"] == told
    ray_cluster._init("auto", None)
    assert calls[-1]["num_cpus"] is None


def test_a_main_thread_that_no_signal_reaches_is_no_silent_end():
    script = (
        "import signal, sys, time\n"
        "from dawin_ray.engine import ray_cluster\n"
        "ray_cluster.WATCH_SECONDS, ray_cluster.SILENCE_SECONDS = 0.1, 0.2\n"
        "ray_cluster.PATIENCE_SECONDS = 0.5\n"
        "ray_cluster._Watch.ask = lambda watch: None\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "with ray_cluster._watch(own=False):\n"
        "    time.sleep(60)\n"
        "print('not reached')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("Error: Ray has broken down: its control store (GCS) has not")
    assert done.stderr.rstrip().endswith("once it is up.")
    assert not done.stdout
