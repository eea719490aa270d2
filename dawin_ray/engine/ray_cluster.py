"""The Ray that a run joins or starts."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from dawin_ray.attempts import nth
from dawin_ray.engine.compute import Resources, Say
from dawin_ray.engine.ray_address import ask_once, check_answers, not_joined
from dawin_ray.engine.ray_metrics import RayMetrics
from dawin_ray.errors import RayLostError, UserError
from dawin_ray.metrics import drift_figures
from dawin_ray.names import first_line, printable
from dawin_ray.statistics import DriftReport
from dawin_ray.stopping import before_leaving, undisturbed

# Ray collects metrics every 10 s; as long again for whoever reads them there.
METRICS_SECONDS = 20.0

# A busy machine may take longer than Ray waits for its processes to start.
STARTS, PAUSE_SECONDS = 3, 10.0

TOKEN_BYTES = 32

# Binds every port of a new Ray to 127.0.0.1; read when Ray is imported, as its token's mode is.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# Ray ends a driver whose control store is silent for 60 s, without a word.
WATCH_SECONDS, SILENCE_SECONDS = 2.0, 40.0

# The main thread may be in a call of Ray's that no signal interrupts.
PATIENCE_SECONDS = 10.0

LEAVING_SECONDS = 20.0

OF_RAY = ("gcs_server", "raylet")

# Names of Ray Data's threads. One that asks a Ray which is being shut down ends this process, with
# exit code 1 and without a word, or starts another Ray; Ray Data waits 2 s for its own.
OF_RAY_DATA = ("StreamingExecutor", "ray-data", "iter_threaded")

THREADS_SECONDS = 12.0  # that they may take, in all

logger = logging.getLogger(__name__)


@contextmanager
def ray_session(address: str | None, say: Say | None = None) -> Iterator[None]:
    """Join a cluster, or start a local Ray that nothing outside this machine can reach.

    A Ray that the process has joined already is used, and left as it is. `say` takes a line for a
    person where a start has to be tried again.

    Raises:
        UserError: there is no cluster at the address, or a local Ray does not start.
        RayLostError: Ray's own processes die while it is in use.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call an outside server
    # its C++ side writes warnings of no use to a person straight to the terminal
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is not None:
        ask_once()
    else:
        _check_not_imported()
        os.environ |= LOOPBACK
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Rays before 2.60 want none by default
        keep_token_private(Path("~/.ray/auth_token").expanduser())
    import ray
    import ray.data

    # Ray Data announces every execution, and every exception that it raises besides
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    if address is not None:
        check_answers(address)
    with _own_handler_of_sigterm():
        _init(address, say)
    broken, own = False, address is None
    if own:
        before_leaving.append(_end_processes)
    try:
        with _watch(own) as watch:
            yield
    except RayLostError:
        broken = True
        raise
    except KeyboardInterrupt:
        if watch.lost is None:
            raise
        broken = True
        raise watch.error() from None
    finally:
        with undisturbed():
            if broken:
                _abandon()
            else:
                _wait_for(t for t in threading.enumerate() if t.name.startswith(OF_RAY_DATA))
                ray.shutdown()
            if own:
                before_leaving.remove(_end_processes)


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


