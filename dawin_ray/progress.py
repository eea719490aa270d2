"""How long a run takes, and how it tells a person: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # between plain lines

PHASES = {
    "experts": "pass 1, experts",
    "merged": "pass 2, merged models",
    "exact": "pass 2, exact models",
    "at_once": "one pass, experts and interpolated models",
}


class Timing:
    """Wall time of a pass, and what its actors did in it."""

    def __init__(self) -> None:
        """Starts the clock."""
        self.begin, self.wall = time.perf_counter(), 0.0
        self.rows, self.rejects, self.seconds = Counter(), Counter(), Counter()
        self.merges = 0
        self.first, self.last = math.inf, -math.inf  # when the actors began and ended

    @classmethod
    def of(cls, timings: dict[str, Timing], name: str) -> Timing:
        """A timing, entered under its name."""
        return timings.setdefault(name, cls())

    def __enter__(self) -> Timing:
        """The timing itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the clock."""
        self.wall = time.perf_counter() - self.begin

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Count a chunk's summary."""
        self.rows[chunk["dataset"]] += int(chunk["rows"])
        self.rejects[chunk["dataset"]] += int(chunk["rejects"])
        self.seconds[chunk["dataset"]] += float(chunk["done"] - chunk["begun"])
        if chunk["chunk"]:
            self.first = min(self.first, float(chunk["begun"]))
            self.last = max(self.last, float(chunk["done"]))
        self.merges += int(chunk.get("merges", 0))

    def busy_share(self, actors: int) -> float | None:
        """Time in the models over time from the first forward to the last; None without any."""
        seconds = sum(self.seconds.values())
        return seconds / (self.last - self.first) / actors if seconds else None


class ConsoleProgress:
    """Progress in bytes of the shards, which are known before any sample is read."""

    def __init__(self, console: Console):
        """Writes to this console."""
        self.console = console

    def say(self, message: str) -> None:
        """One line for a person."""
        self.console.print(message, highlight=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str, total_bytes: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Shows a phase while it runs; its value takes each chunk's summary."""
        label, begin = PHASES[name], time.monotonic()
        done = {"rows": 0, "rejects": 0, "bytes": 0}

        def count(chunk: Mapping[str, Any]) -> None:
            for key in done:
                done[key] += int(chunk[key])

        def line(prefix: str) -> str:
            seconds = time.monotonic() - begin
            return (
                f"{label}: {prefix}{done['rows']:,} images, {done['rejects']:,} rejects, "
                f"{done['rows'] / max(seconds, 1e-9):,.0f} images/s, {seconds:.0f} s"
            )

        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
            )  # fmt: skip
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(label, total=total_bytes or 1, note="starting workers")

                def advance(chunk: Mapping[str, Any]) -> None:
                    count(chunk)
                    rate = done["rows"] / max(time.monotonic() - begin, 1e-9)
                    note = f"{done['rows']:,} images, {rate:,.0f}/s"
                    bar.update(task, advance=int(chunk["bytes"]), note=note)

                yield advance
        else:
            last = begin

            def advance(chunk: Mapping[str, Any]) -> None:
                nonlocal last
                count(chunk)
                if time.monotonic() - last >= LINE_SECONDS:
                    last = time.monotonic()
                    share = min(max(done["bytes"] / max(total_bytes, 1), 1e-9), 1)
                    left = (last - begin) * (1 / share - 1)
                    self.say(line(f"{100 * share:.0f} %, ") + f", {left:.0f} s left")

            yield advance
        self.say(line("done, "))
