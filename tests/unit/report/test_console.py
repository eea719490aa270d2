"""What a run's last lines say: names as they are, phases in words, each expert's weight."""

import io

import pytest
from rich.console import Console

from dawin_ray.report.console import footer_of, table_of
from dawin_ray.report.tally import Report
from tests.unit.report.made import report_record

NAMES = ["[/bold]", "[red]", "a [b] c", ":smile:"]


def report_of(name: str) -> Report:
    """Two data sets and an expert of one name."""
    report = report_record(["other", name], {name: True}, f"/runs/{name}", exact=True)
    assert report.datasets[0].dataset == name
    return report


def shown(report: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=300).print(table_of(report))
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_table_are_no_markup(name):
    assert shown(report_of(name)).count(name) >= 4  # title, two headings, row


def test_names_in_the_table_do_not_steer_the_terminal():
    text = shown(report_of("a\x1b[31mb"))
    assert "\x1b" not in text
    assert "a\\x1b[31mb" in text


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        (["at_once"], ["one pass, experts and interpolated models: 60 images"]),
        (["experts", "merged"], ["pass 1, experts: 60 images", "pass 2, merged models: 60 images"]),
        (["experts", "exact"], ["pass 2, exact models: 60 images"]),
    ],
)
def test_the_footer_names_passes_in_words(passes, words):
    report = report_record(["a", "b"], {"set": True}, passes=passes)
    footer = footer_of(report)
    assert all(word in footer for word in words)
    assert "at_once" not in footer


@pytest.mark.parametrize("exact", [True, False])
def test_the_table_has_the_weight_of_every_expert(exact):
    names = ["sketch", "photo", "clip_art"]
    text = shown(report_record(names, {"set": True, "bare": False}, exact=exact))
    assert f"weights of {', '.join(names)}" in text
    if exact:
        assert "0.167, 0.333, 0.500" in text
    else:  # a line for each cluster
        assert text.index("0.17, 0.33, 0.50 (45)") < text.index("0.50, 0.33, 0.17 (15)")
