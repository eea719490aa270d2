"""Figures in words: how a share, a difference or a p-value is written, and what an audit says."""

from __future__ import annotations

from collections.abc import Sequence

from dawin_ray.method import DAWIN
from dawin_ray.report.figures import ALPHA, Audit, DatasetAudit, Difference, MeanDifference
from dawin_ray.statistics import LEVEL, Interval

SHOWN_P = 1e-4  # smaller p-values are shown as smaller than it

NOTHING = "–"


def shown_percent(figure: Interval | float | None, unit: str = "") -> str:
    """A share in per cent, with its interval where it has one."""
    if figure is None:
        return NOTHING
    if not isinstance(figure, Interval):
        return f"{100 * figure:.1f}{unit}"
    low, high = 100 * figure.low, 100 * figure.high
    return f"{100 * figure.value:.1f}{unit} [{low:.1f}, {high:.1f}]"


def shown_points(difference: Interval, unit: str = "") -> str:
    """A difference in points, with its interval and its sign."""
    value, low, high = (100 * v for v in (difference.value, difference.low, difference.high))
    return f"{value:+.1f}{unit} [{low:+.1f}, {high:+.1f}]".replace("-", "\N{MINUS SIGN}")


def shown_number(figure: Interval | float | None, digits: int = 3) -> str:
    """A figure, with its interval where it has one."""
    if figure is None:
        return NOTHING
    if not isinstance(figure, Interval):
        return f"{figure:.{digits}f}"
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def shown_p(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return NOTHING
    return f"< {SHOWN_P:g}" if value < SHOWN_P else f"{value:.2g}"


def words_of(audit: Audit) -> list[str]:
    """What the figures allow to say, the first sentence the answer; nothing beyond them."""
    if not audit.labelled:
        return _without_labels(audit) + words_of_tasks(audit)
    tests = len(audit.rivals) * len(audit.labelled)
    return [
        *_against_the_best_expert(audit),
        *words_of_tasks(audit),
        *(_against(name, audit.labelled) for name in audit.rivals),
        *_words_of_estimates(audit),
        f"Significant: exact McNemar test, p adjusted by Holm over all {tests} comparisons of a "
        f"data set with a method, below {ALPHA:.2g}; means over data sets: paired bootstrap "
        f"intervals that hold together at {100 * LEVEL:g} %.",
    ]


HOW_ESTIMATED = {
    "calibrated confidence": "by its confidences, calibrated on the labels of the others",
    "threshold": "by the share of its answers above a confidence that the others' labels give",
}


def _words_of_estimates(audit: Audit) -> list[str]:
    """How well labels of other data sets tell an accuracy, and what they tell where there is none.

    Empty where fewer data sets have labels than an error can be told of.
    """
    found = audit.estimates
    if found is None:
        return []
    worst = max(
        (abs(e.value - e.true), name)
        for name in found.labelled
        if (e := found.datasets[name][DAWIN]).true is not None
    )
    words = [
        f"Without its own labels, a data set's accuracy is estimated "
        f"{HOW_ESTIMATED[found.estimator]}: on the {len(found.labelled)} that have labels, DaWin's "
        f"came out with a mean absolute error of {100 * found.mean_error[DAWIN]:.1f} points, the "
        f"largest {100 * worst[0]:.1f} on {worst[1]}."
    ]
    return words + [
        f"On {name}, which has no labels, DaWin is estimated to be right on "
        f"{100 * of_set[DAWIN].value:.1f} % [{100 * of_set[DAWIN].low:.1f}, "
        f"{100 * of_set[DAWIN].high:.1f}], if it is no stranger to the others than each of them is."
        for name, of_set in found.datasets.items()
        if name not in found.labelled
    ]


def _without_labels(audit: Audit) -> list[str]:
    rows = sum(row.rows for row in audit.datasets)
    apart = [row.agreement.all_agree for row in audit.datasets if row.rows]
    return [
        f"No data set has labels, so nothing here says whether DaWin is better: {rows:,} "
        f"samples were scored, and the experts agree on {100 * min(apart):.1f} to "
        f"{100 * max(apart):.1f} % of a data set's samples.",
        "Where they agree, interpolation seldom changes the answer; where they do not, "
        "labels of a few hundred samples would tell who is right.",
    ]


def _against_the_best_expert(audit: Audit) -> list[str]:
    """Over the suite and in distribution where there is a suite, else on each data set."""
    words, suite = [], audit.suite
    if suite is not None:
        best = suite.best_of(audit.experts)
        over = "the shifts" if audit.in_distribution else "the data sets"
        words.append(
            f"Averaged over {over} ({len(suite.datasets)}), DaWin is right on "
            f"{shown_percent(suite.accuracy[DAWIN], ' %')} and the best single expert, {best}, on "
            f"{shown_percent(suite.accuracy[best], ' %')}: {_said(suite.differences[best])}."
        )
    for row in audit.labelled:
        inside = row.dataset == audit.in_distribution
        if row.best_expert is None or (suite is not None and not inside):
            continue
        best = row.best_expert
        where = f"In distribution ({row.dataset})" if inside else f"On {row.dataset}"
        words.append(
            f"{where}, DaWin is right on "
            f"{shown_percent(row.methods[DAWIN].accuracy, ' %')} and the best single expert, "
            f"{best}, on {shown_percent(row.methods[best].accuracy, ' %')}: "
            f"{_said(row.differences[best])}."
        )
    return words


def words_of_tasks(audit: Audit) -> list[str]:
    """What is kept of the tasks' own experts, and whether weights go to them; empty without any."""
    words, tasks = [], audit.tasks
    if tasks is not None:
        best = tasks.best_of(audit.rivals)
        words.append(
            f"Averaged over {_of(len(tasks.datasets), 'task')}, each one's own expert is right on "
            f"{shown_percent(tasks.own, ' %')}. Of its accuracy DaWin keeps "
            f"{shown_percent(tasks.normalised[DAWIN], ' %')}, and the best other method that knows "
            f"neither task nor labels, {best}, {shown_percent(tasks.normalised[best], ' %')}."
        )
    rows = [row for row in audit.of_tasks if row.rows]
    if not rows:
        return words
    others = [row for row in rows if row.preferred != row.expert]
    said = (
        f"Without a label, the own expert has the largest mean weight on "
        f"{len(rows) - len(others)} of {_of(len(rows), 'task')}"
    )
    told = [
        f"on {row.dataset} it is {row.preferred} "
        f"({_mean(row, row.preferred)}, {row.expert} {_mean(row, row.expert)})"
        for row in others
    ]
    return [*words, f"{said}{'; ' if told else ''}{', '.join(told)}."]


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _mean(row: DatasetAudit, expert: str | None) -> str:
    return shown_number(row.coefficient[expert].mean if expert else None, 2)


def _against(method: str, labelled: Sequence[DatasetAudit]) -> str:
    said = {row.dataset: row.differences[method].says for row in labelled}
    parts = []
    for word in ("better", "worse"):
        if on := [dataset for dataset, says in said.items() if says == word]:
            parts.append(f"{word} on {', '.join(on)}")
    if none := list(said.values()).count("no significant difference"):
        parts.append(
            f"no significant difference on {none} of {len(labelled)}"
            if parts else f"no significant difference on any of {len(labelled)} data sets"
        )  # fmt: skip
    return f"DaWin against {method}: {'; '.join(parts)}."


def _said(difference: Difference | MeanDifference) -> str:
    said = {"better": "a significant gain", "worse": "a significant loss"}
    points = shown_points(difference, " points")
    return f"{points}, {said.get(difference.says or '', difference.says)}"