def _init(address: str | None, say: Say | None) -> None:
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            with _without_stderr():  # on which Ray says that it heeds RAY_BACKEND_LOG_LEVEL
                ray.init(
                    address=address or "local",
                    include_dashboard=False if address is None else None,
                    num_cpus=_own_cpus() if address is None else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:  # a start that takes too long is a plain Exception
            with _without_stderr():
                ray.shutdown()  # what it has started by now
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
def _own_handler_of_sigterm() -> Iterator[None]:
    """Keeps the handler of SIGTERM, which Ray would replace with an exit without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if not callable(before) or error.code != signal.SIGTERM:
            raise
        # of Ray's handler: Ray had set it, and this one was not back yet
        before(signal.SIGTERM, None)
    finally:
        # without a handler of this program's, Ray's own is better than a default that ends it
        if callable(before):
            signal.signal(signal.SIGTERM, before)


class _Watch:
    """Interrupts the main thread when Ray's own processes are gone.

    Ray would wait for them for a minute, and then end this process from C++ without a word.
    """

    def __init__(self, own: bool):
        """With `own`, Ray was started by this process."""
        self.own = own
        self.lost: str | None = None  # set by another thread
        self.main = threading.get_ident()  # made by the thread that waits for Ray
        self.done = threading.Event()
        self.answers = 0  # of the cluster's control store
        children = psutil.Process().children() if own else []
        self.processes = {child.name(): child for child in children if _name_of(child) in OF_RAY}

    def ask(self) -> None:
        """Keeps asking the cluster's control store for its nodes."""
        import ray

        while not self.done.wait(WATCH_SECONDS):
            try:
                ray.nodes()
            except Exception:  # whatever it is, it is no answer
                logger.debug("Ray's control store does not answer", exc_info=True)
                continue
            self.answers += 1

    def look(self) -> None:
        """Looks at Ray's processes on this machine, and whether there are answers."""
        silent, answers = 0, 0
        while not self.done.wait(WATCH_SECONDS):
            silent, answers = (0 if self.answers > answers else silent + 1), self.answers
            gone = [name for name, process in self.processes.items() if not _runs(process)]
            if gone:
                self.lost = f"its process {gone[0]} on this machine has died"
            elif silent * WATCH_SECONDS >= SILENCE_SECONDS:
                self.lost = f"its control store (GCS) has not answered for {SILENCE_SECONDS:g} s"
            if self.lost is not None and not self.done.is_set():
                signal.pthread_kill(self.main, signal.SIGINT)
                if not self.done.wait(PATIENCE_SECONDS):
                    self.leave()
                return

    def error(self) -> RayLostError:
        """What has happened, and what to do."""
        again = "with more memory where that was short" if self.own else "once it is up"
        return RayLostError(
            f"Ray has broken down: {self.lost}. The work done is kept: start the same command "
            f"again, {again}."
        )

    def leave(self) -> None:
        """End this process with the message, from the thread that can still say it."""
        error = self.error()
        _end_processes()
        os.write(2, f"Error: {printable(str(error))}\n".encode(errors="backslashreplace"))
        os._exit(error.exit_code)


@contextmanager
def _watch(own: bool) -> Iterator[_Watch]:
    watch = _Watch(own)
    threads = [threading.Thread(target=work, daemon=True) for work in (watch.ask, watch.look)]
    if threading.current_thread() is not threading.main_thread():
        threads = []
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        watch.done.set()
        if watch.lost is None:  # else it may be one of them that waits for this one
            _wait_for(threads)


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    deadline = time.monotonic() + THREADS_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            logger.debug("the thread %s goes on", thread.name)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _abandon() -> None:
    """Leave a broken Ray, and end what is left of it on this machine."""
    import ray

    with _without_stderr():  # on which its C++ side would tell of each thing that it misses
        leaving = threading.Thread(target=ray.shutdown, daemon=True)
        leaving.start()
        leaving.join(LEAVING_SECONDS)
    _end_processes()


def _end_processes() -> None:
    """End what is left of Ray below this process."""
    names = (*OF_RAY, "ray::")
    children = psutil.Process().children(recursive=True)
    left = [child for child in children if _name_of(child).startswith(names)]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)


def _name_of(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


@contextmanager
def _without_stderr() -> Iterator[None]:
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


def publish_drift(drift: Mapping[str, DriftReport], on: Resources) -> None:
    """Show drift as Ray metrics of this driver: value, threshold and alarm of each statistic.

    A driver's gauges go with it, so on a cluster that was joined they are held for METRICS_SECONDS.
    """
    RayMetrics().show(drift_figures(drift))
    if on.joined:
        time.sleep(METRICS_SECONDS)
