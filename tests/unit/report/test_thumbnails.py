"""Example images: what is said of one, and which groups they are of."""

import numpy as np
import pyarrow.parquet as pq

from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.thumbnails import groups_of, title_of
from tests.unit.report.made import EXPERTS, all_rows, recut, write_run


def test_a_title_has_answer_and_weight_of_every_expert(run, experts):
    rows = all_rows(run, "one")
    title = title_of(rows, 3)
    assert title.startswith(f", label {rows.label[3]}; DaWin {rows.prediction['dawin'][3]}, ")
    answers, weights = title.split("; weights ")
    for i, name in enumerate(experts):
        assert f"{name} {rows.expert_prediction[3, i]}" in answers
        assert f"{name} {rows.coefficient[3, i]:.2f}" in weights
    assert "label" not in title_of(all_rows(run, "bare"), 3)


def test_groups_are_clusters_and_outcomes(run):
    groups = groups_of(all_rows(run, "one"))
    assert {"cluster 0", "cluster 1", "cluster 2"} < groups.keys()
    assert {"cluster 0", "cluster 1", "cluster 2"} == groups_of(all_rows(run, "bare")).keys()


def test_the_first_rows_are_those_and_no_more_is_read(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": True}, rows=60)
    whole = all_rows(run, "one")
    recut(run, "one", {"experts": 13, "predictions": 7})
    read, before = [], pq.ParquetFile.read_row_group

    def noted(self, *args, **keywords):
        table = before(self, *args, **keywords)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    ids, rows = FinishedRun.of(run).first_rows("one", 16)
    assert ids == [f"one-{i:04d}" for i in range(16)]
    np.testing.assert_array_equal(rows.label, whole.label[:16])
    np.testing.assert_array_equal(rows.coefficient, whole.coefficient[:16])
    np.testing.assert_array_equal(rows.prediction["dawin"], whole.prediction["dawin"][:16])
    assert sum(read) <= 2 * 21 + 26  # ids twice
    assert FinishedRun.of(run).first_rows("one", 999)[0] == [f"one-{i:04d}" for i in range(60)]
