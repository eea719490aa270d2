"""Ray's start, its token, and what it does to signals; nothing here starts Ray."""

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest

from dawin_ray import stopping
from dawin_ray.engine import ray_cluster, ray_start
from dawin_ray.engine.ray_start import keep_token_private, start
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
    monkeypatch.setattr(ray_start, "PAUSE_SECONDS", 0.0)
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
    start(None, lines.append)
    assert len(calls) == 3
    assert "1st try" in lines[0]
    assert "timed out during startup" in lines[0]
    assert "2nd try" in lines[1]
    assert "RuntimeError" in lines[1]


def test_a_ray_that_never_comes_up_is_one_message(starts):
    calls, left = starts
    left += [TimeoutError(f"try {i}") for i in range(5)]
    with pytest.raises(UserError, match=r"does not start.*tried 3 times: TimeoutError: try 2"):
        start(None, None)
    assert len(calls) == 3


def test_a_cluster_that_is_not_there_is_not_waited_for(starts):
    calls, left = starts
    left += [ConnectionError("nobody there")]
    with pytest.raises(UserError, match=r"at '10\.0\.0\.1:6379': ConnectionError: nobody"):
        start("10.0.0.1:6379", None)
    assert len(calls) == 1


def test_the_handler_of_sigterm_is_kept():
    def ours(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with ray_start._own_handler_of_sigterm():
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
        with pytest.raises(Stopped), ray_start._own_handler_of_sigterm():
            raise SystemExit(signal.SIGTERM)
        with pytest.raises(SystemExit), ray_start._own_handler_of_sigterm():
            raise SystemExit(3)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_ray_of_its_own_has_the_cores_of_its_process(starts, monkeypatch):
    calls, _ = starts
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for cores, told in (({1}, 1), ({0, 1, 2, 3}, None)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        start(None, None)
        assert calls[-1]["num_cpus"] == told
    start("auto", None)
    assert calls[-1]["num_cpus"] is None


@pytest.fixture
def process_of_rays():
    """Starts something that runs a file of Ray's, as its log monitor does."""
    import ray

    begun = []

    def start() -> subprocess.Popen:
        file = os.path.join(os.path.dirname(ray.__file__), "monitor.py")
        begun.append(subprocess.Popen([sys.executable, "-c", "input()", file], stdin=-1))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("error", [Stopped(signal.SIGTERM), TimeoutError("slow")], ids=["T", "E"])
def test_a_start_that_does_not_end_leaves_no_process(monkeypatch, process_of_rays, error):
    import ray

    others, begun, left = process_of_rays(), [], []

    def init(**options):
        begun.append(process_of_rays())
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: left.append(True))
    monkeypatch.setattr(ray_start, "STARTS", 1)
    with pytest.raises(Stopped if isinstance(error, Stopped) else UserError):
        start(None, None)
    assert left
    begun[0].wait(timeout=5)  # else it would wait for its input
    assert others.poll() is None  # of another Ray, such as one that a person started before


def test_a_cluster_that_is_not_joined_keeps_its_processes(monkeypatch, process_of_rays):
    """Some may be below this process: of `ray.cluster_utils`, say."""
    import ray

    begun = []

    def init(**options):
        begun.append(process_of_rays())
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(Stopped):
        start("10.0.0.1:6379", None)
    assert begun[0].poll() is None


def test_no_handler_of_rays_outlives_it(monkeypatch):
    def start(*_):
        signal.signal(signal.SIGTERM, lambda *_: None)

    monkeypatch.setattr(ray_cluster, "start", start)
    monkeypatch.setattr(ray_cluster, "_used", lambda own: nullcontext())
    monkeypatch.setattr(ray_cluster, "keep_private", lambda: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with ray_cluster.ray_session(None):
            assert signal.getsignal(signal.SIGTERM) is not before
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_while_ray_starts_leaves_no_process(monkeypatch):
    """What is done before the process ends at once is there from the first of Ray's processes."""
    seen, of_others = [], list(stopping.before_leaving)  # such as those of a Ray for all tests
    monkeypatch.setattr(ray_cluster, "start", lambda *_: seen.extend(stopping.before_leaving))
    monkeypatch.setattr(ray_cluster, "_used", lambda own: nullcontext())
    monkeypatch.setattr(ray_cluster, "keep_private", lambda: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_cluster.ray_session(None):
        pass
    assert seen == [*of_others, ray_start.end_processes]
    assert stopping.before_leaving == of_others
