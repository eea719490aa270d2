"""What to do about a run's answer, in words: the first thing that its page says.

Only what is significant leads to a replacement; what is not shown comes with what would show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import scipy

from dawin_ray.method import FEW_EXPERTS
from dawin_ray.report.figures import ALPHA, Audit, Difference, MeanDifference
from dawin_ray.report.words import (
    answer_to,
    both,
    harmed,
    judged_by,
    judged_rows,
)

POWER = 0.8  # with which a difference that is real is found by the samples that are asked for

WANTED_GAIN = 0.02  # of accuracy, which labels should be able to show where there are none yet

# Times as many samples: for a difference that would need more, nobody scores them.
WORTH_WHILE = 100

LEAST_MORE = 0.1  # of the samples: fewer more of them are no plan, when as many showed nothing


def actions_of(audit: Audit) -> list[str]:
    """A sentence or more each; about the incumbent, or about each expert where none is named.

    What is to be done first is the first of them.
    """
    if audit.doubts:
        return [_look_first(audit)]
    if not audit.labelled:
        return [_label_some(audit)]
    if audit.incumbent is not None:
        return [_about(audit, audit.incumbent)]
    answers = {name: _sought(audit, name) for name in audit.experts}
    if len(audit.experts) > FEW_EXPERTS:
        return _about_many(audit, answers)
    order = ("no", "yes", "not shown")  # what would harm comes first
    names = sorted(audit.experts, key=lambda name: order.index(answers[name]))
    return [_about(audit, name) for name in names]


def samples_for(difference: Difference | MeanDifference, tests: int) -> float:
    """How many times as many samples would show a difference, if it is as large as it was found.

    With a probability of POWER, by an interval that holds together with those of `tests` of them:
    such an interval's width goes with the root of the samples. Infinite where it was found to be 0.
    """
    if not difference.value:
        return float("inf")
    reach, power = _quantiles(tests)
    half = (difference.high - difference.low) / 2
    return float((half / abs(difference.value) * (reach + power) / reach) ** 2)


def labels_for(apart: float, gain: float, tests: int) -> float:
    """How many labels show a gain with a probability of POWER, in all, over any data sets of equal
    size, where two methods' answers differ on a share `apart` of the samples; at most so many, as
    both can be wrong (the normal approximation to McNemar's test).
    """
    return float(sum(_quantiles(tests)) ** 2 * apart / gain**2)


def _quantiles(tests: int) -> tuple[float, float]:
    """The normal distribution's, that a two-sided interval and POWER go by."""
    normal = scipy.stats.norm
    return float(normal.isf(ALPHA / tests / 2)), float(normal.ppf(POWER))


def _look_first(audit: Audit) -> str:
    sets = list(dict.fromkeys(d.dataset for d in audit.doubts if d.dataset))
    many = len(audit.doubts) > 1
    on = f" ({both(sets)})" if 0 < len(sets) <= FEW_EXPERTS else ""
    return (
        f"Look at the {f'{len(audit.doubts)} doubts' if many else 'doubt'} first{on}, and replace "
        f"nothing before: figures of an input that is read wrongly say nothing of the models."
    )


def _label_some(audit: Audit) -> str:
    """How many labels it would take."""
    begin = "Not shown: no data set has labels, so nothing here says whether DaWin is better."
    names = audit.primary if audit.primary[0] in audit.experts else audit.experts
    apart = [
        max(1 - row.agreement.dawin_with.get(name, 1.0) for name in names)
        for row in audit.datasets
        if row.rows
    ]
    mean = sum(apart) / len(apart) if apart else 0.0
    if not mean:
        return f"{begin} On no sample does it answer otherwise than the experts."
    gain = min(WANTED_GAIN, mean / 2)
    wanted = _round(labels_for(mean, gain, len(names)))
    scored = sum(row.rows for row in audit.datasets)
    which = f"some {wanted:,} samples{', as many of each data set' if len(apart) > 1 else ''}"
    if wanted > scored:
        which = f"all of these samples and some {_round(wanted - scored):,} more"
    worth = f"a gain of {100 * gain:.1f} points"
    return f"{begin} Label {which}: they would show {worth}, if there is one."


def _about(audit: Audit, name: str) -> str:
    """Whether to replace a method with DaWin, and why."""
    answer, harms = answer_to(audit, name), harmed(audit, name)
    where, difference = _where(audit), _least(audit, name)
    points, on = f"{_points(difference)} points {where}", _on(harms)
    if answer == "yes":
        but = f", but harms on {on}" if harms else ""
        return f"Replace {name} with DaWin, which gains {points}{but}."
    if answer == "no":
        most = f", and harms on {on}" if audit.suite is not None and harms else ""
        return f"Do not replace {name}: DaWin loses {points}{most}."
    if harms:
        return f"Do not replace {name}: DaWin harms on {on}, and no gain is shown {where}."
    if difference.value <= 0:
        return (
            f"Not shown: keep {name}. DaWin has no gain {where} "
            f"({_points(difference, '+')} points) that more samples would show."
        )
    factor = samples_for(difference, len(audit.primary))
    if factor > WORTH_WHILE:
        return (
            f"Not shown: keep {name}. DaWin's gain, {points}, is too small for {WORTH_WHILE} times "
            f"as many samples to show."
        )
    names = audit.suite.datasets if audit.suite else [row.dataset for row in judged_rows(audit)]
    scored = sum(row.labelled for row in audit.labelled if row.dataset in names)
    more = _round(max(factor - 1, LEAST_MORE) * scored)
    return (
        f"Not shown: score some {more:,} more samples with labels before you replace {name}. "
        f"DaWin's gain, {points}, would be significant then, if it is real."
    )


def _on(harms: Sequence[tuple[str, Difference]]) -> str:
    """Where it harms, and how much."""
    units = [" points", *[""] * len(harms)]
    named = zip(harms, units, strict=False)
    return both([f"{name} ({_points(found, '+')}{unit})" for (name, found), unit in named])


def _points(difference: Difference | MeanDifference, sign: str = "") -> str:
    """The figure alone: its interval stands in the sentences below. Without `sign` its size."""
    value = 100 * difference.value
    shown = f"{value:+.1f}" if sign else f"{abs(value):.1f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def _about_many(audit: Audit, answers: dict[str, str]) -> list[str]:
    """The experts by what to do about them; each is named in the table."""
    of = {a: [n for n in answers if answers[n] == a] for a in ("no", "yes", "not shown")}
    count, where = len(answers), _where(audit)
    if len(of["yes"]) == count:
        least = min(answers, key=lambda name: _least(audit, name).value)
        return [
            f"Replace any of the {count} experts with DaWin: it gains on each {where}, the least "
            f"on {least} ({_points(_least(audit, least))} points)."
        ]
    said = {
        "no": "Do not replace {}: DaWin loses or harms.",
        "yes": f"Replace {{}} with DaWin, which gains {where}.",
        "not shown": "Against {} nothing is shown.",
    }
    return [said[a].format(_some(names, count)) for a, names in of.items() if names]


def _some(names: Sequence[str], count: int) -> str:
    if len(names) <= FEW_EXPERTS:
        return both(names)
    return f"{len(names)} of the {count} experts"


def tone_of(audit: Audit) -> str:
    """How a page shows it: `doubted`, `yes` or `no`; empty where neither can be said."""
    if audit.doubts:
        return "doubted"
    if not audit.labelled or audit.incumbent is None:
        return ""
    answer = _sought(audit, audit.incumbent)
    return answer if answer in ("yes", "no") else ""


def _sought(audit: Audit, name: str) -> str:
    """The answer, by which a method that DaWin harms somewhere without a gain is not replaced."""
    answer = answer_to(audit, name)
    return "no" if answer == "not shown" and harmed(audit, name) else answer


def _where(audit: Audit) -> str:
    if audit.suite is not None:
        return f"on average over the {'shifts' if audit.in_distribution else 'data sets'}"
    return f"on {both([row.dataset for row in judged_rows(audit)])}"


def _least(audit: Audit, name: str) -> Difference | MeanDifference:
    """What the answer goes by; of several the worst."""
    return min(judged_by(audit, name), key=lambda difference: difference.value)


def _round(count: float) -> int:
    """To two digits: it is a plan and no measurement."""
    return int(float(f"{count:.2g}"))
