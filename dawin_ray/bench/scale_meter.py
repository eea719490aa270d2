"""What each phase of a job costs: CPU, wall, requests, bytes and memory, of driver and tasks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import psutil

from dawin_ray.bench.scale_proxy import (
    BYTES,
    DOORS,
    KINDS,
    REQUESTS,
    WAITED,
    Counts,
    Who,
    difference,
)  # fmt: skip

SAMPLING_SECONDS = 0.05  # between two looks at the driver's memory

REST = "the rest"

# What follows a function and is none itself.
BEHIND = {"manifest_of": "manifest, work removed"}

Look = Callable[[], Counts]


@dataclass(kw_only=True)
class Cost:
    """Of a phase."""

    cpu: float = 0.0  # seconds of the driver, all its threads
    wall: float = 0.0
    idle: float = 0.0  # seconds in which the driver waited for tasks
    tasks: int = 0
    task_cpu: float = 0.0  # seconds in tasks
    task_peak: float = 0.0  # resident bytes of the largest task's process
    peak: float = 0.0  # resident bytes of the driver
    counts: dict[Who, dict[str, int]] = field(
        default_factory=lambda: {who: dict.fromkeys(KINDS, 0) for who in DOORS}
    )

    def requests(self, who: Who) -> int:
        """All kinds together."""
        return sum(self.counts[who][kind] for kind in REQUESTS)

    @property
    def bytes(self) -> int:
        """Sent and received, by driver and tasks."""
        return sum(self.counts[who][kind] for who in DOORS for kind in BYTES)

    @property
    def waited(self) -> float:
        """Seconds in which the driver had requests under way and did not wait for tasks."""
        return min(1e-6 * self.counts["driver"][WAITED], max(self.wall - self.idle, 0.0))


class Meter:
    """Attributes what a job costs to its phases; one is under way at any time."""

    def __init__(self, look: Look):
        """`look` gives what was requested so far."""
        self.look = look
        self.phases: dict[str, Cost] = {}
        self.under_way, self.gap, self.depth = REST, REST, 0
        self.cpu, self.wall, self.counts = time.process_time(), time.perf_counter(), look()

    def switch(self, name: str) -> None:
        """From here on it is another phase."""
        cpu, wall, counts = time.process_time(), time.perf_counter(), self.look()
        cost = self.of(self.under_way)
        cost.cpu += cpu - self.cpu
        cost.wall += wall - self.wall
        for who, of_who in difference(counts, self.counts).items():
            for kind, count in of_who.items():
                cost.counts[who][kind] += count
        self.under_way, self.cpu, self.wall, self.counts = name, cpu, wall, counts

    def of(self, name: str) -> Cost:
        """The cost of a phase so far."""
        return self.phases.setdefault(name, Cost())

    def between(self, name: str) -> None:
        """What is not within any function that is watched goes by this name from here on."""
        self.gap = name
        if not self.depth:
            self.switch(name)

    def add_task(self, cpu: float, peak: float, idle: float) -> None:
        """A task of the phase under way has ended, for which the driver waited `idle` seconds."""
        cost = self.of(self.under_way)
        cost.tasks += 1
        cost.idle += idle
        cost.task_cpu += cpu
        cost.task_peak = max(cost.task_peak, peak)

    def watched(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, whose calls are a phase; within another one they are that one's."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.depth:
                self.switch(name)
            self.depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.gap = BEHIND.get(name, REST)
                if not self.depth:
                    self.switch(self.gap)

        return call

    def watch(self, module: str) -> None:
        """Make a phase of each function that a module takes from elsewhere, in this process."""
        import_module(module)
        names = vars(sys.modules[module])
        for name, value in list(names.items()):
            if isinstance(value, FunctionType) and value.__module__ != module:
                names[name] = self.watched(value, name)

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Looks at the driver's memory again and again."""
        done, process = threading.Event(), psutil.Process()

        def look() -> None:
            while not done.wait(SAMPLING_SECONDS):
                cost = self.of(self.under_way)
                cost.peak = max(cost.peak, process.memory_info().rss)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def rows(self) -> dict[str, dict[str, Any]]:
        """All costs as plain values, with the sums of requests."""
        self.switch(REST)
        return {
            name: asdict(cost)
            | {f"{who}_requests": cost.requests(who) for who in DOORS}
            | {"bytes": cost.bytes, "waited": cost.waited}
            for name, cost in self.phases.items()
        }


def reset_peak() -> None:
    """Forget this process's peak of memory."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Most bytes that were resident in this process since the last `reset_peak`."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])
