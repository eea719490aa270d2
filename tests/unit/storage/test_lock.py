"""One run at a time, on a local file system and elsewhere."""

import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time

import fsspec
import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.work import Mark
from dawin_ray.storage import lock as locking
from dawin_ray.storage.lock import LOCK, Fence, exclusive
from dawin_ray.storage.objects import StoredObject


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
        "import os, signal, sys\nfrom dawin_ray.storage.lock import exclusive\n"
        "with exclusive(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert process.returncode == -9
    with exclusive(str(tmp_path / "run")):
        pass


@pytest.fixture
def lease(tmp_path, monkeypatch):
    """File system and path of a lease; its times are short."""
    monkeypatch.setattr(locking, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locking, "RENEWAL_SECONDS", 0.05)
    monkeypatch.setattr(locking, "LEASE_SECONDS", 0.3)
    fs = fsspec.filesystem("memory")
    yield fs, f"/{tmp_path.name}/{LOCK}"
    if fs.exists(f"/{tmp_path.name}"):
        fs.rm(f"/{tmp_path.name}", recursive=True)


def write_lease(lease, owner: str, renewals: int = 1, age: float = 0) -> None:
    fs, path = lease
    value = {"host": owner, "pid": 7, "id": owner, "renewed": time.time() - age, "n": renewals}
    fs.pipe_file(path, json.dumps(value).encode())


@pytest.mark.parametrize("age", [-500, 0, 500])  # of a clock that is right, or not
def test_a_lease_ends_when_it_is_not_renewed_whatever_its_clock_says(tmp_path, lease, age):
    write_lease(lease, "dead", age=age)
    with exclusive(f"memory://{tmp_path.name}"):
        assert json.loads(lease[0].cat_file(lease[1]))["id"] != "dead"
    assert not lease[0].exists(f"/{tmp_path.name}") or not lease[0].ls(f"/{tmp_path.name}")


@pytest.mark.parametrize("age", [-500, 0, 500])
def test_a_lease_that_is_renewed_is_held_whatever_its_clock_says(tmp_path, lease, age):
    over = threading.Event()

    def renew():
        for i in range(10_000):
            write_lease(lease, "other", i, age)
            if over.wait(0.05):
                return

    write_lease(lease, "other", age=age)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match="process 7 on other"),
            exclusive(f"memory://{tmp_path.name}"),
        ):
            pass
    finally:
        over.set()
        thread.join()


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken(tmp_path, lease):
    write_lease(lease, "other")
    timer = threading.Timer(0.1, lambda: lease[0].rm_file(lease[1]))
    timer.start()
    with exclusive(f"memory://{tmp_path.name}"):
        assert json.loads(lease[0].cat_file(lease[1]))["pid"] == os.getpid()


def test_a_holder_that_lost_its_lease_writes_no_more(tmp_path, lease):
    address = f"memory://{tmp_path.name}"

    def hold():
        with exclusive(address) as fence:
            run = RunDirectory(address, fence=fence)
            run.write_json("a.json", {})
            write_lease(lease, "thief")
            with pytest.raises(UserError, match=r"lost the run_dir.*process 7 on thief"):
                run.write_json("b.json", {})
            run.work.mark("experts", "set", "s", Mark(chunks={}))

    with pytest.raises(UserError, match="lost the run_dir"):
        hold()
    names = sorted(path.rsplit("/", 1)[1] for path in lease[0].ls(f"/{tmp_path.name}", False))
    assert names == [LOCK, "a.json"]
    assert json.loads(lease[0].cat_file(lease[1]))["id"] == "thief"  # and it is left alone


def test_a_holder_that_could_not_renew_for_too_long_gives_up(tmp_path, lease, monkeypatch):
    """Stopped by SIGSTOP, or cut off: by its own clock it may have lost the lease."""
    whole, asleep = locking.write_whole, threading.Event()

    def stopped(fs, path, data):
        if asleep.is_set():
            time.sleep(0.5)
        whole(fs, path, data)

    def hold():
        with exclusive(f"memory://{tmp_path.name}") as fence:
            fence.check()
            asleep.set()
            time.sleep(0.7)
            with pytest.raises(UserError, match="lost the run_dir"):
                fence.check()

    monkeypatch.setattr(locking, "write_whole", stopped)
    with pytest.raises(UserError, match="lost the run_dir"):
        hold()


def test_a_worker_looks_at_the_lease_once_in_a_while(tmp_path, lease, monkeypatch):
    address = f"memory://{tmp_path.name}"
    write_lease(lease, "driver")
    fence = pickle.loads(pickle.dumps(Fence(run_dir=address, id="driver", window=0.3)))  # noqa: S301
    looks = []
    read = StoredObject.read
    monkeypatch.setattr(StoredObject, "read", lambda self: looks.append(self) or read(self))
    for _ in range(100):
        fence.check()
    assert len(looks) == 1
    write_lease(lease, "thief")
    fence.check()  # as long as this, a thief waits before it writes
    with pytest.raises(UserError, match="process 7 on thief"):
        fence.check(closely=True)
    time.sleep(0.3)
    with pytest.raises(UserError, match="process 7 on thief"):
        fence.check()
    lease[0].rm_file(lease[1])
    with pytest.raises(UserError, match="lost the run_dir"):
        fence.check()


def test_of_many_that_begin_at_once_never_two_hold_it(tmp_path, lease, monkeypatch):
    """Each with PUTs that take longer than the settling time."""
    whole, inside, most, done = locking.write_whole, [], [], []

    def slow(fs, path, data):
        time.sleep(random.random() * 0.08)
        whole(fs, path, data)

    def want():
        try:
            with exclusive(f"memory://{tmp_path.name}"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.05)
                inside.pop()
        except UserError as error:
            done.append(str(error))

    monkeypatch.setattr(locking, "write_whole", slow)
    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most, default=0) <= 1
    assert len(most) + len(done) >= 6
    assert all("Another run writes" in text or "lost the run_dir" in text for text in done)


def test_a_flag_of_one_that_died_is_removed(tmp_path, lease):
    flag = f"{lease[1]}.dead"
    lease[0].pipe_file(flag, b"{}")
    with exclusive(f"memory://{tmp_path.name}"):
        assert not lease[0].exists(flag)


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


def test_a_local_lock_leaves_nothing_behind(tmp_path):
    (tmp_path / "theirs").mkdir()
    for name, kept in (("theirs", True), ("ours", False)):
        with exclusive(str(tmp_path / name)):
            assert (tmp_path / name / LOCK).exists()
        assert (tmp_path / name).exists() == kept
        assert not (tmp_path / name / LOCK).exists()


def test_a_lock_file_that_its_holder_deletes_is_nobody_elses(tmp_path, monkeypatch):
    """It goes between being opened and being locked: the next one would lock another file."""
    whole, calls = locking._locked, []

    def late(handle):
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        return whole(handle)

    monkeypatch.setattr(locking, "_locked", late)
    with exclusive(str(tmp_path)):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(UserError, match="Another run writes"), exclusive(str(tmp_path)):
            pass


@pytest.mark.parametrize("what", ["file", "below a file"])
def test_a_run_dir_that_is_a_file_is_refused(tmp_path, what):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" if what == "file" else tmp_path / "file" / "run"
    with (
        pytest.raises(UserError, match=r"run_dir .*file.* cannot be written.*another run_dir"),
        exclusive(str(path)),
    ):
        pass
