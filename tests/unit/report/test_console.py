"""What a run's last lines say: names as they are, phases in words, each expert's weight."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dawin_ray.report.audit import audit
from dawin_ray.report.console import footer_of, table_of, tables_of, weights_of
from dawin_ray.report.doubts import Doubt
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.tally import Report
from tests.unit.report.made import EXPERTS, report_record, write_run, write_tasks

NAMES = ["[/bold]", "[red]", "a [b] c", ":smile:"]


def report_of(name: str) -> Report:
    """Two data sets and an expert of one name."""
    report = report_record(["other", name], {name: True}, f"/runs/{name}", exact=True)
    assert report.datasets[0].dataset == name
    return report


def printed(tables, width: int = 300) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(*tables)
    return out.getvalue()


def shown(report: Report) -> str:
    return printed([table_of(report)])


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


def test_the_footer_has_what_looks_wrong_and_no_steering():
    doubt = Doubt(dataset="set", kind="flat", says="'a\x1b[31m' is called 'b'.", todo="Look.")
    report = replace(report_record(["a", "b"], {"set": True}), doubts=(doubt,))
    assert "doubt        set: 'a\x1b[31m' is called 'b'. Look." in footer_of(report)


@pytest.mark.parametrize("exact", [True, False])
def test_the_table_has_the_weight_of_every_expert(exact):
    names = ["sketch", "photo", "clip_art"]
    text = shown(report_record(names, {"set": True, "bare": False}, exact=exact))
    assert f"weights of {', '.join(names)}" in text
    if exact:
        assert "0.167, 0.333, 0.500" in text
    else:  # a line for each cluster
        assert text.index("0.17, 0.33, 0.50 (45)") < text.index("0.50, 0.33, 0.17 (15)")


@pytest.mark.parametrize("exact", [True, False])
def test_each_of_eight_experts_is_named_with_its_weights(exact):
    report = report_record(EXPERTS[8], {"set": True}, exact=exact)
    assert "task_0 50.0" in shown(report)  # the best one, of equals the first, stands for them
    assert not set(EXPERTS[8][1:]) & set(shown(report).split())
    words = printed([weights_of(report)], width=80).split()
    assert [word for word in words if word in EXPERTS[8]] == EXPERTS[8]
    shares = [f"{share:.2f}" for share in report.datasets[0].mean_coefficient]
    figures = [word for word in words if word[:2] == "0."]
    assert figures == (shares if exact else [*shares, *shares, *reversed(shares)])
    assert ("(45)" in words) != exact


def test_few_experts_have_one_table():
    report = report_record(EXPERTS[3], {"set": True})
    assert weights_of(report) is None
    assert len(tables_of(report)) == 1


def test_tasks_have_their_own_expert_beside_dawin():
    tasks = {"set": "task_3", "bare": "task_1"}
    report = report_record(EXPERTS[8], {"set": True, "bare": False, "stray": True}, tasks=tasks)
    lines = {line.split("│")[1].strip(): line for line in shown(report).splitlines() if "│" in line}
    cells = [cell.strip() for cell in lines["set"].split("│")[1:-1]]
    assert cells == ["set", "60", "1", "task_3 50.0", "50.0", "50.0", "80.0", "7"]
    assert lines["bare"].split("│")[4].strip() == "task_1 –"
    assert lines["stray"].split("│")[4].strip() == "–"
    assert printed([weights_of(report)]).count("*") == 7  # two tasks with two clusters; the title


@pytest.mark.parametrize("count", [3, 8])
def test_a_run_of_tasks_ends_with_their_table(tmp_path, count):
    run = write_tasks(tmp_path / "run", EXPERTS[count], stray=False)
    found, report = audit(FinishedRun.of(run)), Report.read(run)
    found.write(run)
    tables = tables_of(report)
    assert len(tables) == (2 if count == 3 else 3)
    lines = printed(tables[-1:], width=80 + 12 * count).splitlines()
    for name in ("dawin", "oracle", "ties", "averaging", "base"):
        (line,) = (line for line in lines if line.strip().startswith(f"{found.shown[name]} "))
        figures = line.strip().removeprefix(found.shown[name]).split()
        shares = [row.methods[name].accuracy.value for row in found.labelled]
        shares += [found.tasks.accuracy[name].value, found.tasks.normalised[name].value]
        assert figures[: len(shares)] == [f"{100 * share:.1f}" for share in shares]
        assert figures[-1] == str(found.costs[name].alone)
    assert any(line.strip().startswith("own expert (knows the task)") for line in lines)


def test_a_run_without_tasks_does_not_ask_for_its_audit(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": True})
    assert not run.exists("audit.json")
    assert len(tables_of(Report.read(run))) == 1


def test_the_mean_is_over_the_shifts_as_in_the_audit():
    report = report_record(["a", "b"], dict.fromkeys(("inside", "one", "two"), True))
    inside = replace(report.datasets[0], accuracy=dict.fromkeys(report.datasets[0].accuracy, 1.0))
    report = replace(report, datasets=(inside, *report.datasets[1:]))
    assert "mean of 3" in shown(report)
    text = shown(replace(report, in_distribution="inside"))
    (mean,) = [line for line in text.splitlines() if "mean of 2" in line]
    assert mean.count("50.0") == 4
