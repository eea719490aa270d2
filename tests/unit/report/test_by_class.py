"""Every class and every confusion, in page and tables, against the rows themselves."""

import html
import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dawin_ray.report import by_class, page
from dawin_ray.report.by_class import ByClass
from dawin_ray.runs import PAGE
from dawin_ray.statistics import Summary, confusions, sample
from tests.unit.report.made import CLASSES, EXPERTS, all_rows, write_run
from tests.unit.statistics.made import make_rows

TWO = tuple(EXPERTS[2])
NAMES = ["<b>x</b>", "=1+1", "y" * 90, "a\x1b[2J", "&amp;"]

# label, answers of the two experts and of DaWin: rows
PLANTED = {
    (0, 0, 0, 0): 40, (0, 1, 0, 0): 8, (0, 0, 1, 1): 2,
    (1, 1, 1, 1): 5, (1, 1, 1, 2): 25, (1, 2, 2, 2): 10,
    (2, 2, 2, 2): 1, (2, 0, 0, 0): 1, (4, 4, 4, 4): 30,
}  # fmt: skip


def summary_of(planted: dict[tuple[int, ...], int]) -> Summary:
    values = np.array([key for key, n in planted.items() for _ in range(n)])
    answers = values[:, 1:].astype(np.int32)
    rows = make_rows(len(values), experts=TWO)
    prediction = dict(rows.prediction) | dict(zip((*TWO, "dawin"), answers.T, strict=True))
    return Summary.of(
        replace(rows, label=values[:, 0], prediction=prediction, expert_prediction=answers[:, :2])
    )


@pytest.fixture(scope="module")
def found() -> ByClass:
    return ByClass.of(summary_of(PLANTED), list("abcde"), 5, TWO)


def test_classes_are_those_that_were_planted_the_worst_first(found):
    lines = {line.index: line for line in found.lines()}
    # 5 of 40 are right, 1 of 2, 48 of 50, 30 of 30; shrunk, the class of two is not the worst
    assert list(lines) == [1, 2, 0, 4]
    assert [line.n for line in lines.values()] == [40, 2, 50, 30]
    assert [line.name for line in lines.values()] == ["1 b", "2 c", "0 a", "4 e"]
    assert lines[1].right == {"dawin": 5 / 40, "zero_shot": 30 / 40, "fine_tuned": 30 / 40}
    assert lines[0].right == {"dawin": 48 / 50, "zero_shot": 42 / 50, "fine_tuned": 48 / 50}
    # taken for it: 2 of class 0 for 1, 35 of class 1 for 2, 1 of class 2 for 0
    assert [line.false_positives for line in lines.values()] == [2, 35, 1, 0]
    assert lines[1].gains["zero_shot"].value == -25 / 40
    assert lines[1].gains["zero_shot"].high < 0
    gain = lines[0].gains["zero_shot"]  # 8 gained, 2 lost
    assert gain.value == 6 / 50
    assert gain.low < 0 < gain.high < 0.26
    assert lines[0].gains["fine_tuned"].value == 0


def test_confusions_are_those_that_were_planted(found):
    assert [(pair.label, pair.answer, pair.n) for pair in found.worst()] == [
        (1, 2, 35), (0, 1, 2), (2, 0, 1),
    ]  # fmt: skip
    first, second, _ = found.worst()
    assert first.share == 35 / 40
    assert first.others == {"zero_shot": 10, "fine_tuned": 10}
    assert second.others == {"zero_shot": 8, "fine_tuned": 2}
    assert [pair.n for pair in found.worst(1)] == [35]


def test_a_matrix_has_every_cell(found):
    matrices = found.matrices()
    assert list(matrices) == ["dawin", *TWO]
    for place, cells in zip((3, 1, 2), matrices.values(), strict=True):
        for label in range(5):
            for answer in range(5):
                n = sum(c for k, c in PLANTED.items() if (k[0], k[place]) == (label, answer))
                assert cells[label][answer].n == n
    ours = matrices["dawin"]
    assert (ours[1][2].share, ours[1][2].shade) == (35 / 40, by_class.SHADES)
    assert (ours[0][0].shade, ours[0][1].shade, ours[3][3].share) == (0, 1, None)


def test_of_many_classes_there_is_no_matrix():
    found = ByClass.of(summary_of(PLANTED), None, 21, TWO)
    assert found.matrices() == {}
    assert found.worst()
    assert [line.name for line in found.lines()] == ["1", "2", "0", "4"]


def test_a_class_that_none_is_but_many_are_taken_for_stands_last():
    found = ByClass.of(summary_of({(0, 0, 0, 3): 9, (1, 1, 1, 1): 9}), None, None, TWO)
    last = found.lines()[-1]
    assert (last.index, last.n, last.right["dawin"], last.false_positives) == (3, 0, None, 9)
    assert last.gains == {}
    [line] = [line for line in found.table({}, TWO[0]) if line["class"] == 3]
    assert line["accuracy"] is line["shrunk_gain"] is None


