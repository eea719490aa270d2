"""Figures in words."""

import pytest

from dawin_ray.report.words import (
    shown_number,
    shown_p,
    shown_percent,
    shown_points,
)
from dawin_ray.statistics import Interval

FIGURE = Interval(value=0.125, low=-0.05, high=0.3, n=8)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (shown_percent(FIGURE), "12.5 [-5.0, 30.0]"),
        (shown_percent(FIGURE, " %"), "12.5 % [-5.0, 30.0]"),
        (shown_percent(0.5), "50.0"),
        (shown_percent(None), "–"),
        (shown_points(FIGURE), "+12.5 [−5.0, +30.0]"),
        (shown_points(FIGURE, " points"), "+12.5 points [−5.0, +30.0]"),
        (shown_number(FIGURE, 2), "0.12 [-0.05, 0.30]"),
        (shown_number(0.5), "0.500"),
        (shown_number(None), "–"),
        (shown_p(0.012345), "0.012"),
        (shown_p(1e-9), "< 0.0001"),
        (shown_p(None), "–"),
    ],
)
def test_figures_are_shown_as(shown, expected):
    assert shown == expected
