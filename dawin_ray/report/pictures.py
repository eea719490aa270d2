"""The report's pictures, as SVG that inherits the page's text colour and needs no network."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.special import expit, logit

from dawin_ray.method import DAWIN, FEW_EXPERTS
from dawin_ray.report.audit import HISTOGRAM_BINS
from dawin_ray.report.figures import Audit, Components, DatasetAudit
from dawin_ray.report.tally import Report
from dawin_ray.statistics import KINDS, DriftStatistic

INK = "#123456"  # stands for the page's text colour until the SVG is written

# In the order of the experts; an eighth and more begin again.
PALETTE = ("#2f7fc1", "#d97b29", "#3b9c63", "#8d6cc4", "#c2527e", "#8a8a3a", "#2a9d9d", "#7a5c3e")

OURS, GREY = "#d1383d", "#8c8c8c"

STYLE: dict[Any, Any] = {  # the type of a key would be the list of all
   
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 9, "axes.titlesize": 10,
    "text.parse_math": False,  # a `$` in a name is a `$`
}  # fmt: skip

MARKERS = "^vDPX<>h"  # of the methods that are neither experts nor on the static curve

SVG_DPI = 72  # of all that matplotlib writes

PANEL = (3.4, 2.7)  # inches

SMALL_PANEL = (2.6, 1.7)  # of a small multiple

Panel = Callable[[Axes], None]

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
    panels: Sequence[Panel],
    size: tuple[float, float] = PANEL,
    across: int = 2,
) -> str:
    """The panels side by side, `across` in a row, as an <svg> element."""
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), dpi=SVG_DPI)
        FigureCanvasSVG(figure)  # whose measures of text the layout goes by
        for i, panel in enumerate(panels, 1):
            panel(figure.add_subplot(rows, columns, i))
        ConstrainedLayoutEngine().execute(figure)  # a figure that does it itself is drawn twice
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def of_suite(audit: Audit) -> str | None:
    """Mean accuracy over the suite of every method, with its interval; None without a suite."""
    suite = audit.suite
    if suite is None:
        return None
    names = sorted(audit.names, key=lambda name: suite.accuracy[name].value)
    bounds = {method.name for method in audit.methods if method.is_bound}

    def panel(axes: Axes) -> None:
        for y, name in enumerate(names):
            found = suite.accuracy[name]
            colour = OURS if name == DAWIN else GREY if name in bounds else PALETTE[0]
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, lw=2)
            axes.plot(100 * found.value, y, "o", color=colour, ms=5)
        axes.set_yticks(range(len(names)), [audit.shown[name] for name in names])
        axes.set_xlabel(f"mean accuracy over {len(suite.datasets)} data sets, %")
        axes.grid(axis="x", alpha=0.25)

    return draw("suite", [panel], (6.4, 0.9 + 0.24 * len(names)))


def of_batches(dataset: str, batches: Sequence[Report]) -> str | None:
    """Small multiples of a data set: each drift statistic over the batches, and the mean weights.

    `batches` are the oldest first; None where no batch has a statistic of the data set.
    """
    rows = [
        (batch, row, (batch.drift or {}).get(dataset))
        for batch in batches
        for row in batch.datasets
        if row.dataset == dataset
    ]
    found: dict[tuple[str, str | None, str | None], list[tuple[int, DriftStatistic]]] = {}
    for x, (_, _, drift) in enumerate(rows):
        for s in drift.statistics if drift else ():
            found.setdefault((s.kind, s.quantity, s.of), []).append((x, s))
    if not found:
        return None
    ticks = sorted({0, len(rows) // 2, len(rows) - 1})
    names = [(rows[x][0].batch or "")[:10] for x in ticks]  # the day is enough

    def finish(axes: Axes, title: str) -> None:
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xticks(ticks, names, fontsize=7)

    def statistic(points: Sequence[tuple[int, DriftStatistic]], axes: Axes) -> None:
        x, first = [x for x, _ in points], points[0][1]
        axes.plot(x, [s.value for _, s in points], "o-", color=PALETTE[0], ms=3, lw=1)
        axes.plot(x, [s.threshold for _, s in points], "--", color=GREY, lw=1)
        alarms = [(x, s.value) for x, s in points if s.alarm]
        axes.plot([x for x, _ in alarms], [y for _, y in alarms], "o", color=OURS, ms=5)
        axes.set_ylim(bottom=0)
        of = f"{first.quantity} of {first.of}\n{KINDS[first.kind]}"
        finish(axes, of if first.quantity else SHOWN_KINDS[first.kind])

    def mean(i: int, axes: Axes) -> None:
        scored = [(x, r.mean_coefficient) for x, (_, r, _) in enumerate(rows) if r.mean_coefficient]
        axes.plot(
            [x for x, _ in scored], [means[i] for _, means in scored], "o-", color=GREY, ms=3, lw=1
        )
        finish(axes, f"coefficient of {experts[i]}\nmean")

    experts = batches[-1].experts  # all batches have the same
    panels: list[Panel] = [partial(statistic, points) for points in found.values()]
    panels += [partial(mean, i) for i in range(len(experts))]
    return draw(f"batches of {dataset}", panels, SMALL_PANEL, across=3)


def of_robustness(audit: Audit) -> str | None:
    """Accuracy in distribution against the mean over the shifts, on logit axes.

    None where no in-distribution set is named, or one of the two has no labels.
    """
    suite = audit.suite
    inside = next((row for row in audit.labelled if row.dataset == audit.in_distribution), None)
    if inside is None or suite is None:
        return None

    def at(name: str) -> tuple[float, float]:
        shares = inside.methods[name].accuracy.value, suite.accuracy[name].value
        x, y = logit(np.clip(shares, 1e-4, 1 - 1e-4))
        return float(x), float(y)

    experts, colours = audit.experts, colours_of(audit.experts)
    curve = [(m.weight, m.name) for m in audit.methods if m.weight is not None]
    if len(experts) == 2:  # the ends of a curve that only two have
        curve += [(0.0, experts[0]), (1.0, experts[1])]
    others = [
        method.name for method in audit.methods
        if method.name not in {*experts, *(name for _, name in curve)}
        and not method.name.startswith("random")
    ]  # fmt: skip

    def panel(axes: Axes) -> None:
        points = np.array([at(name) for _, name in sorted(curve)])
        if len(points):
            axes.plot(*points.T, "o-", color=INK, alpha=0.6, ms=4, label="static interpolation")
        for name in experts:
            axes.annotate(name, at(name), textcoords="offset points", xytext=(6, -3))
            axes.plot(*at(name), "s", color=colours[name], ms=7)
        for i, name in enumerate(others):
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(*at(name), marker, color=GREY, ms=6, label=name)
        axes.plot(*at(DAWIN), "*", color=OURS, ms=14, label="DaWin")
        low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), axes.get_xlim()[1]
        axes.plot([low, high], [low, high], ":", color=GREY, lw=1, label="y = x")
        _share_axis(axes.xaxis, axes.get_xlim())
        _share_axis(axes.yaxis, axes.get_ylim())
        axes.set_xlabel(f"accuracy on {inside.dataset}, % (logit axis)")
        axes.set_ylabel("mean accuracy over the shifts, %")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw("robustness", [panel], (6.4, 3.8))


def _share_axis(axis: Axis, limits: tuple[float, float]) -> None:
    inside = [t for t in SHARE_TICKS if limits[0] <= logit(t) <= limits[1]]
    if len(inside) < 2:  # a narrow range has ticks of its own
        inside = np.round(expit(np.linspace(*limits, 5)[1:-1]), 3).clip(0.001, 0.999)
    axis.set_ticks([logit(t) for t in inside], [f"{100 * t:g}" for t in inside])


def of_dataset(row: DatasetAudit, experts: Sequence[str]) -> str:
    """Coefficients with their mixture; with labels calibration, risk-coverage and classes too."""
    colours = colours_of(experts)
    # of two experts one panel says it all: the other has what is left to 1
    shown = [1] if len(experts) == 2 else range(len(experts))
    panels: list[Panel] = [partial(_coefficients, row=row, experts=experts, i=i) for i in shown]
    if len(experts) > FEW_EXPERTS:  # a panel for each would be seconds of drawing, and too much
        panels = [partial(_spreads, row=row, experts=experts)]
    if row.labelled:
        panels += [
            partial(_reliability, row=row, colours=colours),
            partial(_risk, row=row, colours=colours),
            partial(_class_gains, row=row),
        ]
    else:
        panels.append(partial(_agreement, row=row, experts=experts))
    return draw(f"dataset-{row.dataset}", panels, across=2 if len(panels) <= 4 else 3)


def _coefficients(axes: Axes, row: DatasetAudit, experts: Sequence[str], i: int) -> None:
    """Those of the i-th expert, over the mixture's components and their sum."""
    counts = np.array(row.coefficient[experts[i]].histogram)
    width = 1 / HISTOGRAM_BINS
    middles = (np.arange(HISTOGRAM_BINS) + 0.5) * width
    density = counts / max(counts.sum(), 1) / width
    axes.bar(middles, density, width, color=colours_of(experts)[experts[i]], alpha=0.45)
    if row.mixture is not None:
        x = np.linspace(0.002, 0.998, 400)
        parts = _marginals(row.mixture, i, x)
        for part in parts:
            axes.plot(x, part, color=INK, alpha=0.6, lw=0.9)
        total = np.sum(parts, axis=0)
        axes.plot(x, total, color=INK, lw=1.6)
        axes.set_ylim(0, 1.1 * max(float(density.max()), float(np.median(total)), 1e-9))
    axes.set_title(f"weight of {experts[i]}" + (", mixture" if row.mixture else ""))
    left = f" ({experts[0]} has what is left to 1)" if len(experts) == 2 else ""
    axes.set_xlabel(f"coefficient{left}")
    axes.set_ylabel("density")


