"""The end of a run in a terminal: a table of its data sets, and what it took."""

from __future__ import annotations

import numpy as np
from rich.table import Table
from rich.text import Text

from dawin_ray.method import EVEN
from dawin_ray.names import printable
from dawin_ray.passes import LABELS
from dawin_ray.report.figures import DAWIN
from dawin_ray.report.tally import DatasetReport, Report
from dawin_ray.report.words import NOTHING, shown_percent
from dawin_ray.runs import words_of_broken

HEADINGS = {EVEN: "even", DAWIN: "DaWin"}


def table_of(report: Report) -> Table:
    """The report's data sets as a table: accuracies in percent, a line for each cluster."""
    present = [
        name
        for name in (*report.experts, EVEN, DAWIN)
        if name in report.datasets[0].accuracy
    ]  # fmt: skip
    table = Table(title=_text(f"Accuracy (%) · {report.run_dir}"), title_justify="left")
    table.add_column("data set")
    table.add_column("rows", justify="right")
    table.add_column("rejects", justify="right")
    for name in present:
        table.add_column(_text(HEADINGS.get(name, name)), justify="right")
    experts = ", ".join(report.experts)
    exact = report.mode == "exact"
    weights = f"mean weights of {experts}" if exact else f"clusters: weights of {experts} (size)"
    table.add_column(_text(weights))
    table.add_column("images/s", justify="right")
    for row in report.datasets:
        rate = row.images_per_second
        table.add_row(
            _text(row.dataset),
            f"{row.rows:,}",
            f"{row.rejects:,}",
            *[shown_percent(row.accuracy[name]) for name in present],
            _weights(row, exact),
            f"{rate:,.0f}" if rate else NOTHING,
        )
    labelled = [row for row in report.datasets if row.labelled]
    if len(labelled) > 1:
        accuracies = (
            [a for row in labelled if (a := row.accuracy[name]) is not None] for name in present
        )
        means = [float(np.mean(values)) for values in accuracies]
        table.add_section()
        table.add_row(f"mean of {len(labelled)}", "", "", *map(shown_percent, means), "", "")
    return table


def footer_of(report: Report) -> str:
    """Pace, device and the paths written, one a line."""
    on = report.compute
    passes = [
        f"{LABELS[name]}: {p.rows:,} images in {p.wall_seconds:.1f} s"
        + (f" (models busy {100 * p.model_share:.0f} %)" if p.model_share else "")
        for name, p in report.passes.items()
    ]
    compared = sum(row.float32_agreement.rows for row in report.datasets)
    equal = sum(row.float32_agreement.equal for row in report.datasets)
    agreement = (
        [f"float32      {equal:,} of {compared:,} sampled predictions agree with float32"]
        if compared
        else []
    )
    return "\n".join(
        [
            f"{'; '.join(passes)} ({on.actors} × {on.device}, {on.precision}). "
            "images/s: all passes, time in the models.",
            *agreement,
            *[
                f"broken       {line}"
                for row in report.datasets
                for line in words_of_broken(row.dataset, row.broken)
            ],
            *[
                f"drift        {dataset}: {found.words}"
                for dataset, found in (report.drift or {}).items()
            ],
            f"predictions  {report.predictions}/*.parquet",
            f"report       {report.run_dir}/report.html",
        ]
    )


def _weights(row: DatasetReport, exact: bool) -> str:
    """Every expert's weights, in the order of the heading."""
    if exact:
        return ", ".join(f"{weight:.3f}" for weight in row.mean_coefficient or ())
    return "\n".join(
        f"{', '.join(f'{weight:.2f}' for weight in cluster.coefficient)} ({cluster.size:,})"
        for cluster in row.clusters
    )


def _text(name: str) -> Text:
    """A name in a table, in which nothing is markup."""
    return Text(printable(name))
