"""How long a run takes, and how it tells a person: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from dawin_ray.attempts import loading
from dawin_ray.data import ChunkSummary
from dawin_ray.engine import Resources, Say
from dawin_ray.names import printable
from dawin_ray.passes import LABELS

LINE_SECONDS = 10.0  # between plain lines

FIRST_LINE_SECONDS = 2.0  # of a step that lasts

ASK_SECONDS = 1.0  # between two looks at what workers tell

# Two questions to workers may still be under way: Ray ends a process without a word that asks it
# something while it is shut down.
LEAVE_SECONDS = 12.0

# The pace that a forecast goes by is that of the last minute, or of as many chunks at least.
WINDOW_SECONDS, WINDOW_CHUNKS = 60.0, 8

logger = logging.getLogger(__name__)


@contextmanager
def step(say: Say, what: str) -> Iterator[Callable[[str], None]]:
    """A line with the time that a step took, and lines while it lasts; its value adds to them.

    Where the step fails there is no line: the error says more.
    """
    begin, done = time.monotonic(), threading.Event()
    found: list[str] = []

    def line(end: str) -> str:
        return f"{', '.join([what, *found])}: {time.monotonic() - begin:.1f} s{end}"

    def tell() -> None:
        pause = FIRST_LINE_SECONDS
        while not done.wait(pause):
            say(line(" so far"))
            pause = LINE_SECONDS

    with beside(tell, done):
        yield found.append
    say(line(""))


@contextmanager
def beside(work: Callable[[], None], done: threading.Event) -> Iterator[None]:
    """Runs `work` in a thread until `done`, which is set behind the block."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=LEAVE_SECONDS)


@contextmanager
def told(on: Resources, say: Say, label: str, stage: str) -> Iterator[Callable[[], None]]:
    """Shows what workers tell while a pass runs, and until its first chunk what is waited for.

    Its value is called when the first chunk is there.
    """
    tries, all_of_them = on.tries, f"{on.actors:,} model actor{'s' if on.actors > 1 else ''}"
    begin, first, done = time.monotonic(), threading.Event(), threading.Event()

    def look(last: float) -> float:
        for line in tries.told():
            say(f"{label}: {line}")
        if first.is_set() or done.is_set() or time.monotonic() - last < LINE_SECONDS:
            return last
        loaded, scored, total = tries.state(loading(stage), stage)
        if total:
            words = f"{scored:,} of {total:,} images of the first chunks are scored"
        elif loaded:
            words = (
                f"{min(loaded, on.actors):,} of {all_of_them} loaded; waiting for the first chunk "
                "to be read and scored"
            )
        else:
            words = f"waiting for {all_of_them} to be placed and load their models"
        say(f"{label}: {words}, {time.monotonic() - begin:.0f} s")
        return time.monotonic()

    def work() -> None:
        last, ended = begin, False
        while not ended:
            ended = done.wait(ASK_SECONDS)
            try:
                last = look(last)
            except Exception:
                logger.debug("the workers of %s cannot be asked", stage, exc_info=True)

    with beside(work, done):
        yield first.set


class Forecast:
    """How much is left of some work, from the pace of late; the start of workers is no part of it.

    Work is in images where they are counted, else in bytes.
    """

    def __init__(self, total: float):
        """`total` is all the work."""
        self.total, self.done = total, 0.0
        self.window: deque[tuple[float, float]] = deque()  # when, and how much was done by then

    def add(self, work: float, now: float, seconds: float) -> None:
        """Count a chunk that is done now and took so long."""
        if not self.window:
            self.window.append((now - seconds, 0.0))
        self.done += work
        self.window.append((now, self.done))
        while len(self.window) > WINDOW_CHUNKS and now - self.window[0][0] > WINDOW_SECONDS:
            self.window.popleft()

    @property
    def share(self) -> float:
        """What is done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        """None before anything is done."""
        if len(self.window) < 2:
            return None
        (since, before), (now, done) = self.window[0], self.window[-1]
        if done <= before or now <= since:
            return None
        return max(self.total - done, 0.0) * (now - since) / (done - before)


class ConsoleProgress:
    """Bars on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, console: Console | None = None):
        """Writes to this console, or to stderr (below its cell in a notebook)."""
        self.console = console or Console(stderr=True)

    def say(self, message: str) -> None:
        """One line for a person, whatever the names in it hold."""
        self.console.print(
            printable(message), highlight=False, soft_wrap=True, markup=False, emoji=False
        )

    @contextmanager
    def phase(self, name: str, total: float) -> Iterator[Callable[[ChunkSummary], None]]:
        """Shows a phase while it runs; its value takes each chunk's summary.

        `total` is the sum of the summaries' `work` (their `bytes`, where they have none).
        """
        label, begin = LABELS.get(name, name), time.monotonic()
        done, forecast = {"rows": 0, "rejects": 0}, Forecast(total)

        def count(chunk: ChunkSummary) -> None:
            done["rows"] += chunk.rows
            done["rejects"] += chunk.rejects
            work = chunk.bytes if chunk.work is None else chunk.work
            forecast.add(work, time.monotonic(), chunk.seconds)

        def left() -> str:
            seconds = forecast.seconds_left
            return "" if seconds is None else f"{duration(seconds)} left"

        def line(prefix: str) -> str:
            seconds = time.monotonic() - begin
            return (
                f"{label}: {prefix}{done['rows']:,} images, {done['rejects']:,} rejects, "
                f"{done['rows'] / max(seconds, 1e-9):,.0f} images/s, {seconds:.0f} s"
            )

        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(label, total=1.0, note="starting workers")

                def advance(chunk: ChunkSummary) -> None:
                    count(chunk)
                    rate = done["rows"] / max(time.monotonic() - begin, 1e-9)
                    note = f"{done['rows']:,} images, {rate:,.0f}/s, {left()}"
                    bar.update(task, completed=forecast.share, note=note.rstrip(", "))

                yield advance
        else:
            last = begin

            def advance(chunk: ChunkSummary) -> None:
                nonlocal last
                count(chunk)
                if time.monotonic() - last >= LINE_SECONDS:
                    last = time.monotonic()
                    self.say(f"{line(f'{100 * forecast.share:.0f} %, ')}, {left()}".rstrip(", "))

            yield advance
        self.say(line("done, "))


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, few with a decimal; then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.1f} min" if minutes < 20 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"
