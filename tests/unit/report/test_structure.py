"""A page's structure, without a browser: whoever reads it by ear or by keys finds their way."""

import re
from dataclasses import replace

import pytest

from dawin_ray.report import page
from dawin_ray.report.audit import audit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.overview import overview_of, overview_words
from dawin_ray.report.tally import Report
from tests.unit.report.made import (
    EXPERTS,
    drift_of,
    drift_record,
    report_record,
    write_run,
    write_tasks,
)
from tests.unit.structure import wrong


def text_of(kind: str, root) -> str:
    """Pages of every kind, each with all that such a page can hold."""
    if kind == "batches":
        drift = {"set": drift_of(EXPERTS[3], alarm=True)}
        reports = [
            report_record(EXPERTS[3], {"set": True}, batch=f"2026-11-2{day}T0600", drift=drift)
            for day in range(2)
        ]
        return overview_of(reports, "/runs/grown", overview_words(reports))
    if kind == "tasks":
        run = write_tasks(root / "run", EXPERTS[2], stray=True)
    elif kind == "no labels":
        run = write_run(root / "run", EXPERTS[3], {"one": False})
    else:
        run = write_run(
            root / "run", EXPERTS[2], {"inside": True, "one": True, "two": True},
            in_distribution="inside",
        )  # fmt: skip
    found = audit(FinishedRun.of(run))
    drift = {row.dataset: drift_record(EXPERTS[2]) for row in found.datasets}
    report = replace(Report.read(run), drift=drift)
    return page.page_of(found, report, run.address, {"a": "b"}, {})


KINDS = ("shifts", "tasks", "no labels", "batches")


@pytest.fixture(scope="module", params=KINDS)
def text(request, tmp_path_factory) -> str:
    return text_of(request.param, tmp_path_factory.mktemp("kind"))


def test_everything_has_its_place_and_name(text):
    assert wrong(text) == []


def test_regions_that_scroll_are_told_apart(text):
    names = re.findall(r'role="region" aria-label="([^"]*)"', text)
    assert names
    assert len(set(names)) == len(names)


def test_at_most_three_tables_come_before_the_pictures_and_others_are_folded(text):
    open_ = re.sub(r"<details(?! open).*?</details>", "", text, flags=re.DOTALL)
    before = open_[: open_.index('<svg role="img"')] if '<svg role="img"' in open_ else open_
    assert before.count("<table") <= 3
    assert open_.count("<table") <= 3


def test_what_to_do_comes_before_any_table(text):
    main = text[text.index("<main>") :]
    assert main.index('<p class="action">') < main.index("<table")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("<main>", "0 of <main>"),
        (' scope="col"', "has no scope"),
        (' role="img"', "has no name"),
        (' tabindex="0"', "not with the keyboard"),
        (' lang="en"', "no language"),
        ("</h2>", "closes"),
    ],
)
def test_a_fault_would_be_noticed(text, fault, said):
    assert fault in text
    assert any(said in found for found in wrong(text.replace(fault, "", 1)))


def test_a_second_id_would_be_noticed(text):
    assert "id made is there twice" in wrong(text.replace("<h1>", '<h1 id="made"><b id="made">', 1))
