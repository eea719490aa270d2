"""Tasks of three and eight experts: every figure of the page once more, from Parquet by pandas."""

import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dawin_ray.report.audit import audit
from dawin_ray.report.figures import Audit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.heat import of_weights
from dawin_ray.report.page import write_page
from dawin_ray.report.tasks import normalised_of, task_table, tasks_of
from dawin_ray.report.words import words_of_tasks
from dawin_ray.runs import RunDirectory
from dawin_ray.statistics import Summary
from tests.unit.report.made import EXPERTS, LABELLED, write_run, write_tasks
from tests.unit.statistics.made import make_rows


@pytest.fixture(scope="module", params=[3, 8])
def names(request) -> list[str]:
    return EXPERTS[request.param]


@pytest.fixture(scope="module")
def scored(names, tmp_path_factory) -> RunDirectory:
    run = write_tasks(tmp_path_factory.mktemp("tasks") / "run", names, stray=len(names) == 3)
    write_page(run)
    return run


@pytest.fixture(scope="module")
def judged(scored) -> Audit:
    return Audit.read(scored)


@pytest.fixture(scope="module")
def accuracies(scored, judged) -> pd.DataFrame:
    """By data set and method, from the two tables of Parquet; the experts from their own column."""
    found = {}
    for row in judged.labelled:
        rows = pd.read_parquet(f"{scored.address}/predictions/dataset={row.dataset}")
        beside = pd.read_parquet(f"{scored.address}/experts/dataset={row.dataset}")
        methods = [m.name for m in judged.methods if m.kind != "fit"]
        answers = dict(zip(methods, np.stack(beside["baseline_prediction"]).T, strict=True))
        fits = [m.name for m in judged.methods if m.kind == "fit"]
        answers |= dict(zip(fits, np.stack(rows["fit_prediction"]).T, strict=True))
        answers |= dict(zip(judged.experts, np.stack(rows["expert_prediction"]).T, strict=True))
        answers["dawin"] = rows["prediction"]
        found[row.dataset] = {k: (v == rows["label"]).mean() for k, v in answers.items()}
    return pd.DataFrame(found).T


def test_the_ratio_to_the_own_expert_is_that_of_the_rows(judged, accuracies, names):
    tasks = [f"of_{name}" for name in reversed(names)]
    assert judged.tasks.datasets == tuple(tasks)
    own = pd.Series({task: accuracies.loc[task, task.removeprefix("of_")] for task in tasks})
    ratios = accuracies.loc[tasks].div(own, axis=0)
    assert list(judged.tasks.accuracy) == list(judged.names)
    assert judged.tasks.own.value == pytest.approx(own.mean())
    for method in judged.names:
        assert judged.tasks.accuracy[method].value == pytest.approx(
            accuracies.loc[tasks, method].mean()
        )
        found = judged.tasks.normalised[method]
        assert found.value == pytest.approx(ratios[method].mean())
        assert found.low < found.value < found.high or method == "own_expert"
        for row in judged.of_tasks:
            if row.labelled:
                assert row.normalised[method].value == pytest.approx(
                    ratios.loc[row.dataset, method]
                )
    if len(names) == 8:  # a job with a stray set has no such method
        itself = judged.tasks.normalised["own_expert"]
        assert (itself.low, itself.value, itself.high) == (1, 1, 1)


def test_the_page_shows_the_figures_of_the_rows(scored, judged, accuracies, names):
    text = scored.read_text("report.html")
    table = text[text.index('<h2 id="tasks">') : text.index("Mean weights by task")]
    plain = html.unescape(re.sub(r"<[^>]+>", " ", table))
    heads = [html.unescape(h) for h in re.findall(r'<th scope="col">([^<]*)</th>', table)]
    assert heads[1] == "own expert (knows the task)"
    assert "oracle (uses labels)" in heads
    assert "own_expert (knows the task)" not in heads  # it has the column above
    assert (names[0] in heads) == (len(names) == 3)  # many experts are one column
    methods = [m for m in judged.names if judged.shown[m] in heads]
    assert len(methods) == len(heads) - 2
    for task in (f"of_{name}" for name in names):
        own = accuracies.loc[task, task.removeprefix("of_")]
        expected = [f"{100 * own:.1f}", task.removeprefix("of_")]
        for method in methods:
            share = accuracies.loc[task, method]
            expected += [f"{100 * share:.1f}", f"{100 * share / own:.1f}"]
        assert " ".join(expected) in " ".join(plain[plain.index(f" {task} ") :].split())
    if "stray" in accuracies.index:
        stray = plain[plain.index(" stray ") :].split()
        assert stray[1:4] == ["–", f"{100 * accuracies.loc['stray', methods[0]]:.1f}", "–"]
    assert f"mean of {len(names)} {100 * judged.tasks.own.value:.1f} " in " ".join(plain.split())


def test_what_knows_labels_or_the_task_is_a_bound_and_no_rival(judged, names):
    shown = {"own_expert": "own_expert (knows the task)", "oracle": "oracle (uses labels)"}
    bounds = {name: text for name, text in shown.items() if name in judged.names}
    assert len(bounds) == (2 if len(names) == 8 else 1)
    assert {m.name for m in judged.methods if m.is_bound} == bounds.keys()
    assert not bounds.keys() & {*judged.rivals, *judged.suite.differences}
    for row in judged.labelled:
        assert {row.differences[name].p for name in bounds} == {None}
    others = {name: name for name in judged.names} | {"dawin": "DaWin"}
    assert judged.shown == others | bounds
    assert not [word for word in judged.words if "own_expert" in word or "oracle" in word]


