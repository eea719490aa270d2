"""The card: small, of text, legible by who does not see it, and no place for a name to act."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from dawin_ray.report import card, page
from dawin_ray.report.audit import audit
from dawin_ray.report.doubts import Doubt
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.tally import Report
from dawin_ray.report.words import shown_percent, shown_points
from dawin_ray.runs import CARD
from tests.unit.report.made import EXPERTS, LABELLED, report_record, write_run

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>&\x1b[2J" + "long " * 60
TAGS = {"svg", "title", "desc", "style", "rect", "text", "line", "circle"}


def parts(text: str) -> tuple[ET.Element, list[str]]:
    """A card, and its lines."""
    root = ET.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= TAGS
    return root, [element.text for element in root.iter(f"{SVG}text")]


def test_a_card_has_the_figures_of_the_audit(found, experts):
    root, lines = parts(card.card_of(found, report_record(experts, LABELLED)))
    assert "DaWin: runs/made" in lines
    assert "4 data sets, 240 samples. Accuracy, mean of 2 shifts, in %" in lines
    for name in ("dawin", *experts):
        assert shown_percent(found.suite.accuracy[name]) in lines
    for name in experts:
        assert shown_points(found.suite.differences[name]) in lines
    said = re.sub(r"\s+", " ", " ".join(lines))
    assert found.words[0][:80] in said
    title, about = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title.text == "DaWin: runs/made"
    assert found.words[0] in about.text
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [title.get("id"), about.get("id")]


def test_a_card_is_small_asks_for_nothing_and_suits_light_and_dark(found, experts):
    text = card.card_of(found, report_record(experts, LABELLED))
    assert len(text.encode()) < 10_000
    assert not re.search(r"href|url\(|@import|<path", text)
    assert text.count("http") == 1  # the name space
    assert "prefers-color-scheme: dark" in text
    assert '<rect class="card"' in text
    assert card.card_of(found, report_record(experts, LABELLED)) == text


def test_names_are_text_and_are_shortened(found, experts):
    doubt = Doubt(dataset="one", kind=HOSTILE, says=HOSTILE, todo="")
    hostile = replace(found, doubts=(doubt,), words=(HOSTILE, HOSTILE))
    text = card.card_of(hostile, replace(report_record(experts, LABELLED), run_dir=f"/x/{HOSTILE}"))
    _, lines = parts(text)
    assert max(map(len, lines)) <= card.SHOWN_LINE
    assert len(text.encode()) < 10_000
    assert "<script" not in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)


def test_what_looks_wrong_is_said(found, experts):
    doubt = Doubt(dataset="one", kind="one_label", says="x", todo="y")
    _, lines = parts(
        card.card_of(replace(found, doubts=(doubt,)), report_record(experts, LABELLED))
    )
    assert "The input looks wrong: one label. See report.html." in lines
    assert "The input looks wrong" not in card.card_of(found, report_record(experts, LABELLED))


@pytest.mark.parametrize("labelled", [{"one": True, "bare": False}, {"bare": False}])
def test_one_labelled_set_and_none(tmp_path, labelled):
    run = write_run(tmp_path / "run", EXPERTS[2], labelled)
    found = audit(FinishedRun.of(run))
    root, lines = parts(card.card_of(found, Report.read(run)))
    if found.labelled:
        assert "2 data sets, 120 samples. Accuracy on one, in %" in lines
        accuracy = found.datasets[0].methods["dawin"].accuracy
        assert shown_percent(accuracy) in lines
    else:
        assert "1 data set, 60 samples, no labels" in lines
        assert not list(root.iter(f"{SVG}circle"))


def test_it_is_among_the_files_of_a_page():
    assert CARD in page.PAGE_FILES