def _spreads(axes: Axes, row: DatasetAudit, experts: Sequence[str]) -> None:
    """Every expert's coefficients: QUANTILES as a thin and a thick line and a point; clusters."""
    concentrations = row.mixture.concentrations if row.mixture else ()
    means_KM = np.array([of / np.sum(of) for of in concentrations]).reshape(-1, len(experts))
    for y, (name, colour) in enumerate(zip(experts, colours_of(experts).values(), strict=False)):
        if quantiles := row.coefficient[name].quantiles:
            low, first, median, third, high = quantiles
            axes.plot([low, high], [y, y], color=colour, lw=1)
            axes.plot([first, third], [y, y], color=colour, lw=5, solid_capstyle="butt", alpha=0.6)
            axes.plot(median, y, "o", color=colour, ms=5)
        axes.plot(means_KM[:, y], np.full(len(means_KM), y), "|", color=INK, ms=9)
    axes.set_yticks(range(len(experts)), experts)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_title("weights" + (", means of clusters: |" if row.mixture else ""))
    axes.set_xlabel("coefficient: 5, 25, 50, 75, 95 %")


def _marginals(mixture: Components, i: int, x: np.ndarray) -> list[np.ndarray]:
    """Weighted densities of the i-th coefficient at x: a Dirichlet's entries are Beta."""
    found = []
    for weight, concentration in zip(mixture.weights, mixture.concentrations, strict=True):
        rest = sum(concentration[:i]) + sum(concentration[i + 1 :])
        density = weight * scipy.stats.beta.pdf(x, concentration[i], rest)
        found.append(np.nan_to_num(density, posinf=0.0))
    return found


