"""Runs against each other: what both have scored, and with which weights."""

import json

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray.method import DAWIN
from dawin_ray.report import compare
from dawin_ray.report.compare import compare_runs, comparison_json, comparison_lines
from dawin_ray.runs import summaries
from dawin_ray.statistics import accuracy, mcnemar, paired_differences
from dawin_ray.tables import PREDICTIONS
from tests.unit.report.made import EXPERTS, all_rows, recut, write_run


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["a", "b"], ["a"], ["b: not in two"]),
        (["a"], ["a", "b"], ["b: not in one"]),
        (["a"], ["b"], ["a: not in two", "b: not in one"]),
    ],
)
def test_a_data_set_of_one_run_alone_is_said_to_be_missing(monkeypatch, first, second, said):
    sets = {"one": first, "two": second}

    class _Finished:
        def __init__(self, address):
            self.run, self.address, self.datasets = address, address, sets[address]

        @classmethod
        def of(cls, address):
            return cls(address)

    def blocks(run, _kind, _dataset, _columns):
        yield pa.table({"sample_id": [run]})

    monkeypatch.setattr(compare, "table_in_blocks", blocks)
    monkeypatch.setattr(compare, "FinishedRun", _Finished)
    rows = compare_runs(["one", "two"])
    alone = [f"{row.dataset}: {row.says}" for row in rows if "not in" in row.says]
    assert alone == said
    shared = [row.says for row in rows if row.dataset in set(first) & set(second)]
    assert all("other samples" in words for words in shared)
    assert f"two: {said[0].split(': ')[1]}" in comparison_lines(rows, "one")


def test_the_weights_of_every_expert_are_told(tmp_path, run, experts):
    """A run of two others on the same samples: without labels there are weights still."""
    other = write_run(tmp_path / "other", EXPERTS[2], {"one": True, "bare": False})
    labelled, bare = (row for row in compare_runs([other, run]) if row.rows)
    assert (labelled.dataset, bare.dataset) == ("one", "bare")
    assert labelled.p_holm is not None
    assert bare.difference is None
    for row in (labelled, bare):
        assert list(row.first_weights) == EXPERTS[2]
        assert list(row.weights) == experts
        assert sum(row.weights.values()) == pytest.approx(1)
        np.testing.assert_allclose(
            list(row.weights.values()),
            all_rows(run, row.dataset).coefficient.mean(axis=0),
            atol=1e-6,
        )
        line = next(
            line
            for line in comparison_lines([row], "other").splitlines()
            if row.dataset in line
        )  # fmt: skip
        assert all(f"{name} 0." in line for name in (*experts, *EXPERTS[2]))
    rows = json.loads(comparison_json(compare_runs([other, run])))
    assert "p" not in next(row for row in rows if row["dataset"] == "bare")


def pair(tmp_path, rows=(500, 500)):
    sets = {"one": True, "bare": False}
    first = write_run(tmp_path / "first", EXPERTS[2], sets, rows=rows[0])
    return first, write_run(tmp_path / "other", EXPERTS[3], sets, rows=rows[1])


@pytest.mark.parametrize("block", [7, 64, 500, 10_000])
@pytest.mark.parametrize("cuts", [(500, 500), (60, 500), (130, 41)])
def test_read_in_step_figures_are_those_of_whole_columns_to_the_bit(
    tmp_path, monkeypatch, block, cuts
):
    """However the runs' rows are cut into parts, and blocks of these are read."""
    first, other = pair(tmp_path)
    for run, cut in zip((first, other), cuts, strict=True):
        recut(run, "one", {"experts": cut, "predictions": cut})
    monkeypatch.setattr(summaries, "BLOCK", block)
    rows = {row.dataset: row for row in compare_runs([first, other])}
    for dataset, row in rows.items():
        a, b = (all_rows(run, dataset) for run in (first, other))
        known = (a.label >= 0) & (a.label == b.label)
        assert row.rows == 500
        assert row.changed == float((a.prediction[DAWIN] != b.prediction[DAWIN]).mean())
        for of, weights in ((a, row.first_weights), (b, row.weights)):
            means = of.coefficient.mean(axis=0, dtype=np.float64).tolist()
            assert weights == dict(zip(of.experts, means, strict=True))
        if dataset == "bare":
            assert (row.first, row.this, row.difference, row.p) == (None,) * 4
            continue
        right, theirs = ((r.prediction[DAWIN] == r.label)[known] for r in (a, b))
        better, worse, n = int((theirs & ~right).sum()), int((right & ~theirs).sum()), known.sum()
        assert 0 < n < 500
        assert (row.better, row.worse) == (better, worse)
        assert row.first == accuracy(int(right.sum()), int(n))
        assert row.this == accuracy(int(theirs.sum()), int(n))
        assert row.difference == paired_differences([(better, worse, int(n))])
        assert row.p == mcnemar(better, worse)


def test_no_more_than_a_block_of_each_run_is_held(tmp_path, monkeypatch):
    first, other = pair(tmp_path)
    for run in (first, other):
        recut(run, "one", {"experts": 500, "predictions": 20})
    monkeypatch.setattr(summaries, "BLOCK", 50)
    sizes, add = [], compare._Counts.add

    def noted(self, *blocks):
        sizes.append([block.num_rows for block in blocks])
        add(self, *blocks)

    monkeypatch.setattr(compare._Counts, "add", noted)
    compare_runs([first, other])
    assert sizes == [[50, 50]] * 20


@pytest.mark.parametrize("rows", [(500, 499), (450, 500)])
def test_a_run_that_has_more_samples_is_not_comparable(tmp_path, monkeypatch, rows):
    """Not even where those that both have are the first ones, or fill blocks."""
    monkeypatch.setattr(summaries, "BLOCK", 50)
    for row in compare_runs(pair(tmp_path, rows)):
        assert row.says == "other samples: not comparable pair by pair"
        assert row.rows is None


def test_of_no_samples_nothing_is_said(tmp_path):
    runs = pair(tmp_path)
    for run in runs:
        for dataset in ("one", "bare"):
            run.parts.write(("predictions", f"dataset={dataset}"), PREDICTIONS, [])
    rows = compare_runs(runs)
    assert [(row.rows, row.says) for row in rows] == [(0, "no samples")] * 2
    assert "NaN" not in comparison_json(rows)
    assert "one, " in comparison_lines(rows, "first")
