"""TODO: report.words (of audit, page)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dawin_ray.report.finished import ALPHA, DAWIN
from dawin_ray.statistics import scores


def words_of(result: Mapping[str, Any]) -> list[str]:
    """What the figures allow to say, the first sentence the answer; nothing beyond them."""
    experts, suite = result["experts"], result["suite"]
    labelled = [r for r in result["datasets"] if r["labelled"]]
    if not labelled:
        rows = sum(r["rows"] for r in result["datasets"])
        apart = [r["agreement"]["all_agree"] for r in result["datasets"] if r["rows"]]
        return [
            f"No data set has labels, so nothing here says whether DaWin is better: {rows:,} "
            f"samples were scored, and the experts agree on {100 * min(apart):.1f} to "
            f"{100 * max(apart):.1f} % of a data set's samples.",
            "Where they agree, interpolation seldom changes the answer; where they do not, "
            "labels of a few hundred samples would tell who is right.",
        ]
    words = []
    if suite is not None:
        best = max(experts, key=lambda name: suite["accuracy"][name]["value"])
        away = "the shifts" if result["in_distribution"] else "the data sets"
        words.append(
            f"Averaged over {away} ({len(suite['datasets'])}), DaWin is right on "
            f"{_percent(suite['accuracy'][DAWIN])} and the best single expert, {best}, on "
            f"{_percent(suite['accuracy'][best])}: {_said(suite['differences'][best])}."
        )
    for row in labelled:
        if suite is not None and row["dataset"] != result["in_distribution"]:
            continue
        best = row["best_expert"]
        inside = row["dataset"] == result["in_distribution"]
        where = f"In distribution ({row['dataset']})" if inside else f"On {row['dataset']}"
        words.append(
            f"{where}, DaWin is right on "
            f"{_percent(row['methods'][DAWIN]['accuracy'])} and the best single expert, {best}, on "
            f"{_percent(row['methods'][best]['accuracy'])}: {_said(row['differences'][best])}."
        )
    rivals = [m for m in result["methods"] if not m["uses_labels"]]
    for method in rivals:
        says: dict[str, list[str]] = {"better": [], "worse": [], "no significant difference": []}
        for row in labelled:
            says[row["differences"][method["name"]]["says"]].append(row["dataset"])
        parts = [f"{word} on {', '.join(says[word])}" for word in ("better", "worse") if says[word]]
        none = says["no significant difference"]
        if none:
            parts.append(
                f"no significant difference on {len(none)} of {len(labelled)}"
                if parts else f"no significant difference on any of {len(labelled)} data sets"
            )  # fmt: skip
        words.append(f"DaWin against {method['name']}: {'; '.join(parts)}.")
    tests = len(rivals) * len(labelled)
    words.append(
        f"Significant: exact McNemar test, p adjusted by Holm over all {tests} comparisons of a "
        f"data set with a method, below {ALPHA:.2g}; means over data sets: paired bootstrap "
        f"intervals that hold together at {100 * scores.LEVEL:g} %."
    )
    return words


def _said(difference: Mapping[str, Any]) -> str:
    points = (
        f"{100 * difference['value']:+.1f} points "
        f"[{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    ).replace("-", "\N{MINUS SIGN}")
    return {
        "better": f"{points}, a significant gain",
        "worse": f"{points}, a significant loss",
        "no significant difference": f"{points}, no significant difference",
    }[difference["says"]]


def _percent(interval: Mapping[str, Any]) -> str:
    return (
        f"{100 * interval['value']:.1f} % [{100 * interval['low']:.1f}, "
        f"{100 * interval['high']:.1f}]"
    )


SHOWN_P = 1e-4  # smaller p-values are shown as smaller than it


def shown_percent(interval: Mapping[str, Any] | float | None) -> str:
    """A share in per cent, with its interval where it has one."""
    if interval is None:
        return "–"
    if isinstance(interval, Mapping):
        low, high = 100 * interval["low"], 100 * interval["high"]
        return f"{100 * interval['value']:.1f} [{low:.1f}, {high:.1f}]"
    return f"{100 * interval:.1f}"


def shown_points(interval: Mapping[str, Any]) -> str:
    """A difference in points, with its interval and its sign."""
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "\N{MINUS SIGN}")


def shown_p(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return "–"
    return f"< {SHOWN_P:g}" if value < SHOWN_P else f"{value:.2g}"
