"""Where a sample lies in the mixture: the line is at its place, its cluster is the filled one."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from dawin_ray.method import Mixture
from dawin_ray.view.drawing import LABEL, MARGIN, WIDTH, drawing_of


def mixture(concentrations) -> Mixture:
    count = len(concentrations)
    return Mixture(
        concentrations=np.array(concentrations, dtype=float), weights=np.full(count, 1 / count),
        mean_log_likelihood=0.0, converged=True, iterations=1, samples=9.0,
    )  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 1e-6, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("sharp", [1.0, 40.0, 3e5])
def test_of_two_experts_the_line_is_at_the_weight(weight, sharp):
    drawn = drawing_of(mixture([[2 * sharp, sharp], [1, 4]]), [1 - weight, weight], 1, ["a", "b"])
    root = ElementTree.fromstring(drawn)
    assert "nan" not in drawn
    low, high = (float(t.text) for t in root.iter("text") if re.fullmatch(r"\d\.\d{3}", t.text))
    assert low <= weight + 1e-3
    assert high >= weight - 1e-3
    [line] = [e for e in root.iter("line") if e.get("class") == "here"]
    place = MARGIN + (WIDTH - 2 * MARGIN) * (weight - low) / (high - low)
    assert float(line.get("x1")) == pytest.approx(place, abs=1.5)
    own, other = (
        [e for e in root.iter("polygon") if e.get("class") == k] for k in ("own", "other")
    )
    assert (len(own), len(other)) == (1, 1)


def test_of_more_each_has_a_line_with_the_means_of_the_clusters():
    found = mixture([[8, 1, 1], [1, 8, 1]])
    root = ElementTree.fromstring(drawing_of(found, [0.7, 0.2, 0.1], 0, ["a", "b", "c"]))
    places = [float(e.get("x1")) for e in root.iter("line") if e.get("class") == "here"]
    span = WIDTH - LABEL - MARGIN
    assert places == pytest.approx([LABEL + span * share for share in (0.7, 0.2, 0.1)], abs=0.1)
    own = [float(e.get("cx")) for e in root.iter("circle") if e.get("class") == "own"]
    assert own == pytest.approx([LABEL + span * m for m in (0.8, 0.1, 0.1)], abs=0.1)
    assert len([e for e in root.iter("circle")]) == 6


def test_a_picture_has_no_style_of_its_own():
    drawn = drawing_of(mixture([[1, 2]]), [0.5, 0.5], None, ["a", "b"])
    assert "style" not in drawn
    assert "script" not in drawn
