"""What `advise` says, for a person: one sentence, a table of modes, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from dawin_ray.advice.costs import Forecast
from dawin_ray.advice.figures import Advice, DatasetAdvice, ModeAdvice
from dawin_ray.advice.modes import Mode
from dawin_ray.advice.recommend import TOLERANCE, Choice
from dawin_ray.job import duration
from dawin_ray.names import printable
from dawin_ray.report import shown_percent, shown_points
from dawin_ray.statistics import Interval

NOTHING = "-"


def sentence_of(choice: Choice, modes: Mapping[Mode, ModeAdvice]) -> str:
    """The recommendation, in one sentence."""
    what = modes[choice.mode].what
    if choice.why == "agreement":
        return (
            f"Use {what}: the experts agree on all but {100 * TOLERANCE:g} % of the samples, so "
            "that no way to interpolate them can change much."
        )
    if choice.why == "no labels":
        return (
            f"Use {what}, the method's own default: without labels nothing shows that another mode "
            "is better; some hundred labels would (dawin-ray calibrate takes them too)."
        )
    said = f"Use {what}: "
    if choice.over:
        cheaper = [f"{shown_points(g)} over {modes[name].what}" for name, g in choice.over.items()]
        said += f"it gains {_and(cheaper)} on the pilot's labels, and "
    if not choice.open:
        return said + "no mode that can be run here costs more."
    if choice.settled:
        dearer = _and([modes[name].what for name in choice.open])
        return said + f"{dearer} can gain less than {100 * TOLERANCE:g} points over it."
    name, most = max(choice.open.items(), key=lambda item: item[1].high)
    return said + (
        f"that a dearer mode is better is not shown, though {modes[name].what} may gain up to "
        f"{100 * most.high:.1f} points ({shown_points(most)}); more labels would tell."
    )


def parts_of(advice: Advice) -> list[Any]:
    """Printable parts: the sentence, modes, data sets, the forecast of the recommended run."""
    chosen = advice.chosen
    return [
        advice.sentence,
        _table(advice),
        *_notes(advice),
        *(line for name, of_set in advice.datasets.items() for line in _of_set(name, of_set)),
        *([] if chosen.seconds is None else [_parts(chosen, chosen.seconds)]),
        f"measured  {advice.where}",
        f"pilot     {advice.pilot_samples:,} samples, {duration(advice.pilot_seconds)}",
    ]


def _table(advice: Advice) -> Table:
    labelled = any(mode.accuracy for mode in advice.modes)
    table = Table()
    table.add_column("mode")
    headings = ["forwards a sample", "as a job", "time of the job"]
    headings += ["accuracy, %", f"gain over {advice.modes[0].what}, points"] if labelled else []
    for heading in headings:
        table.add_column(heading, justify="right")
    for mode in advice.modes:
        if mode.unavailable:
            continue
        mark = "> " if mode.mode == advice.mode else "  "
        cells = [
            f"{mode.forwards:,}",
            f"{mode.job_forwards:,}",
            NOTHING if mode.seconds is None else _time(mode.seconds),
        ]
        if labelled:
            cells += [
                shown_percent(mode.accuracy),
                shown_points(mode.gain) if mode.gain else NOTHING,
            ]
        table.add_row(Text(printable(mark + mode.what)), *cells)
    return table


def _notes(advice: Advice) -> Iterator[str]:
    for mode in advice.modes:
        if mode.unavailable:
            yield f"not here  {mode.what}: {mode.unavailable}"
        if mode.alone is not None:
            yield f"alone     {mode.what}, by itself and without a report: {duration(mode.alone)}"
        if mode.column != "prediction":
            yield f"column    {mode.what}: its answers are in {mode.column}"
        for name, guess in (mode.estimated or {}).items():
            figure = shown_percent(Interval(value=guess.value, low=guess.low, high=guess.high, n=0))
            yield f"estimated {mode.what} on {name}, without its labels: {figure} %"


def _of_set(name: str, of_set: DatasetAdvice) -> Iterator[str]:
    about = "" if of_set.known else "about "
    rejects = f", {of_set.rejects:,} of them rejected" if of_set.rejects else ""
    labels = f", {of_set.labelled:,} with a label" if of_set.labelled else ", no labels"
    yield (
        f"data set  {name}: {of_set.pilot:,} of {about}{of_set.samples:,} samples"
        f"{rejects}{labels}; the experts agree on {100 * of_set.agree:.1f} %"
    )
    entropies = ", ".join(f"{expert} {mean:.2f}" for expert, mean in of_set.entropy.items())
    weights = ", ".join(
        f"{expert} {mean:.2f} ({low:.2f} to {high:.2f})"
        for expert, (mean, low, high) in of_set.coefficient.items()
    )
    yield f"          entropies, nats: {entropies}; coefficients, 90 % of them: {weights}"
    yield f"          samples of the clusters: {', '.join(map(str, of_set.clusters))}"


def _parts(mode: ModeAdvice, found: Forecast) -> str:
    parts = ", ".join(f"{part} {duration(seconds)}" for part, seconds in found.parts.items())
    return f"forecast  {mode.what}, {_time(found)}: {parts}"


def _time(found: Forecast) -> str:
    if found.low == found.high:  # of chunks that were too few to tell of a spread
        return duration(found.seconds)
    return f"{duration(found.seconds)} [{duration(found.low)}, {duration(found.high)}]"


def _and(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
