"""The report's pictures, as SVG that inherits the page's text colour and needs no network.

Each is a small one that a page puts beside others, as many as there is room for. Legends and titles
are the page's own text: they cover nothing, and long names wrap. `panels` has those of a data set.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.markers import MarkerStyle
from scipy.special import expit, logit

from dawin_ray.method import DAWIN
from dawin_ray.report.figures import Audit
from dawin_ray.report.tally import Report
from dawin_ray.report.words import shown_percent
from dawin_ray.statistics import KINDS, DriftStatistic

INK = "#123456"  # stands for the page's text colour until the SVG is written

# In the order of the experts; a ninth and more begin again. Each is told from a light page and from
# a dark one (WCAG 2.1, 1.4.11: contrast of 3).
PALETTE = ("#2f7fc1", "#cf7222", "#3b9c63", "#8d6cc4", "#c2527e", "#87873a", "#289797", "#93714c")

# Of lines, as SVG has dashes, so that not only the colour tells them apart; DaWin's is whole.
DASHES = ("6 2", "2 2", "8 2 2 2", "1 2")

OURS, GREY = "#d1383d", "#8c8c8c"

STYLE: dict[Any, Any] = {  # the type of a key would be the list of all
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False,  # a `$` in a name is a `$`
}  # fmt: skip

MARKERS = "^vDPX<>h"  # of the methods that are neither experts nor on the static curve

SVG_DPI = 72  # of all that matplotlib writes

PANEL = (3.0, 2.5)  # inches

SMALL_PANEL = (2.4, 1.3)  # of a small multiple

LONGEST = 26  # characters of a name in a picture; of a longer one its middle is left out

Panel = Callable[[Axes], None]

SHOWN_KINDS = {
    "occupancy": "shares of the clusters, chi-square",
    "disagreement": "disagreement of the experts, difference of shares",
}  # fmt: skip

SHARE_TICKS = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
SHARE_STEPS = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # of narrow ranges

ENOUGH_TICKS = 3


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An <svg> element, its title and what else stands below it."""

    svg: str
    title: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An entry of a legend: a line with these dashes, or a mark that is a polygon around 0, 0."""

    name: str
    colour: str
    dashes: str = ""
    points: str = ""


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each method; DaWin has its own."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)} | {DAWIN: OURS}


def dashes_of(names: Sequence[str]) -> dict[str, str]:
    """Those of each method's line, as SVG has them; DaWin's has none."""
    return {name: DASHES[i % len(DASHES)] for i, name in enumerate(names)} | {DAWIN: ""}


def legend_of(experts: Sequence[str]) -> list[Key]:
    """The lines of the experts and of DaWin, in every picture of a data set."""
    dashes = dashes_of(experts)
    return [
        Key(name="DaWin" if name == DAWIN else name, colour=colour, dashes=dashes[name])
        for name, colour in colours_of(experts).items()
    ]


def short(name: str, longest: int = LONGEST) -> str:
    """A name of at most so many characters: long ones differ at their ends, if anywhere."""
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def draw(
    name: str,
    panels: Sequence[Panel],
    size: tuple[float, float] = PANEL,
    across: int = 2,
    label: str = "",
) -> str:
    """The panels side by side, `across` in a row, as an <svg> element.

    `name` is unique in a page; `label` tells who cannot see it what it shows.
    """
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
    return _part_of_a_page(buffer.getvalue(), label or name)


def _part_of_a_page(svg: str, label: str) -> str:
    """An SVG file as an element among others: named, and without ids that each of them has."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    named = f'<svg role="img" aria-label="{html.escape(label)}"'
    return svg.replace("<svg", named, 1).replace(INK, "currentColor")


def of_suite(audit: Audit) -> Picture | None:
    """Mean accuracy over the suite of every method, with its interval; None without a suite."""
    suite = audit.suite
    if suite is None:
        return None
    names = sorted(audit.names, key=lambda name: suite.accuracy[name].value)
    bounds = {method.name for method in audit.methods if method.is_bound}

    def panel(axes: Axes) -> None:
        axes.axvline(100 * suite.accuracy[DAWIN].value, color=OURS, lw=1, ls=":")
        for y, name in enumerate(names):
            found = suite.accuracy[name]
            colour = OURS if name == DAWIN else GREY if name in bounds else PALETTE[0]
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, lw=2)
            axes.plot(100 * found.value, y, "o", color=colour, ms=5)
        axes.set_yticks(range(len(names)), [short(audit.shown[name]) for name in names])
        axes.get_yticklabels()[names.index(DAWIN)].set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("mean accuracy, %")
        axes.grid(axis="x", alpha=0.25)

    title = f"Mean accuracy over {len(suite.datasets)} data sets"
    told = [f"{audit.shown[n]} {shown_percent(suite.accuracy[n].value)}" for n in reversed(names)]
    return Picture(
        svg=draw(
            "suite", [panel], (4.9, 0.6 + 0.23 * len(names)), label=f"{title}, %: {', '.join(told)}"
        ),
        title=title,
        caption="With intervals; the dotted line is DaWin's."
        + (" Grey: a bound, which uses labels or knows the task." if bounds else ""),
    )


