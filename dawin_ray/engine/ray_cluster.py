"""The Ray that a run joins or starts."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psutil

from dawin_ray.engine.compute import Resources, Say
from dawin_ray.engine.ray_address import ask_once, check_answers
from dawin_ray.engine.ray_metrics import RayMetrics
from dawin_ray.engine.ray_start import (
    end_processes,
    handler_of_sigterm_put_back,
    keep_private,
    leave_broken,
    name_of,
    start,
)
from dawin_ray.errors import RayLostError
from dawin_ray.metrics import drift_figures
from dawin_ray.names import printable
from dawin_ray.statistics import DriftReport
from dawin_ray.stopping import before_leaving, undisturbed

# Ray collects metrics every 10 s; as long again for whoever reads them there.
METRICS_SECONDS = 20.0

# Ray ends a driver whose control store is silent for 60 s, without a word.
WATCH_SECONDS, SILENCE_SECONDS = 2.0, 40.0

# The main thread may be in a call of Ray's that no signal interrupts.
PATIENCE_SECONDS = 10.0

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
        keep_private()
    import ray
    import ray.data

    # Ray Data announces every execution, and every exception that it raises besides
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    own = address is None
    if address is not None:
        check_answers(address)
    if own:
        before_leaving.append(end_processes)
    try:
        with handler_of_sigterm_put_back():
            start(address, say)
            with _used(own):
                yield
    finally:
        if own:
            before_leaving.remove(end_processes)


@contextmanager
def _used(own: bool) -> Iterator[None]:
    """Ray is watched in the block, and left behind it."""
    import ray

    broken = False
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
                leave_broken()
                if own:
                    end_processes()
            else:
                _wait_for(t for t in threading.enumerate() if t.name.startswith(OF_RAY_DATA))
                ray.shutdown()


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
        self.processes = {child.name(): child for child in children if name_of(child) in OF_RAY}

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
        end_processes()
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


def publish_drift(drift: Mapping[str, DriftReport], on: Resources) -> None:
    """Show drift as Ray metrics of this driver: value, threshold and alarm of each statistic.

    A driver's gauges go with it, so on a cluster that was joined they are held for METRICS_SECONDS.
    """
    RayMetrics().show(drift_figures(drift))
    if on.joined:
        time.sleep(METRICS_SECONDS)
