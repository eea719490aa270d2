"""Runs against each other: what both have scored, and with which weights."""

import json

import numpy as np
import pytest

from dawin_ray.report import compare
from dawin_ray.report.compare import compare_runs, comparison_json, comparison_lines
from tests.unit.report.made import EXPERTS, write_run


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

    class _Columns:
        sample_id = type("Ids", (), {"equals": staticmethod(lambda other: False)})()

    class _Finished:
        def __init__(self, address):
            self.address, self.datasets = address, sets[address]

        @classmethod
        def of(cls, address):
            return cls(address)

        def columns(self, _):
            return _Columns()

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
            compare.FinishedRun.of(run).columns(row.dataset).coefficient.mean(axis=0),
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
