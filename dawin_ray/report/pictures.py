"""The report's pictures, as SVG that inherits the page's text colour and needs no network."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from scipy.special import expit, logit

from dawin_ray.report.audit import HISTOGRAM_BINS
from dawin_ray.report.finished import DAWIN
from dawin_ray.statistics import KINDS

INK = "#123456"  # stands for the page's text colour until the SVG is written

PALETTE = ("#2f7fc1", "#d97b29", "#3b9c63", "#8d6cc4", "#c2527e", "#8a8a3a")

OURS, GREY = "#d1383d", "#8c8c8c"

STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 9, "axes.titlesize": 10,
    "text.parse_math": False,  # a `$` in a name is a `$`
}  # fmt: skip

PANEL = (3.4, 2.7)  # inches

SMALL_PANEL = (2.6, 1.7)  # of a small multiple

SHOWN_KINDS = {
    "occupancy": "shares of the clusters\nchi-square",
    "disagreement": "disagreement of the experts\ndifference of shares",
}  # fmt: skip

SHARE_TICKS = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each method; DaWin has its own."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)} | {DAWIN: OURS}


def draw(
    name: str,
    panels: Sequence[Callable[[Axes], None]],
    size: tuple[float, float] = PANEL,
    across: int = 2,
) -> str:
    """The panels side by side, `across` in a row, as an <svg> element."""
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        for i, panel in enumerate(panels, 1):
            panel(figure.add_subplot(rows, columns, i))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def of_suite(audit: Mapping[str, Any]) -> str:
    """Mean accuracy over the suite of every method, with its interval."""
    suite = audit["suite"]
    names = [*(m["name"] for m in audit["methods"]), DAWIN]
    names.sort(key=lambda name: suite["accuracy"][name]["value"])
    bounds = {m["name"] for m in audit["methods"] if m["uses_labels"]}

    def panel(axes: Axes) -> None:
        for y, name in enumerate(names):
            found = suite["accuracy"][name]
            colour = OURS if name == DAWIN else GREY if name in bounds else PALETTE[0]
            axes.plot([100 * found["low"], 100 * found["high"]], [y, y], color=colour, lw=2)
            axes.plot(100 * found["value"], y, "o", color=colour, ms=5)
        shown = {name: f"{name} (uses labels)" for name in bounds} | {DAWIN: "DaWin"}
        axes.set_yticks(range(len(names)), [shown.get(name, name) for name in names])
        axes.set_xlabel(f"mean accuracy over {len(suite['datasets'])} data sets, %")
        axes.grid(axis="x", alpha=0.25)

    return draw("suite", [panel], (6.4, 0.9 + 0.24 * len(names)))


def of_batches(dataset: str, batches: Sequence[Mapping[str, Any]], expert: str) -> str | None:
    """Small multiples of a data set: each drift statistic over the batches, and the mean weight.

    `batches` are reports, the oldest first; None where no batch has a statistic of the data set.
    """
    rows = [(b["batch"], r, (b["drift"] or {}).get(dataset)) for b in batches
            for r in b["datasets"] if r["dataset"] == dataset]  # fmt: skip
    found: dict[tuple, list[tuple[int, Mapping[str, Any]]]] = {}
    for x, (_, _, drift) in enumerate(rows):
        for s in drift["statistics"] if drift else ():
            found.setdefault((s["kind"], s["quantity"], s["of"]), []).append((x, s))
    if not found:
        return None
    ticks = sorted({0, len(rows) // 2, len(rows) - 1})
    names = [rows[x][0][:10] for x in ticks]  # the day is enough

    def finish(axes: Axes, title: str) -> None:
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xticks(ticks, names, fontsize=7)

    def panel(key: tuple, points: Sequence[tuple[int, Mapping[str, Any]]]) -> Callable:
        def drawn(axes: Axes) -> None:
            x = [x for x, _ in points]
            axes.plot(x, [s["value"] for _, s in points], "o-", color=PALETTE[0], ms=3, lw=1)
            axes.plot(x, [s["threshold"] for _, s in points], "--", color=GREY, lw=1)
            alarms = [(x, s["value"]) for x, s in points if s["alarm"]]
            axes.plot(*zip(*alarms, strict=True) if alarms else ([], []), "o", color=OURS, ms=5)
            axes.set_ylim(bottom=0)
            kind, quantity, of = key
            finish(axes, f"{quantity} of {of}\n{KINDS[kind]}" if quantity else SHOWN_KINDS[kind])

        return drawn

    def weight(axes: Axes) -> None:
        axes.plot([r["mean_coefficient"][-1] for _, r, _ in rows], "o-", color=GREY, ms=3, lw=1)
        finish(axes, f"coefficient of {expert}\nmean")

    panels = [*(panel(key, points) for key, points in found.items()), weight]
    return draw(f"batches of {dataset}", panels, SMALL_PANEL, across=3)


def of_robustness(audit: Mapping[str, Any]) -> str | None:
    """Accuracy in distribution against the mean over the shifts, on logit axes.

    None where no in-distribution set is named, or one of the two has no labels.
    """
    inside = next(
        (r for r in audit["datasets"] if r["dataset"] == audit["in_distribution"]), None
    )  # fmt: skip
    if inside is None or not inside["labelled"] or audit["suite"] is None:
        return None

    def at(name: str) -> tuple[float, float]:
        x = inside["methods"][name]["accuracy"]["value"]
        y = audit["suite"]["accuracy"][name]["value"]
        return tuple(logit(np.clip([x, y], 1e-4, 1 - 1e-4)))

    experts = audit["experts"]
    curve = [(0.0, experts[0]), (1.0, experts[-1])] if len(experts) == 2 else []
    curve += [(m["weight"], m["name"]) for m in audit["methods"] if m["weight"] is not None]
    others = [
        m["name"] for m in audit["methods"]
        if m["name"] not in {name for _, name in curve} and not m["name"].startswith("random")
    ]  # fmt: skip

    def panel(axes: Axes) -> None:
        points = np.array([at(name) for _, name in sorted(curve)])
        if len(points):
            axes.plot(*points.T, "o-", color=PALETTE[0], ms=4, label="static interpolation")
        for i, name in enumerate(experts):
            axes.annotate(name, at(name), textcoords="offset points", xytext=(6, -3))
            axes.plot(*at(name), "s", color=PALETTE[1 + i], ms=7)
        markers = "^vDPX<>h"
        for i, name in enumerate(others):
            if name not in experts:
                axes.plot(*at(name), markers[i % len(markers)], color=GREY, ms=6, label=name)
        axes.plot(*at(DAWIN), "*", color=OURS, ms=14, label="DaWin")
        low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), axes.get_xlim()[1]
        axes.plot([low, high], [low, high], ":", color=GREY, lw=1, label="y = x")
        _share_axis(axes.xaxis, axes.get_xlim())
        _share_axis(axes.yaxis, axes.get_ylim())
        axes.set_xlabel(f"accuracy on {inside['dataset']}, % (logit axis)")
        axes.set_ylabel("mean accuracy over the shifts, %")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw("robustness", [panel], (6.4, 3.8))


def _share_axis(axis: Any, limits: tuple[float, float]) -> None:
    inside = [t for t in SHARE_TICKS if limits[0] <= logit(t) <= limits[1]]
    if len(inside) < 2:  # a narrow range has ticks of its own
        inside = np.round(expit(np.linspace(*limits, 5)[1:-1]), 3).clip(0.001, 0.999)
    axis.set_ticks([logit(t) for t in inside], [f"{100 * t:g}" for t in inside])


def of_dataset(row: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    """Coefficients with their mixture; with labels calibration, risk-coverage and classes too."""
    experts = audit["experts"]
    colours = colours_of(experts)
    panels = [lambda axes: _coefficients(axes, row, experts[-1])]
    if row["labelled"]:
        panels += [
            lambda axes: _reliability(axes, row, experts, colours),
            lambda axes: _risk(axes, row, experts, colours),
            lambda axes: _class_gains(axes, row),
        ]
    else:
        panels.append(lambda axes: _agreement(axes, row, experts, colours))
    return draw(f"dataset-{row['dataset']}", panels)


def _coefficients(axes: Axes, row: Mapping[str, Any], last: str) -> None:
    counts = np.array(row["coefficient"][last].get("histogram", [0] * HISTOGRAM_BINS))
    width = 1 / HISTOGRAM_BINS
    middles = (np.arange(HISTOGRAM_BINS) + 0.5) * width
    density = counts / max(counts.sum(), 1) / width
    axes.bar(middles, density, width, color=GREY, alpha=0.45)
    if row["mixture"]:
        x = np.linspace(0.002, 0.998, 400)
        total = np.zeros_like(x)
        for k, (weight, concentration) in enumerate(
            zip(row["mixture"]["weights"], row["mixture"]["concentrations"], strict=True)
        ):
            # the last entry of a Dirichlet is Beta distributed
            part = weight * stats.beta.pdf(x, concentration[-1], sum(concentration[:-1]))
            part = np.nan_to_num(part, posinf=0.0)
            total += part
            axes.plot(x, part, color=PALETTE[k % len(PALETTE)], lw=1.2)
        axes.plot(x, total, color=OURS, lw=1.6)
        axes.set_ylim(0, 1.1 * max(float(density.max()), float(np.median(total)), 1e-9))
    axes.set_title(f"weight of {last}" + (", mixture" if row["mixture"] else ""))
    axes.set_xlabel("coefficient")
    axes.set_ylabel("density")


def _reliability(
    axes: Axes, row: Mapping[str, Any], experts: Sequence[str], colours: Mapping[str, str]
) -> None:
    axes.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
    for name in (*experts, DAWIN):
        curve = row["methods"][name]["reliability"]
        x, y = [b["confidence"] for b in curve], [b["accuracy"] for b in curve]
        sizes = [3 + 70 * b["n"] / row["labelled"] for b in curve]  # few samples, small point
        axes.plot(x, y, lw=1, alpha=0.6, color=colours[name])
        label = "DaWin" if name == DAWIN else name
        axes.scatter(x, y, sizes, color=colours[name], label=label, zorder=3)
    axes.set_title("reliability")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    for handle in axes.legend().legend_handles:
        handle.set_sizes([20])


def _risk(
    axes: Axes, row: Mapping[str, Any], experts: Sequence[str], colours: Mapping[str, str]
) -> None:
    for name in (*experts, DAWIN):
        curve = row["methods"][name]["risk_coverage"]
        axes.plot(
            [b["coverage"] for b in curve], [100 * b["risk"] for b in curve], lw=1.4,
            color=colours[name], label="DaWin" if name == DAWIN else name,
        )  # fmt: skip
    axes.set_title("errors among the most confident")
    axes.set_xlabel("coverage")
    axes.set_ylabel("risk, %")
    axes.set_ylim(bottom=0)


def _class_gains(axes: Axes, row: Mapping[str, Any]) -> None:
    shown = [*row["classes"]["gains"], *reversed(row["classes"]["losses"])]
    shown = list({entry["class"]: entry for entry in shown}.values())[::-1]
    names = [str(entry["name"] or entry["class"])[:18] for entry in shown]
    gains = [100 * entry["shrunk_gain"] for entry in shown]
    axes.barh(range(len(shown)), gains, color=[PALETTE[2] if g > 0 else OURS for g in gains])
    axes.set_yticks(range(len(shown)), names)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_title(f"classes: gain over {row['best_expert']}")
    axes.set_xlabel("points, shrunk")


def _agreement(
    axes: Axes, row: Mapping[str, Any], experts: Sequence[str], colours: Mapping[str, str]
) -> None:
    found = row["agreement"]
    bars = [("all experts agree", found["all_agree"], GREY)]
    bars += [(f"DaWin = {n}", found["dawin_with"].get(n, 0), colours[n]) for n in experts]
    bars.append(("DaWin = none", found["dawin_with_none"], OURS))
    axes.barh(range(len(bars)), [100 * b[1] for b in bars], color=[b[2] for b in bars])
    axes.set_yticks(range(len(bars)), [b[0] for b in bars])
    axes.set_xlim(0, 100)
    axes.set_title("who agrees")
    axes.set_xlabel("% of samples")
