"""Counts what a run does while it goes, and tells it to sinks: once a second, and when it changes.

A chunk costs the driver a few additions; all else is by second, whatever the number of chunks. What
is counted, and by which labels, is in `metrics.METRICS`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dawin_ray.attempts import UNCOUNTED, Tries
from dawin_ray.data import ChunkSummary
from dawin_ray.errors import UserError
from dawin_ray.job.progress import WINDOW_SECONDS, Forecast, beside
from dawin_ray.job.running import Advance, Progress
from dawin_ray.metrics import (
    MOST_VALUES,
    OTHER,
    PHASES,
    PREFIX,
    Event,
    EventKind,
    Figures,
    Sink,
    Values,
    drift_figures,
    label,
    run_label,
)
from dawin_ray.names import first_line, printable
from dawin_ray.statistics import DriftReport

TELL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class _Sums:
    """Of a data set or of an actor, in a pass."""

    __slots__ = (
        "bytes", "chunks", "decode_seconds", "merges", "model_seconds", "read_seconds", "rejects",
        "rows", "storage_retries", "wait_seconds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rows = self.rejects = self.bytes = self.chunks = self.merges = 0
        self.storage_retries = 0
        self.model_seconds = self.wait_seconds = self.read_seconds = self.decode_seconds = 0.0

    @property
    def reject_ratio(self) -> float:
        return self.rejects / max(self.rows + self.rejects, 1)


OF_ACTOR = ("rows", "model_seconds", "wait_seconds")


class _Counted:
    """One pass so far."""

    def __init__(self, total: float):
        """`total` is its work, see `Forecast`."""
        self.forecast, self.is_over = Forecast(total), False
        self.by_set: dict[str, _Sums] = {}  # by label
        self.by_actor: dict[Values, _Sums] = {}  # by labels: its node, and which one it is
        self.of_set: dict[str, _Sums] = {}  # the same, by names in summaries
        self.of_actor: dict[str, _Sums] = {}
        self.rows = 0
        self.window: deque[tuple[float, int]] = deque()  # when, and rows by then

    def add(self, chunk: ChunkSummary, now: float) -> None:
        """Count a chunk."""
        seconds = chunk.done - chunk.begun
        if not self.window:
            self.window.append((now - seconds, 0))
        self.forecast.add(chunk.bytes if chunk.work is None else chunk.work, now, seconds)
        self.rows += chunk.rows
        sums = self.of_set.get(chunk.dataset) or self._set(chunk.dataset)
        sums.rows += chunk.rows
        sums.rejects += chunk.rejects
        sums.bytes += chunk.bytes
        sums.chunks += 1
        sums.merges += chunk.merges
        sums.model_seconds += seconds
        sums.wait_seconds += chunk.wait_seconds
        sums.read_seconds += chunk.read_seconds
        sums.decode_seconds += chunk.decode_seconds
        sums.storage_retries += chunk.storage_retries
        if chunk.actor:
            sums = self.of_actor.get(chunk.actor) or self._actor(chunk.actor)
            sums.rows += chunk.rows
            sums.model_seconds += seconds
            sums.wait_seconds += chunk.wait_seconds

    def _set(self, dataset: str) -> _Sums:
        name = label(dataset) if len(self.by_set) < MOST_VALUES - 1 else OTHER
        self.of_set[dataset] = found = self.by_set.setdefault(name, _Sums())
        return found

    def _actor(self, actor: str) -> _Sums:
        """Actors are numbered as they come; each that dies has another in its place."""
        values: Values = (label(actor.rpartition("/")[0]), str(len(self.by_actor)))
        if len(self.by_actor) >= MOST_VALUES - 1:
            values = (OTHER, OTHER)
        self.of_actor[actor] = found = self.by_actor.setdefault(values, _Sums())
        return found

    def images_per_second(self, now: float) -> float:
        """Of the last minute."""
        if self.is_over or not self.window:
            return 0.0
        self.window.append((now, self.rows))
        while len(self.window) > 2 and now - self.window[1][0] > WINDOW_SECONDS:
            self.window.popleft()
        since, before = self.window[0]
        return (self.rows - before) / max(now - since, 1e-9)


class Meter:
    """What a run has done so far, and who is shown it."""

    def __init__(self, run_dir: str, sinks: Sequence[Sink] = ()):
        """Of the last name of `run_dir` alone, which may lie anywhere."""
        self.run, self.sinks = run_label(run_dir), list(sinks)
        self.at, self.moved = PHASES[0], time.time()
        self.passes: dict[str, _Counted] = {}
        self.tries, self.retries = UNCOUNTED, dict[str, int]()
        self.telling, self.asking = threading.RLock(), threading.Lock()

    def enter(self, phase: str) -> None:
        """The run is at another of PHASES from now on."""
        self.at, self.moved = phase, time.time()
        self.tell("phase", self.figures())

    @contextmanager
    def phase(self, name: str, total: float) -> Iterator[Advance]:
        """A pass; see `running.Progress`."""
        self.passes[name] = counted = _Counted(total)
        self.enter(name)

        def advance(chunk: ChunkSummary) -> None:
            self.moved = now = time.time()
            if chunk.end is None:
                counted.add(chunk, now)

        yield advance
        counted.is_over = True

    def say(self, message: str) -> None:
        """One line for a person."""
        self.tell("message", message=message)

    def drifted(self, drift: Mapping[str, DriftReport]) -> None:
        """Drift was judged."""
        self.tell("drift", drift_figures(drift))

    @contextmanager
    def shown(self, sink: Sink | None, tries: Tries) -> Iterator[None]:
        """One more sink while an engine's session lasts, whose workers count their tries."""
        added = [] if sink is None else [sink]
        self.tries = tries
        with self.telling:
            self.sinks += added
        try:
            yield
            self.ask()
            self.tell("progress", self.figures())
        finally:
            with self.asking:  # nobody may ask a Ray that has ended: that would start another
                self.tries = UNCOUNTED
            with self.telling:
                self.sinks = [kept for kept in self.sinks if kept not in added]

    def ask(self) -> None:
        """Ask how often work was begun again."""
        with self.asking:
            try:
                self.retries |= self.tries.retries()
            except Exception:
                logger.debug("the workers cannot be asked", exc_info=True)

    def keep_telling(self, done: threading.Event) -> None:
        """Tell the figures every second until `done`."""
        while not done.wait(TELL_SECONDS):
            self.ask()
            self.tell("progress", self.figures())

    def tell(self, kind: EventKind, figures: Figures | None = None, message: str = "") -> None:
        """Tell all sinks. One that fails is left out from then on: no run ends by its figures."""
        with self.telling:
            event = Event(
                kind=kind, time=time.time(), run=self.run, phase=self.at, figures=figures or {},
                message=printable(message),
            )  # fmt: skip
            for sink in list(self.sinks):
                try:
                    sink(event)
                except Exception as error:  # noqa: BLE001  (whatever it is, the run goes on)
                    self.sinks.remove(sink)
                    logger.warning("figures of the run are told no more: %s", first_line(error))

    def figures(self) -> Figures:
        """All there are, but for drift's."""
        with self.telling:
            found: dict[str, dict[Values, float]] = {}

            def put(name: str, value: float, *values: str) -> None:
                found.setdefault(PREFIX + name, {})[(self.run, *values)] = value

            for name, counted in list(self.passes.items()):
                _put_pass(put, name, counted)
            for work, count in self.retries.items():
                put("retries_total", count, work)
            for phase in PHASES:
                put("phase", int(phase == self.at), phase)
            put("progress_timestamp_seconds", self.moved)
            return found


