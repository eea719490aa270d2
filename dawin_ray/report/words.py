"""Figures in words: how a share, a difference or a p-value is written, and what an audit says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dawin_ray.method import DAWIN, FEW_EXPERTS
from dawin_ray.report.figures import (
    ALPHA,
    Answer,
    Audit,
    DatasetAudit,
    Difference,
    MeanDifference,
    Says,
)
from dawin_ray.statistics import LEVEL, Interval

SAID: Mapping[Says, str] = {
    "better": "a significant gain",
    "worse": "a significant loss",
    "no significant difference": "no significant difference",
}

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
    """What the figures allow to say, behind `actions_of` them; nothing beyond them."""
    if not audit.labelled:
        return without_labels(audit) + words_of_tasks(audit)
    return [
        *answers_of(audit),
        *words_of_tasks(audit),
        *(_against(name, audit.labelled) for name in audit.rivals),
        *_words_of_estimates(audit),
        words_of_tests(audit),
    ]


def words_of_tests(audit: Audit) -> str:
    """What "significant" means, with the sizes of the families that were tested together."""
    sets, primary = len(audit.labelled), len(audit.primary)
    others = len(audit.rivals) - primary
    about = f"the {primary} experts" if audit.incumbent is None else "the incumbent"
    apart = f", apart from them over the {others * sets} with other methods" if others else ""
    return (
        f"Significant: exact McNemar test, p adjusted by Holm over the {primary * sets} "
        f"comparisons of a data set with {about}{apart}, below {ALPHA:.2g}; means over data sets: "
        f"paired bootstrap intervals that hold together at {100 * LEVEL:g} % over {about}"
        f"{', and over the other methods' if others else ''}."
    )


def answer_of(audit: Audit) -> Answer | None:
    """Whether to replace the incumbent; None without one, or where no data set has labels."""
    if audit.incumbent is None or not audit.labelled:
        return None
    return answer_to(audit, audit.incumbent)


def answer_to(audit: Audit, name: str) -> Answer:
    """Whether to replace a method, by the mean over the suite, or by the only data set.

    `yes` where that gain is significant, `no` where the loss is.
    """
    said = {difference.says for difference in judged_by(audit, name)}
    if said == {"better"}:
        return "yes"
    return "no" if said == {"worse"} else "not shown"


def judged_by(audit: Audit, name: str) -> Sequence[Difference | MeanDifference]:
    """The differences to a method that the answer goes by."""
    if audit.suite is not None:
        return [audit.suite.differences[name]]
    return [row.differences[name] for row in judged_rows(audit)]


def judged_rows(audit: Audit) -> Sequence[DatasetAudit]:
    """The shifts, or the set in distribution where there is no other; those with labels."""
    shifts = [row for row in audit.labelled if row.dataset != audit.in_distribution]
    return shifts or audit.labelled


def harmed(audit: Audit, name: str) -> list[tuple[str, Difference]]:
    """The data sets on which DaWin is significantly worse than a method, whatever the mean says."""
    found = [(row.dataset, row.differences[name]) for row in audit.labelled]
    return [(dataset, difference) for dataset, difference in found if difference.says == "worse"]


def answers_of(audit: Audit) -> list[str]:
    """The first screen's figures on labelled data: over the suite, then in distribution.

    They are about the incumbent, or about every expert: the best one, picked afterwards, is never
    compared alone.
    """
    suite, words = audit.suite, []
    if suite is not None:
        over = "the shifts" if audit.in_distribution else "the data sets"
        scope = f"averaged over {over} ({len(suite.datasets)})"
        words.append(_answer(audit, scope, suite.accuracy, suite.differences))
    rows = sorted(audit.labelled, key=lambda row: row.dataset == audit.in_distribution)
    for row in rows:
        inside = row.dataset == audit.in_distribution
        if suite is not None and not inside:
            continue
        scope = f"in distribution ({row.dataset})" if inside else f"on {row.dataset}"
        accuracy = {name: found.accuracy for name, found in row.methods.items()}
        words.append(_answer(audit, scope, accuracy, row.differences))
    return words


def _answer(
    audit: Audit,
    scope: str,
    accuracy: Mapping[str, Interval],
    differences: Mapping[str, Difference | MeanDifference],
) -> str:
    """DaWin's accuracy there, and its difference to each of the methods in question."""
    ours = shown_percent(accuracy[DAWIN], " %")
    begin = f"{scope[0].upper()}{scope[1:]}, DaWin is right on {ours}"
    if len(audit.primary) <= FEW_EXPERTS:
        parts = [
            f"{name} on {shown_percent(accuracy[name], ' %')} ({_said(differences[name])})"
            for name in audit.primary
        ]
        return f"{begin}, {both(parts)}."
    parts = []
    for says, words in SAID.items():
        names = [name for name in audit.primary if differences[name].says == says]
        if names:
            least = min(names, key=lambda name: abs(differences[name].value))
            parts.append(
                f"{words} against {len(names)} of the {len(audit.primary)} experts (the least "
                f"against {least}: {shown_points(differences[least], ' points')})"
            )
    return f"{begin}: {both(parts)}."


def both(parts: Sequence[str]) -> str:
    """Joined as in a sentence: a, b and c; empty of none."""
    *first, last = parts or [""]
    return f"{', '.join(first)} and {last}" if first else last


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


def without_labels(audit: Audit) -> list[str]:
    """What figures there are where no data set has labels."""
    rows = sum(row.rows for row in audit.datasets)
    apart = [row.agreement.all_agree for row in audit.datasets if row.rows]
    if not apart:
        return ["No sample was scored."]
    return [
        f"{rows:,} samples were scored, and the experts agree on {100 * min(apart):.1f} to "
        f"{100 * max(apart):.1f} % of a data set's samples.",
        "Where they agree, interpolation seldom changes the answer; where they do not, labels "
        "would tell who is right.",
    ]


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


def against_others(audit: Audit) -> list[str]:
    """What is said of each method that the question is not about."""
    primary = audit.primary
    return [_against(name, audit.labelled) for name in audit.rivals if name not in primary]


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
    points = shown_points(difference, " points")
    return points if difference.says is None else f"{points}, {SAID[difference.says]}"
