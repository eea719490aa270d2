"""One run at a time in a run directory.

On a local file system the lock is the operating system's (`flock`) and ends with the process,
however it ends. Elsewhere it is a lease: an object that its owner renews, and that others may take
over once it has not been renewed for a while.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, is_local, join, write_whole

LOCK = ".lock"
RENEWAL_SECONDS = 20.0
# A lease that is older than this is its dead owner's. Several renewals may fail before.
LEASE_SECONDS = 120.0
# Between taking a lease and believing it: whoever took it at the same time has written by then.
SETTLE_SECONDS = 2.0


@contextmanager
def exclusive(run_dir: str) -> Iterator[None]:
    """Hold the run directory's lock.

    Raises:
        UserError: another run holds it; the message says which.
    """
    fs, root = filesystem(run_dir, "run_dir")
    owner = {
        "host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T %z"),
        "id": uuid.uuid4().hex,
    }  # fmt: skip
    if is_local(fs):
        with _flock(Path(root), owner, run_dir):
            yield
    else:
        with _lease(fs, join(root, LOCK), owner, run_dir):
            yield


def _taken(run_dir: str, owner: dict[str, Any]) -> UserError:
    return UserError(
        f"Another run writes to the run_dir {run_dir!r}: process {owner.get('pid', 'unknown')} on "
        f"{owner.get('host', 'an unknown host')}, since {owner.get('since', 'an unknown time')}. "
        "Wait for it or stop it, or give another run_dir."
    )


@contextmanager
def _flock(root: Path, owner: dict[str, Any], run_dir: str) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = open(root / LOCK, "a+")  # noqa: SIM115  (closed below: the lock is the handle's)
    except OSError as error:
        raise UserError(
            f"The run_dir {run_dir!r} cannot be written: {error}. Give another run_dir."
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            raise _taken(run_dir, _parsed(handle.read())) from error
        handle.truncate(0)
        handle.write(json.dumps(owner))
        handle.flush()
        yield
    finally:
        handle.close()


@contextmanager
def _lease(fs: Any, path: str, owner: dict[str, Any], run_dir: str) -> Iterator[None]:
    def write() -> None:
        write_whole(fs, path, json.dumps(owner | {"renewed": time.time()}).encode())

    def holder() -> dict[str, Any]:
        try:
            fs.invalidate_cache()
            return _parsed(fs.cat_file(path).decode())
        except FileNotFoundError:
            return {}

    found = holder()
    if time.time() - found.get("renewed", 0) < LEASE_SECONDS:
        raise _taken(run_dir, found)
    write()
    time.sleep(SETTLE_SECONDS)
    if (found := holder()).get("id") != owner["id"]:
        raise _taken(run_dir, found)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEWAL_SECONDS):
            try:
                write()
            except UserError:
                continue  # tried again at the next renewal; the lease lasts for several

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if holder().get("id") == owner["id"]:
            fs.rm_file(path)


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
