"""What is counted while a run goes: the one list of names, units and labels, and who is shown them.

`job/meter.py` counts, once for all; a `Sink` takes what was counted every second: Ray's metrics
(`engine/ray_metrics.py`, so that Prometheus finds them, with `ray_` before each name) and lines of
JSON (`job/json_log.py`). The dashboard, the alerts and the table in cluster/prometheus/ are tested
against METRICS.

Labels hold neither paths nor names of samples. A label has at most MOST_VALUES values, and each is
short and ASCII (Ray takes nothing else).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dawin_ray.names import escaped
from dawin_ray.statistics import DriftReport

PREFIX = "dawin_ray_"

# Values of a label; what comes later is counted as OTHER.
MOST_VALUES, OTHER = 256, "other"

MOST_CHARACTERS = 100  # of a label's value

# What a run is at, about in this order; where it works on chunks, the name of the pass.
PHASES = (
    "preparing", "starting", "experts", "parts", "fit", "merged", "exact", "at_once", "report",
    "done", "stopped", "failed",
)  # fmt: skip

PASSES = ("experts", "merged", "exact", "at_once")

# What was begun again because the process that did it had died.
WORK = ("loading", "reading", "scoring")

Values = tuple[str, ...]  # of a metric's labels, in its order

Figures = Mapping[str, Mapping[Values, float]]  # by names of METRICS; counters are totals so far


@dataclass(frozen=True)
class Metric:
    """A figure that is told by name, with a value for each combination of its labels."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: Values
    text: str  # what it is, with its unit


def _counted(labels: Values, **texts: str) -> dict[str, Metric]:
    """Counters, in Prometheus' way of naming them."""
    return _named("counter", labels, {f"{name}_total": text for name, text in texts.items()})


def _shown(labels: Values, **texts: str) -> dict[str, Metric]:
    return _named("gauge", labels, texts)


def _named(
    kind: Literal["counter", "gauge"], labels: Values, texts: Mapping[str, str]
) -> dict[str, Metric]:
    found = [Metric(f"{PREFIX}{name}", kind, labels, text) for name, text in texts.items()]
    return {metric.name: metric for metric in found}


METRICS = {
    **_counted(
        ("run", "pass", "dataset"),
        rows="Images scored and committed since this start of the run.",
        rejects="Samples that could not be used.",
        bytes="Bytes of shards that were read.",
        chunks="Chunks committed.",
        merges="Models merged.",
        model_seconds="Seconds in the models, over all actors.",
        wait_seconds="Seconds that actors waited for a chunk, since the one before.",
        read_seconds="Seconds that readers spent on storage, or on crops of the cache.",
        decode_seconds="Seconds that readers spent on decoding images.",
        storage_retries="Requests of workers to S3 that were sent again.",
    ),
    **_counted(
        ("run", "pass", "node", "actor"),
        actor_rows="Images that a model actor scored.",
        actor_model_seconds="Seconds of an actor in its models.",
        actor_wait_seconds="Seconds that an actor waited for chunks.",
    ),
    **_counted(("run", "work"), retries="What was begun again, as the process that did it died."),
    **_shown(
        ("run", "pass"),
        images_per_second="Images scored a second, of the last minute.",
        progress_ratio="What is done of the work that a pass had at this start, 0 to 1.",
        left_seconds="Seconds that are left of a pass, by its pace of late.",
    ),
    **_shown(("run", "pass", "dataset"), reject_ratio="Rejects over samples, 0 to 1."),
    **_shown(("run", "phase"), phase="1 for what the run is at, 0 for all else."),
    **_shown(
        ("run",),
        progress_timestamp_seconds="When the last chunk came, or the phase: seconds since 1970.",
    ),
    **_shown(
        ("dataset", "kind", "quantity", "of"),
        drift_value="A drift statistic of the last batch.",
        drift_threshold="Above it, the statistic is an alarm.",
        drift_alarm="1 where the statistic is an alarm, else 0.",
    ),
}


EventKind = Literal["start", "phase", "progress", "message", "drift", "end"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a sink is told: that something happened, and the figures at that time."""

    kind: EventKind
    time: float  # seconds since the epoch
    run: str
    phase: str  # one of PHASES
    figures: Figures = field(default_factory=dict)
    message: str = ""


Sink = Callable[[Event], None]


def label(value: str) -> str:
    """A value that a label may have: one line of ASCII, not long."""
    return escaped(value).encode("ascii", "backslashreplace").decode()[:MOST_CHARACTERS]


def run_label(run_dir: str) -> str:
    """The last name of a run directory's path: the same every day, and nothing else of the path."""
    return label(posixpath.basename(run_dir.rstrip("/")) or "run")


def drift_figures(drift: Mapping[str, DriftReport]) -> Figures:
    """Value, threshold and alarm of each statistic of drift, by data sets."""
    found: dict[str, dict[Values, float]] = {}
    for dataset, report in drift.items():
        for statistic in report.statistics:
            of = (dataset, statistic.kind, statistic.quantity or "", statistic.of or "")
            for key in ("value", "threshold", "alarm"):
                figures = found.setdefault(f"{PREFIX}drift_{key}", {})
                figures[tuple(map(label, of))] = float(getattr(statistic, key))
    return found


def tags(metric: Metric, values: Sequence[str]) -> dict[str, str]:
    """Labels with their values, by name."""
    return dict(zip(metric.labels, values, strict=True))
