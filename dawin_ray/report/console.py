"""The end of a run in a terminal: a table of its data sets, and what it took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from dawin_ray.method import DAWIN, EVEN, FEW_EXPERTS
from dawin_ray.names import printable
from dawin_ray.passes import LABELS
from dawin_ray.report.figures import Audit
from dawin_ray.report.tally import DatasetReport, Report
from dawin_ray.report.tasks import task_table
from dawin_ray.report.words import NOTHING, shown_number, shown_percent
from dawin_ray.runs import AUDIT, RunDirectory, words_of_broken

HEADINGS = {EVEN: "even", DAWIN: "DaWin"}


def tables_of(report: Report) -> list[Table]:
    """The tables that a run ends with: data sets, weights where experts are many, tasks if known.

    Raises:
        UserError: the run's audit.json is damaged.
    """
    tables = [table_of(report), weights_of(report)]
    run = RunDirectory.at(report.run_dir)
    if any(row.expert for row in report.datasets) and run.exists(AUDIT):
        tables.append(methods_of_tasks(Audit.read(run)))
    return [table for table in tables if table is not None]


def table_of(report: Report) -> Table:
    """The report's data sets as a table: accuracies in percent, a line for each cluster.

    Of more than FEW_EXPERTS there is no column for each: the task's own expert stands for them, or
    where no task is known the best one, by name; their weights are in `weights_of`.
    """
    few = len(report.experts) <= FEW_EXPERTS
    known = any(row.expert for row in report.datasets)
    experts = report.experts if few else ()
    present = [name for name in (*experts, EVEN, DAWIN) if name in report.datasets[0].accuracy]
    table = Table(title=_text(f"Accuracy (%) · {report.run_dir}"), title_justify="left")
    table.add_column("data set")
    table.add_column("rows", justify="right")
    table.add_column("rejects", justify="right")
    if not few:
        table.add_column("own expert" if known else "best expert")
    for name in present:
        table.add_column(_text(HEADINGS.get(name, name)), justify="right")
    if known:
        table.add_column("of own", justify="right")
    if few:
        names = ", ".join(report.experts)
        exact = report.mode == "exact"
        heading = f"mean weights of {names}" if exact else f"clusters: weights of {names} (size)"
        table.add_column(_text(heading))
    table.add_column("images/s", justify="right")
    for row in report.datasets:
        rate = row.images_per_second
        table.add_row(
            _text(row.dataset),
            f"{row.rows:,}",
            f"{row.rejects:,}",
            *([] if few else [_text(_expert_of(row, report.experts, known))]),
            *[shown_percent(row.accuracy[name]) for name in present],
            *([shown_percent(row.normalised.get(DAWIN))] if known else []),
            *([_weights(row, report.mode == "exact")] if few else []),
            f"{rate:,.0f}" if rate else NOTHING,
        )
    labelled = [row for row in report.datasets if row.labelled]
    if len(labelled) > 1:
        accuracies = (
            [a for row in labelled if (a := row.accuracy[name]) is not None] for name in present
        )
        means = [float(np.mean(values)) for values in accuracies]
        kept = [row.normalised[DAWIN] for row in labelled if row.normalised]
        table.add_section()
        table.add_row(
            f"mean of {len(labelled)}", "", "", *([] if few else [""]),
            *map(shown_percent, means),
            *([shown_percent(float(np.mean(kept)) if kept else None)] if known else []),
            *([""] if few else []), "",
        )  # fmt: skip
    return table


def weights_of(report: Report) -> Table | None:
    """Every expert's mean weight on each data set, and those of its clusters below; None of few.

    The weight of the task's own expert has a star. Of few experts, the first table has them.
    """
    if len(report.experts) <= FEW_EXPERTS:
        return None
    stars = any(row.expert for row in report.datasets)
    title = "Mean weights" + ("" if report.mode == "exact" else ", and clusters (size)")
    table = _narrow(title + ("; * the task's own expert" if stars else ""))
    for name in report.experts:
        table.add_column(_text(name), justify="right", overflow="fold")
    for row in report.datasets:
        lines: list[tuple[str, Sequence[float | None]]]
        lines = [(row.dataset, row.mean_coefficient or (None,) * len(report.experts))]
        lines += [(f"  ({c.size:,})", c.coefficient) for c in row.clusters]
        for name, weights in lines:
            cells = [
                shown_number(weight, 2) + ("*" if expert == row.expert else " " * stars)
                for expert, weight in zip(report.experts, weights, strict=True)
            ]
            table.add_row(_text(name), *cells)
    return table


def methods_of_tasks(audit: Audit) -> Table | None:
    """Every method's accuracy on each task, its mean, and the mean over the own expert's.

    None without tasks that have labels.
    """
    found, tasks = task_table(audit), audit.tasks
    if found is None or tasks is None:
        return None
    table = _narrow("Tasks: accuracy (%); of own: of that of the task's own expert")
    for row in found.rows:
        table.add_column(_text(row.name), justify="right", overflow="fold")
    table.add_column("of own", justify="right", no_wrap=True)
    table.add_column("forwards", justify="right", no_wrap=True)
    own = [shown_percent(row.own) for row in found.rows]
    table.add_row("own expert (knows the task)", *own, shown_percent(1.0), "1")
    for i, name in enumerate(found.methods):
        cost = audit.costs[name]
        table.add_row(
            _text(audit.shown[name]),
            *[shown_percent(row.cells[i].accuracy) for row in found.rows],
            shown_percent(tasks.normalised[name].value),
            f"{'about ' if cost.about else ''}{cost.alone}",
        )
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
            *[f"doubt        {doubt.words}" for doubt in report.doubts],
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


def _expert_of(row: DatasetReport, experts: Sequence[str], known: bool) -> str:
    """The own expert's name and accuracy, or the best one's where no task is known."""
    right = {name: share for name in experts if (share := row.accuracy[name]) is not None}
    name = row.expert if known else max(right, key=right.__getitem__, default=None)
    return NOTHING if name is None else f"{name} {shown_percent(row.accuracy[name])}"


def _narrow(title: str) -> Table:
    """A table of many columns: its lines take no room between them."""
    table = Table(title=_text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    return table


def _text(name: str) -> Text:
    """A name in a table, in which nothing is markup."""
    return Text(printable(name))
