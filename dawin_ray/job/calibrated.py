"""The calibration that a job applies: temperatures for its experts, log odds for its data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dawin_ray.config import Job
from dawin_ray.models import ModelSpec
from dawin_ray.runs import CalibratedDataset, Calibration, Gain


def calibrated(job: Job, model: ModelSpec) -> tuple[Calibration | None, ModelSpec]:
    """The calibration that a job names, and its experts with the temperatures of that one.

    Raises:
        UserError: the file is missing, damaged, or a newer version wrote it.
    """
    address = job.coefficient.calibration
    if address is None:
        return None, model
    found = Calibration.read(address)
    if len(found.temperatures) != len(model.experts):
        return found, model  # `check_holds` refuses it
    pairs = zip(model.experts, found.temperatures, strict=True)
    experts = tuple(expert.model_copy(update={"temperature": t}) for expert, t in pairs)
    return found, replace(model, experts=experts)


def told_by_content(calibration: Calibration | None) -> dict[str, str]:
    """What stands for its address in fingerprints: what it says, wherever it lies."""
    return {} if calibration is None else {"calibration": calibration.digest}


def check_holds(
    job: Job,
    calibration: Calibration | None,
    identity: Mapping[str, Any],
    classes: Mapping[str, str],
    texts: Mapping[str, Mapping[str, str]],
) -> None:
    """It is of the job's experts, and of its data sets; a saved fit brings log odds of its own.

    Raises:
        UserError: it is not.
    """
    address = job.coefficient.calibration
    if calibration is None or address is None:
        return
    calibration.check(address, identity)
    if job.saved_fit is None:
        calibration.check_datasets(address, classes, texts)


def lines_of_applied(address: str | None, calibration: Calibration | None) -> list[str]:
    """What a plan says of the calibration that a job applies; nothing without one."""
    if calibration is None:
        return []
    made = f"calibration   of {address}, from {calibration.labels}"
    return [made, *lines_of_calibration(calibration)]


def lines_of_calibration(calibration: Calibration) -> list[str]:
    """What it says, a line each, for a person."""
    rows = zip(calibration.names, calibration.temperatures, calibration.kept, strict=True)
    temperatures = [
        f"{name} {t:.3g}" + (" (the job's own)" if kept else "") for name, t, kept in rows
    ]
    brought = f"with those of the labels {_points(calibration.tempered)} to the job's own"
    found = [
        f"temperatures  {', '.join(temperatures)}; {brought}",
        f"log odds      and what they bring, with {100 * calibration.level:g} % intervals:",
    ]
    return found + [_line(calibration.names, *item) for item in calibration.datasets.items()]


def _points(gain: Gain) -> str:
    return f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _line(experts: Sequence[str], name: str, of_set: CalibratedDataset) -> str:
    if of_set.gain is None:
        return f"log odds      {name}: none, as it has no labels"
    figures = f"{_points(of_set.gain)} on {of_set.labels:,} labels"
    pairs = zip(experts, of_set.chosen, strict=True)
    named = ", ".join(f"{expert} {d:+.2f}" for expert, d in pairs)
    if any(of_set.log_odds):
        return f"log odds      {name}: {named}; {figures}"
    if any(of_set.chosen):
        return f"log odds      {name}: none; {named} would have {figures}, which holds 0"
    return f"log odds      {name}: none, which had most right answers of {of_set.labels:,} labels"
