"""The pictures of any number of experts: each of them is named, none is left out."""

import re

import numpy as np
import pytest
from scipy import stats

from dawin_ray.report import pictures
from dawin_ray.report.figures import Components
from tests.unit.report.made import concentrations, drift_of, report_record


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_each_expert_has_a_panel_of_coefficients(found, experts):
    for row in found.datasets[::3]:
        shown = texts(pictures.of_dataset(row, found.experts))
        titles = [text for text in shown if text.startswith("weight of ")]
        if len(experts) == 8:  # one panel for all
            assert "weights, means of clusters: |" in shown
            assert set(experts) <= set(shown)
            assert titles == []
        elif len(experts) == 2:
            assert titles == [f"weight of {experts[1]}, mixture"]
            assert f"coefficient ({experts[0]} has what is left to 1)" in shown
        else:
            assert titles == [f"weight of {name}, mixture" for name in experts]
        named = experts if row.labelled else [f"DaWin = {name}" for name in experts]
        assert set(named) <= set(shown)


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
        part = pictures._marginals(mixture, i, x)[1] / 0.3
        assert np.trapezoid(part, x) == pytest.approx(1, abs=0.01)
        assert np.trapezoid(part * x, x) == pytest.approx(drawn[:, i].mean(), abs=0.01)


def test_the_static_curve_is_of_two_experts(found, experts):
    shown = texts(pictures.of_robustness(found))
    assert set(experts) <= set(shown)
    assert ("static interpolation" in shown) == (len(experts) == 2)


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
    shown = texts(pictures.of_batches("set", batches))
    assert shown.count("mean") == len(experts)
    assert all(shown.count(f"coefficient of {name}") == 2 for name in experts)  # and its PSI
    assert "2026-11-20" in shown
    assert pictures.of_batches("other", batches) is None


@pytest.mark.parametrize("name", ["$x", "a $\\frac$ b", "<b>&", "$$"])
def test_a_name_in_a_picture_is_a_name(name):
    svg = pictures.draw("x", [lambda axes: axes.set_title(name)])
    assert name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg
