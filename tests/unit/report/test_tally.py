"""report.json: counted from Parquet, read again, whatever the number of experts."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from dawin_ray.engine import Timing
from dawin_ray.errors import UserError
from dawin_ray.method import Fit
from dawin_ray.report.tally import Report, Scored, alarms_of, summarise
from dawin_ray.runs import BrokenShard, ExpertsPart, Part
from dawin_ray.runs.part_records import ShardCount
from tests.unit.report.made import (
    CLASSES,
    LABELLED,
    all_rows,
    drift_record,
    report_of,
    report_record,
)


def part(rejects: int, lost: int | None) -> ExpertsPart:
    """Of pass 1, whose only shard has rejects and breaks."""
    broken = BrokenShard(shard="s.tar", reason="cut", lost=lost, estimated=True)
    return ExpertsPart(
        chunks="", experts=Part(path="", bytes=0, sha256="", rows=9), rejects=None, ids=(0, 0),
        names=None,
        shards=(ShardCount(key="s", rows=9, rejects=rejects),), rows_of_chunks=(9,), reasons={},
        first=None, broken=(broken,),
    )  # fmt: skip


@pytest.fixture
def summarised(run, finished, experts) -> Report:
    """The report that a job would have made of the run's rows; `one` is the last expert's task."""
    tasks = dict.fromkeys(LABELLED, None) | {"one": experts[-1], "bare": experts[0]}
    spec = SimpleNamespace(
        model=SimpleNamespace(experts=[SimpleNamespace(name=name) for name in experts]),
        baselines=SimpleNamespace(even_interpolation=False), exact=False, precision="float32",
        batch_size=8,
        tasks={
            name: SimpleNamespace(expert=own, classes=SimpleNamespace(count=CLASSES))
            for name, own in tasks.items()
        },
    )  # fmt: skip
    on = SimpleNamespace(device="cpu", actors=2, bounds=None, threads=1)
    fits = {name: Fit(mixture=mixture) for name, mixture in finished.mixtures.items()}
    parts = dict.fromkeys(LABELLED, ()) | {"one": [part(2, 5), part(1, None)]}
    summaries = {name: finished.summary(name) for name in LABELLED}
    found = Scored(fits=fits, summaries=summaries)
    return summarise(run, spec, parts, found, on, {"experts": Timing()})


def test_the_counts_are_those_of_the_rows(summarised, run, experts):
    assert summarised.experts == tuple(experts)
    for row in summarised.datasets:
        assert row.classes == CLASSES
        columns = all_rows(run, row.dataset)
        known = columns.label >= 0
        right = (columns.prediction["dawin"] == columns.label)[known]
        assert (row.rows, row.labelled) == (len(columns.label), known.sum())
        assert list(row.accuracy) == [*experts, "dawin"]
        if row.labelled:
            assert row.accuracy["dawin"] == pytest.approx(right.mean())
        else:
            assert set(row.accuracy.values()) == {None}
        np.testing.assert_allclose(row.mean_coefficient, columns.coefficient.mean(axis=0), 1e-5)
        sizes = np.bincount(columns.cluster, minlength=len(row.clusters))
        assert [c.size for c in row.clusters] == sizes.tolist()
        assert all(len(c.coefficient) == len(experts) for c in row.clusters)
        assert row.images_per_second is None  # nothing was scored
        if row.dataset == "one":
            own = (columns.expert_prediction[:, -1] == columns.label).mean()
            assert row.expert == experts[-1]
            assert row.normalised["dawin"] == pytest.approx(right.mean() / own)
            assert row.normalised[experts[-1]] == 1
        else:  # nobody's task, or without labels
            assert row.normalised == {}


def test_rejects_and_broken_shards_are_those_of_the_parts(summarised):
    by_name = {row.dataset: row for row in summarised.datasets}
    assert by_name.pop("one").rejects == 3
    assert {row.rejects for row in by_name.values()} == {0}
    (broken,) = summarised.datasets[list(LABELLED).index("one")].broken
    assert (broken.shard, broken.lost) == ("s.tar", None)


def test_a_report_comes_back_as_it_was(run, summarised, experts):
    summarised.write(run)
    assert Report.read(run) == summarised
    drifted = dataclasses.replace(summarised, drift={"one": drift_record(experts)})
    drifted.write(run)
    assert Report.read(run) == drifted
    assert alarms_of(drifted) == [f"one: coefficient of {experts[0]} (PSI)"]
    assert alarms_of(summarised) == []


def test_reports_of_before_there_were_versions_are_read():
    old = report_of(["a", "b"], {"one": True})
    assert "version" not in old
    report = report_record(["a", "b"], {"one": True})
    assert json.loads(json.dumps(old["datasets"][0]["accuracy"])) == report.datasets[0].accuracy
    assert "expert" not in old["datasets"][0]
    assert (report.datasets[0].expert, report.datasets[0].normalised) == (None, {})


def test_a_damaged_report_is_told(run):
    run.write_json("report.json", report_of(["a", "b"], {"one": True}) | {"experts": 7})
    with pytest.raises(UserError, match=r"report\.json' is damaged: experts"):
        Report.read(run)
