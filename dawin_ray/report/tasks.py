"""T tasks of M experts: what each method keeps of a task's own expert, and what it costs.

A data set is a task where the job says whose it is (`datasets[].expert`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dawin_ray.method import DAWIN, FEW_EXPERTS, OWN, Fit, Method
from dawin_ray.report.figures import Audit, Cost, DatasetAudit, Normalised, Tasks
from dawin_ray.report.finished import FinishedRun
from dawin_ray.statistics import Interval, Summary, scores


@dataclass(frozen=True, kw_only=True)
class TaskCell:
    """A method on a task: its accuracy, and that over the own expert's where it is known."""

    accuracy: float
    normalised: float | None
    best: bool  # of those that know neither task nor labels


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task, whose it is, its own expert's accuracy, and a cell for each method."""

    name: str
    expert: str | None
    own: float | None
    cells: tuple[TaskCell, ...]


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    """Tasks and methods, for a page or a terminal."""

    methods: tuple[str, ...]
    rows: tuple[TaskRow, ...]  # the mean last


def normalised_of(summary: Summary, own: str) -> dict[str, Normalised]:
    """Each method's accuracy over the own expert's, of the rows that have a label.

    Empty where the own expert is right on none.
    """
    theirs = summary.right(own)
    if not theirs:
        return {}
    found = {}
    for name in summary.methods:
        both = summary.both(name, own)
        alone, own_alone = summary.right(name) - both, theirs - both
        ratio = scores.paired_ratios([(both, alone, own_alone, summary.labelled)])
        found[name] = Normalised(
            value=ratio.value, low=ratio.low, high=ratio.high, n=ratio.n, both=both, alone=alone,
            own_alone=own_alone,
        )  # fmt: skip
    return found


def tasks_of(found: Sequence[DatasetAudit]) -> Tasks | None:
    """Means over the tasks; None where there is none with labels."""
    rows = [row for row in found if row.normalised]
    if not rows:
        return None
    names = list(rows[0].normalised)

    def accuracy(counts: Sequence[Normalised]) -> Interval:
        return scores.macro_accuracy([(c.both + c.alone, c.n) for c in counts])

    return Tasks(
        datasets=tuple(row.dataset for row in rows),
        own=accuracy([row.normalised[str(row.expert)] for row in rows]),
        accuracy={name: accuracy([row.normalised[name] for row in rows]) for name in names},
        normalised={
            name: scores.paired_ratios(
                [(c.both, c.alone, c.own_alone, c.n) for c in (r.normalised[name] for r in rows)]
            )
            for name in names
        },
    )


def task_table(audit: Audit) -> TaskTable | None:
    """The table of tasks and methods, the mean last; None without tasks that have labels.

    Its methods are all but `own_expert`, whose figures stand in a column of their own, and but the
    experts where they are more than a few.
    """
    tasks = audit.tasks
    if tasks is None:
        return None
    few = len(audit.experts) <= FEW_EXPERTS
    methods = [name for name in audit.names if name != OWN and (few or name not in audit.experts)]
    rivals = {*audit.rivals, DAWIN}

    def row(
        name: str,
        accuracy: Mapping[str, float],
        kept: Mapping[str, float],
        own: tuple[str | None, float | None],
    ) -> TaskRow:
        best = max(accuracy[method] for method in methods if method in rivals)
        cells = [
            TaskCell(
                accuracy=accuracy[method], normalised=kept.get(method),
                best=method in rivals and accuracy[method] == best,
            )
            for method in methods
        ]  # fmt: skip
        return TaskRow(name=name, expert=own[0], own=own[1], cells=tuple(cells))

    rows = []
    for found in audit.labelled:
        accuracy = {name: score.accuracy.value for name, score in found.methods.items()}
        own = accuracy[found.expert] if found.expert else None
        rows.append(row(found.dataset, accuracy, _values(found.normalised), (found.expert, own)))
    mean = row(
        f"mean of {len(tasks.datasets)}", _values(tasks.accuracy), _values(tasks.normalised),
        (None, tasks.own.value),
    )  # fmt: skip
    return TaskTable(methods=tuple(methods), rows=(*rows, mean))


def _values(figures: Mapping[str, Interval]) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.items()}


def costs_of(finished: FinishedRun) -> dict[str, Cost]:
    """What each method costs, DaWin last."""
    count, fits = len(finished.experts), finished.fits

    def merges(method: Method) -> int | None:
        if method.fit is not None:
            return _clusters([fit.beside.get(method.name) for fit in fits])
        return int(method.merges and method.recipe != "base")

    costs = {
        method.name: Cost(
            alone=method.alone(count), added=method.added(count), merges=merges(method),
            about=method.kind == "samplewise",
        )
        for method in finished.methods
    }  # fmt: skip
    exact = finished.job.exact
    added = count if exact else 1
    ours = 0 if exact else _clusters(fits)
    return costs | {DAWIN: Cost(alone=count + added, added=added, merges=ours, about=exact)}


def _clusters(fits: Sequence[Fit | None]) -> int | None:
    """Of all fits together; None where one of them is not known."""
    mixtures = [fit.mixture if fit else None for fit in fits]
    if any(mixture is None for mixture in mixtures):
        return None
    return sum(len(mixture.weights) for mixture in mixtures if mixture is not None)
