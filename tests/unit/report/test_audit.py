"""The audit of any number of experts: figures by name, and what comes back from audit.json."""

import json

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.method import FEW_EXPERTS
from dawin_ray.records import to_json
from dawin_ray.report.audit import audit
from dawin_ray.report.figures import Audit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.words import SAID, answers_of, shown_percent, shown_points
from dawin_ray.runs import AUDIT
from tests.unit.report.made import CLUSTERS, EXPERTS, LABELLED, all_rows, write_run


def test_an_audit_comes_back_as_it_was(run, found):
    found.write(run)
    assert Audit.read(run) == found
    values = json.loads(run.read_text(AUDIT))
    assert values["version"] == Audit.VERSION
    assert values["datasets"][0]["away"]["from"] == "inside"  # words of Python are keys
    classes = values["datasets"][0]["classes"]
    assert "class" in [*classes["gains"], *classes["losses"]][0]


def test_an_audit_of_a_newer_version_is_refused(run, found):
    run.write_json(AUDIT, to_json(found) | {"version": Audit.VERSION + 1})
    with pytest.raises(UserError, match="a newer dawin_ray wrote it"):
        Audit.read(run)


def test_figures_of_experts_are_by_name_and_of_all(run, found, experts):
    assert [row.dataset for row in found.datasets] == list(LABELLED)
    inside = all_rows(run, "inside")
    for row in found.datasets:
        columns = all_rows(run, row.dataset)
        for by_expert in (
            row.coefficient, row.entropy, row.away.entropy, row.away.coefficient,
            row.agreement.dawin_with,
        ):  # fmt: skip
            assert list(by_expert) == experts
        for i, name in enumerate(experts):
            values, there = (np.sort(c.coefficient[:, i].astype(float)) for c in (columns, inside))
            assert row.coefficient[name].mean == pytest.approx(values.mean())
            assert sum(row.coefficient[name].histogram) == row.rows
            # as many samples in each
            assert row.away.coefficient[name] == pytest.approx(np.abs(values - there).mean())
        assert len(row.clusters) == CLUSTERS
        assert all(len(c.mean_coefficient) == len(experts) for c in row.clusters)
        if row.labelled:
            assert {*experts, "dawin"} <= row.methods.keys()
            assert {f"only {name} right" for name in experts} < {c.cell for c in row.cells}
            assert sum(c.n for c in row.cells) == row.labelled
            assert row.best_expert == max(experts, key=lambda n: row.methods[n].accuracy.value)
        else:
            assert (row.methods, row.cells, row.best_expert) == ({}, (), None)


def test_the_words_are_about_every_expert(found, experts):
    differences, first = found.suite.differences, answers_of(found)[0]
    if len(experts) <= FEW_EXPERTS:
        for name in experts:
            assert f"{name} on {shown_percent(found.suite.accuracy[name], ' %')}" in first
            assert shown_points(differences[name], " points") in first
    else:
        for says, words in SAID.items():
            count = sum(differences[name].says == says for name in experts)
            assert (f"{words} against {count} of the 8 experts" in first) == (count > 0)
    for name in experts:
        assert any(f"DaWin against {name}: " in word for word in found.words)


def test_a_cluster_has_the_weights_that_predicted_and_its_samples_own(found):
    for row in found.datasets:
        for cluster in row.clusters:
            sums = np.array(row.mixture.concentrations[cluster.cluster])
            assert cluster.weights == pytest.approx(sums / sums.sum())
            assert cluster.weights != pytest.approx(cluster.mean_coefficient, abs=1e-6)


def test_without_a_mixture_there_are_no_clusters(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[3], {"one": True}, exact=True)
    [row] = audit(FinishedRun.of(run)).datasets
    assert (row.mixture, row.clusters) == (None, ())
    assert list(row.coefficient) == EXPERTS[3]
