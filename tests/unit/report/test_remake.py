"""Reports made again, of the incumbent that is named for them; the run stays as it is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.errors import UserError
from dawin_ray.report import check_incumbent, heat, panels, pictures, remake_reports
from dawin_ray.report.figures import Audit
from dawin_ray.report.page import PAGE_FILES, write_page
from dawin_ray.runs import RunDirectory
from tests.unit.report.made import EXPERTS, write_run


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pictures are the same whoever is the incumbent, and take most of the time."""
    for module in (heat, panels, pictures):
        monkeypatch.setattr(module, "draw", lambda *args, **keywords: "<svg></svg>")


def made(root: Path, incumbent: str | None = None, experts: int = 3) -> RunDirectory:
    """A run as it ends, but for the pictures."""
    labelled = {"one": True, "two": True}
    run = write_run(
        root, EXPERTS[experts], labelled, incumbent=incumbent, baselines={"oracle": True}
    )
    write_page(run)
    return run


def files(run: RunDirectory) -> dict[str, bytes]:
    root = Path(run.address)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def report(*arguments: str):
    return CliRunner().invoke(app, ["report", *arguments])


@pytest.mark.parametrize("of_job", [None, "sketch"])
def test_an_incumbent_is_named_for_a_report_and_only_for_it(tmp_path, of_job):
    run = made(tmp_path / "run", of_job)
    before = files(run)
    result = report(run.address, "--incumbent", "photo")
    assert result.exit_code == 0, result.output
    found, named = Audit.read(run), files(run)
    assert found.incumbent == "photo"
    assert found.replace_it is not None
    assert found.primary == ("photo",)
    assert found.words[0] in result.output
    changed = {name for name in before if before[name] != named[name]}
    assert changed <= set(PAGE_FILES)  # neither job nor fingerprint nor rows
    assert {"report.html", "audit.json"} <= changed
    text = run.read_text("report.html")
    said = f"photo, named when this page was made; the job names {of_job or 'none'}"
    assert f"<dt>incumbent</dt><dd>{said}</dd>" in text
    assert report(run.address).exit_code == 0
    assert files(run) == before  # and back


def test_the_same_as_if_the_job_had_named_it(tmp_path):
    one, other = made(tmp_path / "one"), made(tmp_path / "other", "photo")
    remake_reports(one.address, incumbent="photo")
    assert Audit.read(one) == Audit.read(other)
    assert one.read_text("csv/differences.csv") == other.read_text("csv/differences.csv")


@pytest.mark.parametrize("name", ["nobody", "oracle", "dawin", "\x1b[31m<b>\n"])
def test_one_that_is_not_there_is_refused_with_those_that_are(tmp_path, name):
    run = made(tmp_path / "run")
    before = files(run)
    result = report(run.address, "--incumbent", name)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "give one of its experts and baselines: sketch, photo, clip_art" in said
    assert "\x1b" not in result.output
    assert files(run) == before


def test_of_several_runs_all_have_it_or_none_is_made_again(tmp_path):
    one, other = made(tmp_path / "one"), made(tmp_path / "other", experts=2)
    before = files(one)
    result = report(one.address, other.address, "--incumbent", "photo")
    assert result.exit_code == 2
    assert "zero_shot, fine_tuned" in " ".join(result.output.split())
    assert files(one) == before
    with pytest.raises(UserError, match="no run directory"):
        check_incumbent(str(tmp_path / "none"), "photo")
    check_incumbent(one.address, "photo")