def test_the_best_of_a_row_is_no_bound(judged):
    table = task_table(judged)
    bounds = {m.name for m in judged.methods if m.is_bound}
    for row in table.rows:
        shares = dict(zip(table.methods, row.cells, strict=True))
        best = max(c.accuracy for name, c in shares.items() if name not in bounds)
        assert {n for n, c in shares.items() if c.best} == {
            n for n, c in shares.items() if n not in bounds and c.accuracy == best
        }


def test_the_weights_are_counted_by_task(scored, judged, names):
    weights = pd.read_csv(io.StringIO(scored.read_text("csv/weights.csv")))
    means = weights.pivot(index="dataset", columns="expert", values="mean")
    for row in judged.datasets:
        rows = pd.read_parquet(f"{scored.address}/predictions/dataset={row.dataset}")
        expected = np.stack(rows["coefficient"]).astype(float).mean(axis=0)
        np.testing.assert_allclose(means.loc[row.dataset, names], expected, rtol=1e-6)
        assert row.preferred == names[int(expected.argmax())]
    own = weights[weights.own].set_index("dataset").expert
    assert own.to_dict() == {f"of_{n}": n for n in names} | {"unlabelled": names[0]}
    kept = sum(means.loc[task].idxmax() == name for task, name in own.items())
    said = f"the own expert has the largest mean weight on {kept} of {len(names) + 1} tasks"
    assert said in words_of_tasks(judged)[1]


def test_a_task_that_prefers_another_expert_is_named(judged, names):
    first, *others = judged.datasets
    spread = dict(first.coefficient)
    spread[names[0]] = replace(spread[names[0]], mean=0.75)
    away = replace(judged, datasets=(replace(first, coefficient=spread), *others))
    own = shown_mean(first, names[-1])
    assert (
        f"; on {first.dataset} it is {names[0]} (0.75, {names[-1]} {own})"
        in (words_of_tasks(away)[1])
    )


def shown_mean(row, name: str) -> str:
    return f"{row.coefficient[name].mean:.2f}"


def test_the_heat_map_has_every_weight(judged, names):
    svg = of_weights(judged)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert [t for t in texts if t in names] == names
    figures = [t for t in texts if re.fullmatch(r"\d\.\d\d", t)]
    order = [*judged.of_tasks, *(row for row in judged.datasets if row.expert is None)]
    assert [row.dataset for row in order][:2] == [f"of_{names[0]}", "unlabelled"]
    assert [t for t in texts if t in {row.dataset for row in order}] == [r.dataset for r in order]
    assert figures == [shown_mean(row, name) for row in order for name in names]
    bold = re.findall(r"<text[^>]*font-weight: 700[^>]*>([^<]*)</text>", svg)
    assert bold == [shown_mean(row, row.preferred) for row in order]


def test_a_run_of_no_tasks_has_none(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": True, "bare": False})
    found = write_page(run)
    assert (found.tasks, found.of_tasks, of_weights(found), task_table(found)) == (
        None,
        (),
        None,
        None,
    )
    text = run.read_text("report.html")
    assert "Tasks" not in text
    assert "own expert" not in text
    assert "normalised" not in run.read_text("csv/scores.csv")


def test_tasks_without_labels_have_weights_in_words(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": False}, tasks={"one": "photo"})
    found = write_page(run)
    assert found.tasks is None
    assert found.words[-1].endswith("has the largest mean weight on 1 of 1 task.")
    assert "Mean weights by task" in run.read_text("report.html")


def test_an_own_expert_that_is_never_right_has_no_ratio():
    rows = make_rows(4, labels=1)
    rows.prediction["other"][:] = -1
    assert normalised_of(Summary.of(rows), "other") == {}
    assert tasks_of([]) is None


def test_what_a_method_costs(judged, scored, names):
    count = len(names)
    alone = {name: cost.alone for name, cost in judged.costs.items()}
    assert list(alone) == list(judged.names)
    expected = dict.fromkeys([*names, "base", "averaging", "ties"], 1)
    expected |= {"own_expert": 1} if count == 8 else {}
    expected |= {
        "task_arithmetic_0.3": 1, "selection": count, "random_uniform": count,
        "exact": 2 * count, "oracle": 2 * count, "exact_soft_merged": 2 * count + 1,
        "dawin_K1": count + 1, "dawin": count + 1,
    }  # fmt: skip
    assert expected.items() <= alone.items()
    about = {name for name, cost in judged.costs.items() if cost.about}
    assert about == {m.name for m in judged.methods if m.kind == "samplewise"}
    merges = {name: cost.merges for name, cost in judged.costs.items()}
    assert (merges["base"], merges["averaging"], merges["selection"]) == (0, 1, 0)
    assert merges["dawin"] == 3 * len(judged.datasets)  # three clusters each
    assert merges["dawin_K1"] is None  # these made files have no other fits
    table = pd.read_csv(io.StringIO(scored.read_text("csv/costs.csv"))).set_index("method")
    assert table["alone"].to_dict() == alone


def test_the_exact_mode_costs_twice_the_experts(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": True}, exact=True)
    cost = audit(FinishedRun.of(run)).costs["dawin"]
    assert (cost.alone, cost.added, cost.merges, cost.about) == (6, 3, 0, True)


def test_audits_of_before_there_were_tasks_are_read(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], LABELLED)
    found = audit(FinishedRun.of(run))
    found.write(run)
    values = json.loads(run.read_text("audit.json"))
    for key in ("tasks", "costs"):
        del values[key]
    for row in values["datasets"]:
        del row["expert"], row["normalised"]
    run.write_json("audit.json", values)
    old = Audit.read(run)
    assert (old.tasks, old.costs) == (None, {})
    assert old.datasets == found.datasets