def _put_pass(put: Callable[..., None], name: str, counted: _Counted) -> None:
    left = 0.0 if counted.is_over else counted.forecast.seconds_left
    put("images_per_second", counted.images_per_second(time.time()), name)
    put("progress_ratio", 1.0 if counted.is_over else counted.forecast.share, name)
    if left is not None:
        put("left_seconds", left, name)
    for dataset, sums in list(counted.by_set.items()):
        put("reject_ratio", sums.reject_ratio, name, dataset)
        for key in _Sums.__slots__:
            put(f"{key}_total", getattr(sums, key), name, dataset)
    for actor, sums in list(counted.by_actor.items()):
        for key in OF_ACTOR:
            put(f"actor_{key}_total", getattr(sums, key), name, *actor)


@contextmanager
def metered(run_dir: str, sinks: Sequence[Sink] = ()) -> Iterator[Meter]:
    """A meter of a run from here to its end, whatever that is."""
    meter, done = Meter(run_dir, sinks), threading.Event()
    meter.tell("start")
    try:
        with beside(lambda: meter.keep_telling(done), done):
            yield meter
    except BaseException as error:
        meter.at = "failed" if isinstance(error, Exception) else "stopped"
        why = str(error) if isinstance(error, UserError) else first_line(error)
        meter.tell("end", meter.figures(), why)
        raise
    meter.at = "done"
    meter.tell("end", meter.figures())


class Metered:
    """A `Progress` that a meter follows."""

    def __init__(self, progress: Progress, meter: Meter):
        """Whoever tells a person comes first."""
        self.progress, self.meter = progress, meter

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Advance]:
        """See `Progress`."""
        with self.progress.phase(name, total) as show, self.meter.phase(name, total) as count:

            def advance(chunk: ChunkSummary) -> None:
                show(chunk)
                count(chunk)

            yield advance

    def say(self, message: str) -> None:
        """See `Progress`."""
        self.progress.say(message)
        self.meter.say(message)
