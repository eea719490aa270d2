"""How Ray is joined or started: whole, or not at all."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from dawin_ray.attempts import nth
from dawin_ray.engine.compute import Say
from dawin_ray.engine.ray_address import not_joined
from dawin_ray.errors import UserError
from dawin_ray.names import first_line
from dawin_ray.stopping import undisturbed

# A busy machine may take longer than Ray waits for its processes to start.
STARTS, PAUSE_SECONDS = 3, 10.0

TOKEN_BYTES = 32

# Binds every port of a new Ray to 127.0.0.1; read when Ray is imported, as its token's mode is.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

LEAVING_SECONDS = 20.0

logger = logging.getLogger(__name__)


def keep_private() -> None:
    """What this process starts as a Ray is for this machine and this user; before Ray's import.

    Raises:
        UserError: Ray was imported too early for that.
    """
    _check_not_imported()
    os.environ |= LOOPBACK
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Rays before 2.60 want none by default
    keep_token_private(Path("~/.ray/auth_token").expanduser())


def _check_not_imported() -> None:
    """Raises a UserError where a Ray would be open to others, as it was imported too early."""
    imported = sys.modules.get("ray")
    if imported is None or LOOPBACK.items() <= os.environ.items() or imported.is_initialized():
        return
    raise UserError(
        "This process imported Ray before a run could have it listen on this machine alone. Set "
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 and RAY_AUTH_MODE=token before `import ray`, import "
        "it after the first run, or call ray.init() before it: the run then uses that Ray."
    )


def start(address: str | None, say: Say | None) -> None:
    """Join the cluster, or start one on this machine; `say` is told of starts that failed.

    Raises:
        UserError: it could not be joined, or does not start.
    """
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            # on stderr Ray says that it heeds RAY_BACKEND_LOG_LEVEL
            with _whole_or_not(address is None), _own_handler_of_sigterm(), without_stderr():
                ray.init(
                    address=address or "local",
                    include_dashboard=False if address is None else None,
                    num_cpus=_own_cpus() if address is None else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:  # a start that takes too long is a plain Exception
            words = first_line(error)
            if address is not None:
                raise not_joined(address, error) from error
            if attempt == STARTS:
                raise UserError(
                    f"Ray does not start on this machine, tried {STARTS} times: {words}. It needs "
                    "some 2 GB of memory, room in /tmp and /dev/shm, and processor time: stop "
                    "what else runs here, or join a cluster with compute.address."
                ) from error
            if say is not None:
                say(
                    f"Ray did not start ({nth(attempt)} try): {words}; tried again "
                    f"in {PAUSE_SECONDS:g} s"
                )
            time.sleep(PAUSE_SECONDS)


def _own_cpus() -> int | None:
    """Cores that this process may use, where they are not all; else Ray knows of containers."""
    cores = len(os.sched_getaffinity(0))
    return cores if cores < (os.cpu_count() or cores) else None


def keep_token_private(path: Path) -> None:
    """Make the file of Ray's token before Ray does, which lets everybody read it.

    Where the token is given by other means, or the file cannot be written, nothing happens.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        # whole or not there, as another run may start at this moment
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
        try:
            os.link(new, path)
        finally:
            new.unlink()
    except FileExistsError:
        keep_token_private(path)  # the other run's
    except OSError as error:
        logger.warning("the file of Ray's token %s cannot be made private: %s", path, error)


@contextmanager
def handler_of_sigterm_put_back() -> Iterator[None]:
    """Behind the block there is no handler of Ray's left, which would outlive its Ray."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # it was set from Python
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """Keeps the handler of SIGTERM, which Ray would replace with an exit without a word."""
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):  # then Ray's own is better than a default that ends it
        yield
        return
    try:
        with handler_of_sigterm_put_back():
            yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        # of Ray's handler: Ray had set it, and this one was not back yet
        before(signal.SIGTERM, None)


@contextmanager
def _whole_or_not(own: bool) -> Iterator[None]:
    """Where the block does not come to its end, what it has begun of Ray ends with it."""
    before, done = processes_of_ray() if own else set(), False
    try:
        yield
        done = True
    finally:
        if not done:
            with undisturbed():
                leave_broken()
                if own:  # which Ray, whose start it still was, does not know of
                    end(processes_of_ray() - before)


def leave_broken() -> None:
    """Leave a Ray that does not work as it should, however long it would take for that."""
    import ray

    with without_stderr():  # on which its C++ side would tell of each thing that it misses
        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(LEAVING_SECONDS)


def processes_of_ray() -> set[psutil.Process]:
    """Those below this process that are Ray's, by what they run."""
    return {child for child in psutil.Process().children(recursive=True) if _is_of_ray(child)}


def _is_of_ray(process: psutil.Process) -> bool:
    import ray

    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    folder = os.path.join(os.path.dirname(ray.__file__), "")
    return bool(words) and (
        words[0].startswith("ray::") or any(word.startswith(folder) for word in words)
    )


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill them, and wait until they are gone."""
    left = list(processes)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)


def end_processes() -> None:
    """End what is left of Ray below this process."""
    end(processes_of_ray())


def name_of(process: psutil.Process) -> str:
    """Of a process; nothing where it is gone."""
    try:
        return str(process.name())
    except psutil.Error:
        return ""


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drops what C++ code of this process writes to stderr; exceptions pass as always."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
