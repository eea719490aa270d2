"""What a person reads afterwards: report.json from Parquet, and the table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from dawin_ray.names import printable
from dawin_ray.passes import PHASES
from dawin_ray.runs import words_of_broken


def table_of(report: Mapping[str, Any]) -> Table:
    """The report's data sets as a table: accuracies in percent, clusters as mean (size)."""
    scored = [*report["experts"], "even_interpolation", "dawin"]
    present = [name for name in scored if name in report["datasets"][0]["accuracy"]]
    headings = {"even_interpolation": "even", "dawin": "DaWin"}
    table = Table(title=_text(f"Accuracy (%) · {report['run_dir']}"), title_justify="left")
    table.add_column("data set")
    table.add_column("rows", justify="right")
    table.add_column("rejects", justify="right")
    for name in present:
        table.add_column(_text(headings.get(name, name)), justify="right")
    last = report["experts"][-1]
    exact = report["mode"] == "exact"
    weights = f"mean weight of {last}" if exact else f"clusters: weight of {last} (size)"
    table.add_column(_text(weights))
    table.add_column("images/s", justify="right")
    for row in report["datasets"]:
        clusters = ", ".join(f"{c['coefficient'][-1]:.2f} ({c['size']:,})" for c in row["clusters"])
        if exact and row["rows"]:
            clusters = f"{row['mean_coefficient'][-1]:.3f}"
        rate = row["images_per_second"]
        table.add_row(
            _text(row["dataset"]),
            f"{row['rows']:,}",
            f"{row['rejects']:,}",
            *[_percent(row["accuracy"][name]) for name in present],
            clusters,
            f"{rate:,.0f}" if rate else "–",
        )
    labelled = [row for row in report["datasets"] if row["labelled"]]
    if len(labelled) > 1:
        means = [np.mean([row["accuracy"][name] for row in labelled]) for name in present]
        table.add_section()
        table.add_row(f"mean of {len(labelled)}", "", "", *map(_percent, means), "", "")
    return table


def footer_of(report: Mapping[str, Any]) -> str:
    """Pace, device and the paths written, one a line."""
    on, run_dir = report["compute"], report["run_dir"]
    passes = [
        f"{PHASES[name]}: {p['rows']:,} images in {p['wall_seconds']:.1f} s"
        + (f" (models busy {100 * p['model_share']:.0f} %)" if p["model_share"] else "")
        for name, p in report["passes"].items()
    ]
    compared = sum(row["float32_agreement"]["rows"] for row in report["datasets"])
    equal = sum(row["float32_agreement"]["equal"] for row in report["datasets"])
    agreement = (
        [f"float32      {equal:,} of {compared:,} sampled predictions agree with float32"]
        if compared
        else []
    )
    return "\n".join(
        [
            f"{'; '.join(passes)} ({on['actors']} × {on['device']}, {on['precision']}). "
            "images/s: all passes, time in the models.",
            *agreement,
            *[
                f"broken       {line}"
                for row in report["datasets"]
                for line in words_of_broken(row["dataset"], row.get("broken", []))
            ],
            *[
                f"drift        {dataset}: {found['words']}"
                for dataset, found in (report["drift"] or {}).items()
            ],
            f"predictions  {report['predictions']}/*.parquet",
            f"report       {run_dir}/report.html",
        ]
    )


def _text(name: str) -> Text:
    """A name in a table, in which nothing is markup."""
    return Text(printable(name))


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.1f}"
