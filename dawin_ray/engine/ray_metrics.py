"""What is counted while a run goes, as Ray's metrics: each node serves them to Prometheus.

Ray puts `ray_` before a name, and its own labels beside ours; `WorkerId` tells drivers apart. It
collects every 10 s, and what a driver showed last when the driver ends. A gauge that nobody sets
again is gone some 20 s later; a counter stays as long as its node.
"""

from __future__ import annotations

from typing import Any

from dawin_ray.metrics import METRICS, Event, Figures, Values, tags


class RayMetrics:
    """A `metrics.Sink`, within a process that has joined Ray."""

    def __init__(self) -> None:
        """Nothing is shown before there are figures."""
        self.made: dict[str, Any] = {}
        self.shown: dict[tuple[str, Values], float] = {}  # of counters

    def __call__(self, event: Event) -> None:
        """Show the figures of an event."""
        self.show(event.figures)

    def show(self, figures: Figures) -> None:
        """Set gauges, and raise counters to their totals."""
        for name, by_values in figures.items():
            metric, made = METRICS[name], self._made(name)
            for values, value in by_values.items():
                if metric.kind == "gauge":
                    made.set(float(value), tags=tags(metric, values))
                elif (more := value - self.shown.get((name, values), 0)) > 0:
                    made.inc(more, tags=tags(metric, values))
                    self.shown[name, values] = value

    def _made(self, name: str) -> Any:
        if name not in self.made:
            from ray.util.metrics import Counter, Gauge

            metric = METRICS[name]
            kind: Any = {"counter": Counter, "gauge": Gauge}[metric.kind]
            self.made[name] = kind(name, description=metric.text, tag_keys=metric.labels)
        return self.made[name]
