"""One run at a time, on a local file system and elsewhere."""

import json
import os
import subprocess
import sys
import time

import fsspec
import pytest

from dawin_ray import locking
from dawin_ray.errors import UserError
from dawin_ray.locking import LOCK, exclusive


@pytest.fixture(params=["local", "memory"])
def run_dir(request, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    if request.param == "local":
        yield str(tmp_path / "run")
    else:
        yield f"memory://{tmp_path.name}/run"
        memory = fsspec.filesystem("memory")
        if memory.exists(f"/{tmp_path.name}"):
            memory.rm(f"/{tmp_path.name}", recursive=True)


def test_a_second_holder_is_refused_and_told_who_has_it(run_dir):
    with (
        exclusive(run_dir),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .*another run_dir"),
        exclusive(run_dir),
    ):
        pass
    with exclusive(run_dir):  # it is free again
        pass


def test_a_holder_that_failed_lets_go(run_dir):
    with pytest.raises(KeyError), exclusive(run_dir):
        raise KeyError
    with exclusive(run_dir):
        pass


def test_a_killed_holder_lets_go(tmp_path):
    code = (
        "import os, signal, sys\nfrom dawin_ray.locking import exclusive\n"
        "with exclusive(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert process.returncode == -9
    with exclusive(str(tmp_path / "run")):
        pass


@pytest.mark.parametrize(("age", "free"), [(10, False), (locking.LEASE_SECONDS + 10, True)])
def test_a_lease_ends_when_it_is_not_renewed(tmp_path, monkeypatch, age, free):
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    fs = fsspec.filesystem("memory")
    lease = {"host": "dead", "pid": 7, "id": "x", "renewed": time.time() - age}
    fs.pipe_file(f"/{tmp_path.name}/{LOCK}", json.dumps(lease).encode())
    address = f"memory://{tmp_path.name}"
    if free:
        with exclusive(address):
            pass
    else:
        with pytest.raises(UserError, match="process 7 on dead"), exclusive(address):
            pass


def test_a_lease_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locking, "RENEWAL_SECONDS", 0.01)
    fs, path = fsspec.filesystem("memory"), f"/{tmp_path.name}/{LOCK}"
    with exclusive(f"memory://{tmp_path.name}"):
        before = json.loads(fs.cat_file(path))["renewed"]
        deadline = time.monotonic() + 10
        while json.loads(fs.cat_file(path))["renewed"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_of_two_that_take_a_lease_at_once_one_goes_on(tmp_path, monkeypatch):
    """The other's object is there after the settling time."""
    fs, path = fsspec.filesystem("memory"), f"/{tmp_path.name}/{LOCK}"

    def other_writes(_):
        fs.pipe_file(path, json.dumps({"host": "other", "pid": 9, "id": "y"}).encode())

    monkeypatch.setattr(locking.time, "sleep", other_writes)
    with (
        pytest.raises(UserError, match="process 9 on other"),
        exclusive(f"memory://{tmp_path.name}"),
    ):
        pass
