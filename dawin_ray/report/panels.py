"""A data set's pictures: coefficients with their mixture, calibration, risk, classes, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy
from matplotlib.axes import Axes

from dawin_ray.method import DAWIN, FEW_EXPERTS
from dawin_ray.names import escaped
from dawin_ray.report.audit import HISTOGRAM_BINS
from dawin_ray.report.figures import Components, DatasetAudit
from dawin_ray.report.pictures import (
    GREY,
    INK,
    OURS,
    PALETTE,
    PANEL,
    Panel,
    Picture,
    colours_of,
    dashes_of,
    draw,
    short,
)
from dawin_ray.report.words import shown_number, shown_percent

LONGEST = 16  # characters of a name beside a panel, of which half is the panel's

LINE = 0.19  # inches of height that a name takes

LONE = 1  # samples of a bin whose accuracy is 0 or 1 whatever the method

OUR_WIDTH, THEIR_WIDTH = 2.0, 1.4  # of DaWin's and the experts' lines, in points


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    """A picture to be drawn: `told` has its figures for who cannot see it."""

    title: str
    caption: str
    told: str
    panel: Panel


def of_dataset(row: DatasetAudit, experts: Sequence[str]) -> list[Picture]:
    """Coefficients with their mixture; with labels calibration, risk-coverage and classes too."""
    found = _of_coefficients(row, experts)
    found += _of_labels(row, experts) if row.labelled else [_of_agreement(row, experts)]
    size = (PANEL[0], max(PANEL[1], 0.6 + LINE * (2 + len(experts))))
    return [
        Picture(
            svg=draw(
                f"{row.dataset}, {i}",
                [sketch.panel],
                size,
                label=f"{sketch.title}, {row.dataset}. {sketch.told}",
            ),
            title=sketch.title,
            caption=sketch.caption,
        )
        for i, sketch in enumerate(found)
    ]


def _of_coefficients(row: DatasetAudit, experts: Sequence[str]) -> list[_Sketch]:
    told = "Means: " + _listed({name: row.coefficient[name].mean for name in experts})
    if len(experts) > FEW_EXPERTS:  # a panel for each would be seconds of drawing, and too much
        clusters = "; |: means of the clusters." if row.mixture else "."
        return [
            _Sketch(
                title="Weights of the experts",
                caption=f"5, 25, 50, 75 and 95 % of the samples{clusters}",
                told=told,
                panel=partial(_spreads, row=row, experts=experts),
            )
        ]
    # of two experts one panel says it all: the other has what is left to 1
    shown = [1] if len(experts) == 2 else range(len(experts))
    rest = f"; {experts[0]} has what is left to 1" if len(experts) == 2 else ""
    mixture = " and of the mixture" if row.mixture else ""
    return [
        _Sketch(
            title=f"Weight of {experts[i]}",
            caption=f"Density of the samples' coefficients{mixture}{rest}.",
            told=told,
            panel=partial(_coefficients, row=row, experts=experts, i=i),
        )
        for i in shown
    ]


def _of_labels(row: DatasetAudit, experts: Sequence[str]) -> list[_Sketch]:
    assert row.classes is not None, "only of labelled data sets"
    scores = {name: row.methods[name] for name in (*experts, DAWIN)}
    lone = sum(b.n for score in scores.values() for b in score.reliability if b.n <= LONE)
    alone = f" Not drawn: {lone:,} sample{'s' if lone > 1 else ''} alone in a bin of a method."
    gains = [
        f"{_name(c.name, c.index)} {100 * c.shrunk_gain:+.1f}"
        for c in (*row.classes.gains, *row.classes.losses)
    ]
    return [
        _Sketch(
            title="Reliability",
            caption="Accuracy over confidence; on the dotted line they are equal. Larger points "
            f"have more samples.{alone if lone else ''}",
            told="Expected calibration errors: " + _listed({n: s.ece for n, s in scores.items()}),
            panel=partial(_reliability, row=row, experts=experts),
        ),
        _Sketch(
            title="Errors among the most confident",
            caption="Share of wrong answers, where only so many of the most confident are taken.",
            told="Means over all coverages: " + _listed({n: s.aurc for n, s in scores.items()}),
            panel=partial(_risk, row=row, experts=experts),
        ),
        _Sketch(
            title=f"Classes: gain over {row.best_expert}",
            caption="Shrunk to the overall gain where a class has few samples.",
            told=f"Points: {', '.join(gains) or 'none'}",
            panel=partial(_class_gains, row=row),
        ),
    ]


def _of_agreement(row: DatasetAudit, experts: Sequence[str]) -> _Sketch:
    found = row.agreement
    with_each = ", ".join(f"{n} {shown_percent(s)}" for n, s in found.dawin_with.items())
    return _Sketch(
        title="Who agrees",
        caption="All experts with each other, and DaWin with each of them and with none.",
        told=f"All experts on {shown_percent(found.all_agree)} %; DaWin with, in %: {with_each}",
        panel=partial(_agreement, row=row, experts=experts),
    )


def _listed(figures: Mapping[str, float | None]) -> str:
    named = {"DaWin" if name == DAWIN else name: value for name, value in figures.items()}
    return ", ".join(f"{name} {shown_number(value)}" for name, value in named.items())


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
    axes.set_xlabel("coefficient")
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
    axes.set_yticks(range(len(experts)), [short(name, LONGEST) for name in experts])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("coefficient")


def _marginals(mixture: Components, i: int, x: np.ndarray) -> list[np.ndarray]:
    """Weighted densities of the i-th coefficient at x: a Dirichlet's entries are Beta."""
    found = []
    for weight, concentration in zip(mixture.weights, mixture.concentrations, strict=True):
        rest = sum(concentration[:i]) + sum(concentration[i + 1 :])
        density = weight * scipy.stats.beta.pdf(x, concentration[i], rest)
        found.append(np.nan_to_num(density, posinf=0.0))
    return found


