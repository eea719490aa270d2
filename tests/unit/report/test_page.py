"""The pages and tables of any number of experts."""

import html
import io
import re

import pandas as pd
import pytest

from dawin_ray.errors import UserError
from dawin_ray.report import page
from dawin_ray.report.finished import FinishedRun
from dawin_ray.runs import RunDirectory
from dawin_ray.runs.layout import is_ours
from tests.unit.report.made import EXPERTS, write_run


def cells(text: str, tag: str) -> list[str]:
    return [html.unescape(c) for c in re.findall(rf"<{tag}[^>]*>([^<]*)</{tag}>", text)]


def test_a_page_has_every_expert_in_every_place(tmp_path):
    experts, labelled = EXPERTS[3], {"inside": True, "one": True, "bare": False}
    run = write_run(tmp_path / "run", experts, labelled, in_distribution="inside")
    page.write_page(run)
    text = run.read_text("report.html")
    headings = cells(text, "th")
    for name in experts:
        assert headings.count(f"weight of {name}") == 3  # clusters, of each data set
        assert headings.count(f"samples' own mean, {name}") == 3
        assert f"only {name} right" in headings
        figures = re.findall(rf"<th scope=\"row\">{name}</th>((?:<td>[^<]*</td>)+)</tr>", text)
        # of each data set: coefficients, entropies, both away, and with labels the correlation
        widths = [len(cells(row, "td")) for row in figures]
        assert widths.count(5) == 2
        assert widths.count(4) == 1
    table = pd.read_csv(io.StringIO(run.read_text("csv/clusters.csv")))
    for prefix in ("weight", "own"):
        columns = [c for c in table if c.startswith(f"{prefix}_")]
        assert columns == [f"{prefix}_{name}" for name in experts]


def test_every_method_is_explained(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": True})
    found = page.write_page(run)
    text = run.read_text("report.html")
    for method in found.methods:
        assert method.meaning
        assert f"<dt>{html.escape(method.shown)}</dt>" in text
        assert html.escape(method.meaning, quote=False) in html.unescape(text)


def test_what_is_written_is_what_a_restart_deletes(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": True})
    before = {path for path in (tmp_path / "run").rglob("*") if path.is_file()}
    page.write_page(run)
    after = {path for path in (tmp_path / "run").rglob("*") if path.is_file()} - before
    written = {str(path.relative_to(tmp_path / "run")) for path in after}
    assert written == set(page.PAGE_FILES)
    assert all(is_ours(name) for name in written)


def test_a_page_without_labels_has_every_expert(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": False, "two": False})
    found = page.write_page(run)
    assert found.suite is None
    headings = cells(run.read_text("report.html"), "th")
    for name in EXPERTS[3]:
        for heading in (
            f"DaWin = {name}, %", f"mean weight of {name}", "median entropy, nats",
            "coefficient away from one", name,
        ):  # fmt: skip
            assert heading in headings


def test_a_run_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        FinishedRun.of(RunDirectory(str(tmp_path)))


def test_text_of_a_csv_is_no_formula():
    names = ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", "plain", "a=b", ""]
    frame = pd.DataFrame({"name": names, "value": [-1.5, 2, *[None] * 7]})
    text = page.csv_of(frame)
    back = pd.read_csv(io.StringIO(text), keep_default_na=False, lineterminator="\n")
    assert [n.replace("\r", "") for n in back["name"]][:5] == [
        "'=1+1",
        "'+x",
        "'-x",
        "'@SUM(A1)",
        "'\tx",
    ]
    assert back["name"].tolist()[-3:] == ["plain", "a=b", ""]
    assert back["value"].tolist()[:2] == ["-1.5", "2.0"]
