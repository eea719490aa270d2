"""report.html of a run directory that grows: its batches side by side.

Made of the batches' report.json alone, so that it costs the same whatever they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import dawin_ray
from dawin_ray.report.page import csv_of, template
from dawin_ray.report.tally import Report, alarms_of
from dawin_ray.runs import CSV, PAGE, Series
from dawin_ray.storage import join

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "overview.html.j2"

SHOWN_BATCHES = 60  # the youngest; csv/drift.csv has them all


def write_overview(series: Series) -> str:
    """Write page and table of the finished batches; returns the page's first sentence."""
    reports = [Report.read(batch) for batch in series.batches()]
    words = overview_words(reports)
    page = overview_of(reports, series.address, words)
    series.run.write_text(join(CSV, "drift.csv"), csv_of(drift_table(reports)))
    series.run.write_text(PAGE, page)
    return words


def overview_of(reports: Sequence[Report], address: str, words: str) -> str:
    """The page, whole, of batches from the oldest to the youngest."""
    from dawin_ray.report import pictures

    shown = reports[-SHOWN_BATCHES:]
    names = dict.fromkeys(row.dataset for report in shown for row in report.datasets)
    drawn = {name: pictures.of_batches(name, shown) for name in names}
    return template(TEMPLATE).render(
        address=address,
        words=words,
        pictures={name: picture for name, picture in drawn.items() if picture},
        batches=shown[::-1],
        experts=reports[-1].experts,  # all batches have the same
        code=dawin_ray.__version__,
    )


def overview_words(reports: Sequence[Report]) -> str:
    """What a person wants to know first, of the last batch."""
    doubts = [doubt.words for doubt in reports[-1].doubts]
    return _of_drift(reports) + (f" Its input looks wrong: {' '.join(doubts)}" if doubts else "")


def _of_drift(reports: Sequence[Report]) -> str:
    last = reports[-1]
    rows = sum(row.rows for row in last.datasets)
    batch = f"Batch {last.batch}, the last of {len(reports):,}, has {rows:,} rows"
    if last.drift is None:
        return f"{batch}; it was scored without a saved fit, so drift is not judged."
    if alarms := alarms_of(last):
        return f"{batch}, and they have drifted from their fit: {'; '.join(alarms)}."
    small = [name for name, found in last.drift.items() if not found.judged]
    if small:
        few = ", ".join(small)
        return f"{batch}; too few to judge the drift of {few}; of the others none was detected."
    return f"{batch}, and no drift from their fit was detected."


def drift_table(reports: Sequence[Report]) -> pd.DataFrame:
    """All statistics of all batches, one a row."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"batch": report.batch, "dataset": dataset, "n": found.n, **asdict(statistic)}
            for report in reports
            for dataset, found in (report.drift or {}).items()
            for statistic in found.statistics
        ]
    )