def test_what_a_summary_could_not_keep_is_told_of_its_sample(monkeypatch):
    whole = ByClass.of(summary_of(PLANTED), None, 5, TWO)
    monkeypatch.setattr(confusions, "MOST_PAIRS", 3)
    found = ByClass.of(summary_of(PLANTED), None, 5, TWO)
    assert found.exact  # the sample has all rows
    assert found.worst() == whole.worst()
    monkeypatch.setattr(sample, "SAMPLED", 60)
    found = ByClass.of(summary_of(PLANTED), None, 5, TWO)
    assert (found.counted, found.rows, found.exact) == (60, 122, False)
    assert sum(n for n in found.pairs["dawin"].counts.values()) == 60
    assert found.false_positives == {}
    assert found.lines()[0].false_positives is None
    assert found.lines()[0].gains["zero_shot"].value == -25 / 40  # of all rows
    for pair in found.worst():
        of_class = sum(n for (label, _), n in found.pairs["dawin"].counts.items()
                       if label == pair.label)  # fmt: skip
        assert pair.share == pair.n / of_class


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("by_class") / "run"
    run = write_run(root, EXPERTS[3], {"one": True, "bare": False})
    run.write_json("classes.json", {"one": NAMES, "bare": None})
    page.write_page(run)
    return run


def table(run, name: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(run.read_text(f"csv/{name}.csv")))


def test_the_tables_have_the_figures_of_the_rows(written):
    classes, confused = table(written, "classes"), table(written, "confusions")
    assert set(classes.dataset) == set(confused.dataset) == {"one"}
    for dataset in ("one",):
        rows = all_rows(written, dataset)
        right = {name: rows.prediction[name] == rows.label for name in (*rows.experts, "dawin")}
        of_set = classes[classes.dataset == dataset].set_index("class")
        assert len(of_set) == CLASSES
        for c, line in of_set.iterrows():
            inside = rows.label == c
            assert line.n == inside.sum()
            assert line.accuracy == pytest.approx(right["dawin"][inside].mean())
            false = (rows.prediction["dawin"] == c) & ~inside
            assert line.false_positives == false.sum()
            for name in rows.experts:
                assert line[f"accuracy_{name}"] == pytest.approx(right[name][inside].mean())
                gain = right["dawin"][inside].mean() - right[name][inside].mean()
                assert line[f"gain_{name}"] == pytest.approx(gain)
                assert line[f"gain_{name}_low"] <= gain <= line[f"gain_{name}_high"]
                false = (rows.prediction[name] == c) & ~inside
                assert line[f"false_positives_{name}"] == false.sum()
        listed = of_set[of_set.kind.notna()]
        assert (listed[listed.kind == "gains"].shrunk_gain > 0).all()
        pairs = confused[confused.dataset == dataset]
        assert pairs.n.sum() == (~right["dawin"]).sum()
        assert pairs.n.is_monotonic_decreasing
        for _, pair in pairs.iterrows():
            inside = rows.label == pair["class"]
            of_pair = inside & (rows.prediction["dawin"] == pair.answer)
            assert pair.n == of_pair.sum()
            assert pair.share == pytest.approx(of_pair.sum() / inside.sum())
            name = rows.experts[0]
            theirs = inside & (rows.prediction[name] == pair.answer)
            assert pair[f"n_{name}"] == theirs.sum()


def test_the_page_has_them_as_text(written):
    text = "".join(
        re.findall('<details class="by-class">.*?<p class="soft">', written.read_text(PAGE), re.S)
    )
    assert "<b>x</b>" not in text
    assert "\x1b" not in text
    assert "y" * 61 not in text
    shown = html.unescape(text)
    assert "0 <b>x</b>" in shown
    assert "3 a\\x1b[2J" in shown
    assert text.count('<details class="by-class">') == 2
    matrices = re.findall(r'<table class="matrix">.*?</table>', written.read_text(PAGE), re.S)
    assert len(matrices) == 4
    for matrix in matrices:
        assert matrix.count('<th scope="row">') == CLASSES
        assert matrix.count('<th scope="col">') == 1 + CLASSES
        numbers = [int(n) for n in re.findall(r"<td[^>]*>(?:<a[^>]*>)?(\d+)", matrix)]
        assert sum(numbers) == 60


def test_a_page_of_a_thousand_classes_stays_small_and_says_what_it_leaves_out():
    label = np.repeat(np.arange(1_000), 3)
    draw = np.random.default_rng(0)
    made = make_rows(3_000, experts=TWO, classes=1_000)
    answers = draw.integers(0, 1_000, (3_000, 3)).astype(np.int32)
    answers[::2] = label[::2, None]
    wide = replace(
        made, label=label, expert_prediction=answers[:, :2],
        prediction=dict(made.prediction) | dict(zip((*TWO, "dawin"), answers.T, strict=True)),
    )  # fmt: skip
    names = [f"class number {i}, of a long name" for i in range(1_000)]
    found = ByClass.of(Summary.of(wide), names, 1_000, TWO)
    text = page.template("by_class.html.j2").render(
        row=SimpleNamespace(dataset="wide"), by_class={"wide": found}, dawin="dawin",
        audit=SimpleNamespace(shown={"dawin": "DaWin"}), conventions={"level": 0.95},
        limits={"pairs": by_class.PAGE_PAIRS, "csv_pairs": by_class.MOST_PAIRS},
    )  # fmt: skip
    assert len(text) < 150_000
    assert "The worst 200 of 1,000 classes; csv/classes.csv has all" in text
    assert "The 30 most frequent confusions at most" in text
    assert len(list(found.table({}, TWO[0]))) == 1_000
