"""The pictures of any number of experts: each of them is named, none is left out."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from dawin_ray.report import panels, pictures
from dawin_ray.report.figures import Bin, Components
from tests.unit.report.made import concentrations, drift_of, report_record


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_each_expert_has_a_panel_of_coefficients(found, experts):
    for row in found.datasets[::3]:
        drawn = panels.of_dataset(row, found.experts)
        titles = [p.title for p in drawn if p.title.lower().startswith("weight")]
        if len(experts) == 8:  # one panel for all
            assert titles == ["Weights of the experts"]
            assert "|: means of the clusters" in drawn[0].caption
            assert set(experts) <= set(texts(drawn[0].svg))
        elif len(experts) == 2:
            assert titles == [f"Weight of {experts[1]}"]
            assert f"{experts[0]} has what is left to 1" in drawn[0].caption
        else:
            assert titles == [f"Weight of {name}" for name in experts]
        if not row.labelled:
            assert {*experts, "all experts", "no expert"} <= set(texts(drawn[-1].svg))


def test_lines_are_told_apart_by_more_than_their_colour(experts):
    keys = pictures.legend_of(experts)
    assert [key.name for key in keys] == [*experts, "DaWin"]
    assert len({(key.colour, key.dashes) for key in keys}) == len(keys)
    for one, other in itertools.pairwise(keys):
        assert one.dashes != other.dashes


def test_bins_of_one_sample_are_not_drawn_and_counted(found):
    row = found.labelled[0]
    bins = (Bin(confidence=0.1, accuracy=1.0, n=1), Bin(confidence=0.5, accuracy=0.5, n=9),
            Bin(confidence=0.9, accuracy=0.8, n=50))  # fmt: skip
    scores = {n: replace(s, reliability=bins) for n, s in row.methods.items()}
    row = replace(row, methods=scores)
    (shown,) = [p for p in panels.of_dataset(row, found.experts) if p.title == "Reliability"]
    count = len(found.experts) + 1
    assert f"Not drawn: {count} samples alone in a bin of a method." in shown.caption
    figure = Figure()
    axes = figure.add_subplot()
    panels._reliability(axes, row, found.experts)
    assert {x for c in axes.collections for x in c.get_offsets()[:, 0]} == {0.5, 0.9}
    assert {0.1} & {x for line in axes.lines for x in line.get_xdata()} == set()
    none = replace(row, methods={n: replace(s, reliability=bins[1:]) for n, s in scores.items()})
    (shown,) = [p for p in panels.of_dataset(none, found.experts) if p.title == "Reliability"]
    assert "Not drawn" not in shown.caption


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's of two colours."""

    def light(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_is_seen_on_a_light_and_on_a_dark_page():
    style = (Path(pictures.__file__).parent / "templates" / "style.css.j2").read_text()
    pages = set(re.findall(r"--(?:page|card): (#\w{6});", style))
    assert len(pages) == 4
    for colour in (*pictures.PALETTE, pictures.OURS, pictures.GREY):
        assert min(contrast(colour, ground) for ground in pages) >= 3, colour


@pytest.mark.parametrize("count", [2, 3, 8])
def test_marginals_are_those_of_the_dirichlet(count):
    rows_KM = concentrations(count)
    mixture = Components(
        concentrations=tuple(map(tuple, rows_KM.tolist())), weights=(0.5, 0.3, 0.2),
        mean_log_likelihood=0.0, converged=True, iterations=1, samples=1.0,
    )  # fmt: skip
    x = np.linspace(0, 1, 2001)[1:-1]
    drawn = stats.dirichlet(rows_KM[1]).rvs(20_000, random_state=0)
    for i in range(count):
        part = panels._marginals(mixture, i, x)[1] / 0.3
        assert np.trapezoid(part, x) == pytest.approx(1, abs=0.01)
        assert np.trapezoid(part * x, x) == pytest.approx(drawn[:, i].mean(), abs=0.01)


def test_the_static_curve_is_of_two_experts(found, experts):
    names = [key.name for key in pictures.of_robustness(found).legend]
    assert {*experts, "DaWin"} <= set(names)
    assert ("static interpolation" in names) == (len(experts) == 2)


def test_no_two_of_eight_experts_have_one_colour():
    names = [f"task_{i}" for i in range(8)]
    assert len(set(pictures.colours_of(names).values())) == 9  # and DaWin's


def test_batches_show_the_weights_of_every_expert(experts):
    batches = [
        report_record(
            experts, {"set": True}, batch=f"2026-11-2{day}T0600", drift={"set": drift_of(experts)}
        )
        for day in range(3)
    ]
    drawn = pictures.of_batches("set", batches)
    titles = [picture.title for picture in drawn]
    assert [t for t in titles if t.endswith(", mean")] == [
        f"coefficient of {name}, mean" for name in experts
    ]
    assert all(len([t for t in titles if f"coefficient of {n}," in t]) == 2 for n in experts)
    assert all("2026-11-20" in texts(picture.svg) for picture in drawn)
    assert pictures.of_batches("other", batches) == []


def test_long_names_keep_both_ends():
    name = "a_very_long_name_of_a_method_that_ends_in_" + "17"
    shown = pictures.short(name)
    assert len(shown) == pictures.LONGEST
    assert shown.startswith("a_very")
    assert shown.endswith("ends_in_17")
    assert pictures.short("plain") == "plain"


@pytest.mark.parametrize("name", ["$x", "a $\\frac$ b", "<b>&", "$$"])
def test_a_name_in_a_picture_is_a_name(name):
    svg = pictures.draw("x", [lambda axes: axes.set_title(name)])
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg
