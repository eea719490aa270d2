"""A run as lines of JSON, an event a line: for logs that are read by programs.

    {"version": 1, "time": "2026-11-26T06:00:10.123Z", "event": "progress", "run": "imagenet-r",
     "phase": "experts", "metrics": {"rows_total": {"experts": {"imagenet-r": 51200}}, ...}}

Events: start, phase (another one began), progress (every PROGRESS_SECONDS), message (a line for a
person, in `message`), drift, end (the phase is done, stopped or failed, then with a `message`).
`metrics` are by name, and then by the values of their labels, but for the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from dawin_ray.errors import UserError
from dawin_ray.metrics import METRICS, PREFIX, Event

VERSION = 1

PROGRESS_SECONDS = 10.0

STDOUT = "-"

# The line says it already.
LEFT_OUT = f"{PREFIX}phase"


class JsonLog:
    """A `metrics.Sink`."""

    def __init__(self, stream: TextIO):
        """Each line is written and flushed by itself."""
        self.stream, self.last = stream, 0.0  # when progress was told

    def __call__(self, event: Event) -> None:
        """Write an event's line.

        Raises:
            OSError: it cannot be written.
        """
        if event.kind == "progress" and event.time - self.last < PROGRESS_SECONDS:
            return
        if event.kind != "message":
            self.last = event.time
        time = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "version": VERSION,
            "time": time.replace("+00:00", "Z"),
            "event": event.kind,
            "run": event.run,
            "phase": event.phase,
        }
        if event.message:
            line["message"] = event.message
        if event.figures:
            line["metrics"] = _metrics(event)
        self.stream.write(json.dumps(line, allow_nan=False) + "\n")
        self.stream.flush()


@contextmanager
def json_log(file: str) -> Iterator[JsonLog]:
    """A log at the end of a local file, or on standard output.

    Raises:
        UserError: the file cannot be written.
    """
    if file == STDOUT:
        yield JsonLog(sys.stdout)
        return
    try:
        stream = open(file, "a", encoding="utf-8")  # noqa: SIM115  (an error of the run is no error of it)
    except OSError as error:
        raise UserError(
            f"The log {file!r} cannot be written: {error.strerror}. Give --log-json a file in a "
            f"folder that is there, or {STDOUT} for standard output."
        ) from error
    with stream:
        yield JsonLog(stream)


def _metrics(event: Event) -> dict[str, Any]:
    """By name, then by labels. Figures of single actors are told where a phase ends."""
    found: dict[str, Any] = {}
    for name, by_values in event.figures.items():
        labels = METRICS[name].labels
        if name == LEFT_OUT or ("actor" in labels and event.kind == "progress"):
            continue
        for values, value in by_values.items():
            keys = [name.removeprefix(PREFIX), *values[labels[:1] == ("run",) :]]
            inner = found
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = round(value, 6)
    return found