def _reliability(axes: Axes, row: DatasetAudit, experts: Sequence[str]) -> None:
    axes.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
    for name, colour in colours_of(experts).items():
        curve = [b for b in row.methods[name].reliability if b.n > LONE]
        x, y = [b.confidence for b in curve], [b.accuracy for b in curve]
        sizes = [3 + 70 * b.n / row.labelled for b in curve]  # few samples, small point
        axes.plot(x, y, color=colour, **_line(name, experts))
        axes.scatter(x, y, sizes, color=colour, zorder=3)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")


def _risk(axes: Axes, row: DatasetAudit, experts: Sequence[str]) -> None:
    for name, colour in colours_of(experts).items():
        curve = row.methods[name].risk_coverage
        x, y = [b.coverage for b in curve], [100 * b.risk for b in curve]
        axes.plot(x, y, color=colour, **_line(name, experts))
    axes.set_xlabel("coverage")
    axes.set_ylabel("risk, %")
    axes.set_ylim(bottom=0)


def _line(name: str, experts: Sequence[str]) -> dict[str, Any]:
    dashes = dashes_of(experts)[name]
    style = (0, tuple(map(float, dashes.split()))) if dashes else "solid"
    return {"lw": OUR_WIDTH if name == DAWIN else THEIR_WIDTH, "linestyle": style}


def _class_gains(axes: Axes, row: DatasetAudit) -> None:
    assert row.classes is not None, "only of labelled data sets"
    both = [*row.classes.gains, *reversed(row.classes.losses)]
    shown = list({found.index: found for found in both}.values())[::-1]
    names = [short(_name(found.name, found.index), LONGEST) for found in shown]
    gains = [100 * found.shrunk_gain for found in shown]
    axes.barh(range(len(shown)), gains, color=[PALETTE[2] if g > 0 else OURS for g in gains])
    axes.set_yticks(range(len(shown)), names)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_xlabel("points, shrunk")


def _name(name: str | None, index: int) -> str:
    return escaped(str(name or index))


def _agreement(axes: Axes, row: DatasetAudit, experts: Sequence[str]) -> None:
    found, colours = row.agreement, colours_of(experts)
    bars = [("all experts", found.all_agree, GREY)]
    bars += [(short(n, LONGEST), found.dawin_with.get(n, 0), colours[n]) for n in experts]
    bars.append(("no expert", found.dawin_with_none, OURS))
    axes.barh(range(len(bars)), [100 * b[1] for b in bars], color=[b[2] for b in bars])
    axes.set_yticks(range(len(bars)), [b[0] for b in bars])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of samples")