def of_batches(dataset: str, batches: Sequence[Report]) -> list[Picture]:
    """Small multiples of a data set: each drift statistic over the batches, and the mean weights.

    `batches` are the oldest first; none where no batch has a statistic of the data set.
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
        return []
    ticks = sorted({0, len(rows) - 1})
    names = [(rows[x][0].batch or "")[:10] for x in ticks]  # the day is enough

    def finish(axes: Axes) -> None:
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xticks(ticks, names, fontsize=8)

    def statistic(points: Sequence[tuple[int, DriftStatistic]], axes: Axes) -> None:
        x = [x for x, _ in points]
        axes.plot(x, [s.value for _, s in points], "o-", color=PALETTE[0], ms=3, lw=1)
        axes.plot(x, [s.threshold for _, s in points], "--", color=GREY, lw=1)
        alarms = [(x, s.value) for x, s in points if s.alarm]
        axes.plot([x for x, _ in alarms], [y for _, y in alarms], "o", color=OURS, ms=5)
        axes.set_ylim(bottom=0)
        finish(axes)

    def mean(i: int, axes: Axes) -> None:
        scored = [(x, r.mean_coefficient) for x, (_, r, _) in enumerate(rows) if r.mean_coefficient]
        axes.plot(
            [x for x, _ in scored], [means[i] for _, means in scored], "o-", color=GREY, ms=3, lw=1
        )
        finish(axes)

    experts = batches[-1].experts  # all batches have the same
    panels: list[tuple[str, Panel]] = [
        (_title_of(points[0][1]), partial(statistic, points)) for points in found.values()
    ]
    panels += [(f"coefficient of {n}, mean", partial(mean, i)) for i, n in enumerate(experts)]
    return [
        Picture(
            svg=draw(
                f"batches of {dataset}, {i}", [panel], SMALL_PANEL, label=f"{title}, by batch"
            ),
            title=title,
        )
        for i, (title, panel) in enumerate(panels)
    ]


def _title_of(first: DriftStatistic) -> str:
    if not first.quantity:
        return SHOWN_KINDS[first.kind]
    return f"{first.quantity} of {first.of}, {KINDS[first.kind]}"


@dataclass(frozen=True, kw_only=True)
class Robustness(Picture):
    """The picture of the shifts, whose marks are of its own."""

    legend: tuple[Key, ...]


def of_robustness(audit: Audit) -> Robustness | None:
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
    marks = [(DAWIN, "*", OURS, 14), *((name, "s", colours[name], 7) for name in experts)]
    marks += [(name, MARKERS[i % len(MARKERS)], GREY, 6) for i, name in enumerate(others)]

    def panel(axes: Axes) -> None:
        points = np.array([at(name) for _, name in sorted(curve)])
        if len(points):
            axes.plot(*points.T, "o-", color=INK, alpha=0.6, ms=4)
        for name, mark, colour, size in reversed(marks):
            axes.plot(*at(name), mark, color=colour, ms=size)
        wide, high = axes.get_xlim(), axes.get_ylim()
        axes.axline((0, 0), slope=1, ls=":", color=GREY, lw=1)
        axes.set(xlim=wide, ylim=high)  # where the methods are, be that line there or not
        _share_axis(axes.xaxis, wide)
        _share_axis(axes.yaxis, high)
        axes.set_xlabel(f"accuracy on {short(inside.dataset)}, %")
        axes.set_ylabel("mean over the shifts, %")

    legend = [
        Key(name=audit.shown[name], colour=colour, points=_polygon(mark))
        for name, mark, colour, _ in marks
    ]
    if curve:
        legend.append(Key(name="static interpolation", colour="currentColor"))
    x, y = zip(
        *(at(name) for name in {*(n for n, *_ in marks), *(n for _, n in curve)}), strict=True
    )
    if max(min(x), min(y)) < min(max(x), max(y)):  # otherwise that line is out of sight
        legend.append(Key(name="as good on both", colour=GREY, dashes="2 2"))
    told = ", ".join(
        f"{audit.shown[name]} {shown_percent(inside.methods[name].accuracy.value)} and "
        f"{shown_percent(suite.accuracy[name].value)}"
        for name, *_ in marks
    )
    title = "In distribution against the shifts"
    label = f"Accuracy on {inside.dataset} and mean over the shifts, %: {told}"
    return Robustness(
        svg=draw("robustness", [panel], (4.4, 3.3), label=label),
        title=title,
        caption="Both axes are logit. Methods further up are better on the shifts, further right "
        f"on {inside.dataset}.",
        legend=tuple(legend),
    )


def _polygon(marker: str) -> str:
    """One of matplotlib's marks, as the points of an SVG polygon."""
    style = MarkerStyle(marker)
    scale = 13 if marker == "*" else 9
    corners = np.asarray(style.get_path().transformed(style.get_transform()).to_polygons()[0])
    return " ".join(f"{scale * x:.1f},{-scale * y:.1f}" for x, y in corners.tolist())


def _share_axis(axis: Axis, limits: tuple[float, float]) -> None:
    low, high = expit(limits)
    for ticks in (SHARE_TICKS, *(np.arange(step, 1, step) for step in SHARE_STEPS)):
        inside = [float(t) for t in ticks if low <= t <= high]
        if len(inside) >= ENOUGH_TICKS:
            break
    axis.set_ticks([logit(t) for t in inside], [f"{100 * t:.4g}" for t in inside])
