"""How long a pass took, and how much of that its workers scored."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict

from dawin_ray.data import ChunkSummary


class Timing:
    """Wall time of a pass, and what its workers did in it."""

    def __init__(self) -> None:
        """Starts the clock."""
        self.begin, self.wall = time.perf_counter(), 0.0
        self.rows: Counter[str] = Counter()  # by data set, as the next two
        self.rejects: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.merges = 0
        self.first, self.last = math.inf, -math.inf  # when the workers began and ended
        self.spans: dict[str, tuple[float, float]] = {}  # the same of each actor, by its clock

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

    def add(self, chunk: ChunkSummary) -> None:
        """Count a chunk's summary."""
        self.rows[chunk.dataset] += chunk.rows
        self.rejects[chunk.dataset] += chunk.rejects
        self.seconds[chunk.dataset] += chunk.seconds
        if chunk.chunk:
            self.first = min(self.first, chunk.begun)
            self.last = max(self.last, chunk.done)
            first, last = self.spans.get(chunk.actor, (chunk.begun, chunk.done))
            self.spans[chunk.actor] = min(first, chunk.begun), max(last, chunk.done)
        self.merges += chunk.merges

    @property
    def mean_actors(self) -> float:
        """How many actors there were, on average from the first forward to the last; 1 of none.

        An actor counts from its first forward to its last: those of a pool come and go.
        """
        there = sum(last - first for first, last in self.spans.values())
        return there / (self.last - self.first) if there else 1.0

    def busy_share(self, actors: int | None) -> float | None:
        """Time in the models over time from the first forward to the last.

        None without any, or where the number of actors is None as it moved.
        """
        seconds = sum(self.seconds.values())
        return seconds / (self.last - self.first) / actors if seconds and actors else None
