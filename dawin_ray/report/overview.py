"""report.html of a run directory that grows: its batches side by side.

Made of the batches' report.json alone, so that it costs the same whatever they hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import dawin_ray
from dawin_ray.report import pictures
from dawin_ray.report.page import csv_of, template
from dawin_ray.report.tally import alarms_of
from dawin_ray.runs import CSV, PAGE, Series
from dawin_ray.storage import join

TEMPLATE = "overview.html.j2"

SHOWN_BATCHES = 60  # the youngest; csv/drift.csv has them all


def write_overview(series: Series) -> str:
    """Write page and table of the finished batches; returns the page's first sentence."""
    reports = [batch.read_json("report.json") for batch in series.batches()]
    words = words_of(reports)
    shown = reports[-SHOWN_BATCHES:]
    experts = reports[-1]["experts"]
    names = dict.fromkeys(row["dataset"] for report in shown for row in report["datasets"])
    drawn = {name: pictures.of_batches(name, shown, experts[-1]) for name in names}
    page = template(TEMPLATE).render(
        address=series.address,
        words=words,
        pictures={name: picture for name, picture in drawn.items() if picture},
        batches=shown[::-1],
        experts=experts,
        code=dawin_ray.__version__,
    )
    series.run.write_text(join(CSV, "drift.csv"), csv_of(drift_table(reports)))
    series.run.write_text(PAGE, page)
    return words


def words_of(reports: Sequence[Mapping[str, Any]]) -> str:
    """What a person wants to know first, of the last batch."""
    last = reports[-1]
    rows = sum(row["rows"] for row in last["datasets"])
    batch = f"Batch {last['batch']}, the last of {len(reports):,}, has {rows:,} rows"
    if last["drift"] is None:
        return f"{batch}; it was scored without a saved fit, so drift is not judged."
    if alarms := alarms_of(last):
        return f"{batch}, and they have drifted from their fit: {'; '.join(alarms)}."
    small = [name for name, found in last["drift"].items() if not found["judged"]]
    if small:
        few = ", ".join(small)
        return f"{batch}; too few to judge the drift of {few}; of the others none was detected."
    return f"{batch}, and no drift from their fit was detected."


def drift_table(reports: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """All statistics of all batches, one a row."""
    return pd.DataFrame(
        [
            {"batch": report["batch"], "dataset": dataset, "n": found["n"], **statistic}
            for report in reports
            for dataset, found in (report["drift"] or {}).items()
            for statistic in found["statistics"]
        ]
    )
