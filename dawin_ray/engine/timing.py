"""TODO: engine.timing (of progress)."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any


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