def _reliability(axes: Axes, row: DatasetAudit, colours: Mapping[str, str]) -> None:
    axes.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
    for name, colour in colours.items():
        curve = row.methods[name].reliability
        x, y = [b.confidence for b in curve], [b.accuracy for b in curve]
        sizes = [3 + 70 * b.n / row.labelled for b in curve]  # few samples, small point
        axes.plot(x, y, lw=1, alpha=0.6, color=colour)
        axes.scatter(x, y, sizes, color=colour, zorder=3)
        axes.scatter([], [], 20, color=colour, label=_shown(name))
    axes.set_title("reliability")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(colours) > 4 else {}
    axes.legend(**beside)


def _risk(axes: Axes, row: DatasetAudit, colours: Mapping[str, str]) -> None:
    for name, colour in colours.items():
        curve = row.methods[name].risk_coverage
        axes.plot(
            [b.coverage for b in curve], [100 * b.risk for b in curve], lw=1.4, color=colour,
            label=_shown(name),
        )  # fmt: skip
    axes.set_title("errors among the most confident")
    axes.set_xlabel("coverage")
    axes.set_ylabel("risk, %")
    axes.set_ylim(bottom=0)


def _class_gains(axes: Axes, row: DatasetAudit) -> None:
    assert row.classes is not None, "only of labelled data sets"
    both = [*row.classes.gains, *reversed(row.classes.losses)]
    shown = list({found.index: found for found in both}.values())[::-1]
    names = [str(found.name or found.index)[:18] for found in shown]
    gains = [100 * found.shrunk_gain for found in shown]
    axes.barh(range(len(shown)), gains, color=[PALETTE[2] if g > 0 else OURS for g in gains])
    axes.set_yticks(range(len(shown)), names)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_title(f"classes: gain over {row.best_expert}")
    axes.set_xlabel("points, shrunk")


def _agreement(axes: Axes, row: DatasetAudit, experts: Sequence[str]) -> None:
    found, colours = row.agreement, colours_of(experts)
    bars = [("all experts agree", found.all_agree, GREY)]
    bars += [(f"DaWin = {n}", found.dawin_with.get(n, 0), colours[n]) for n in experts]
    bars.append(("DaWin = none", found.dawin_with_none, OURS))
    axes.barh(range(len(bars)), [100 * b[1] for b in bars], color=[b[2] for b in bars])
    axes.set_yticks(range(len(bars)), [b[0] for b in bars])
    axes.set_xlim(0, 100)
    axes.set_title("who agrees")
    axes.set_xlabel("% of samples")


def _shown(name: str) -> str:
    return "DaWin" if name == DAWIN else name
