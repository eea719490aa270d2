"""Example images: what is said of one, and which groups they are of."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from dawin_ray.method import named_weights
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.thumbnails import groups_of, thumbnail_of
from tests.unit.report.made import EXPERTS, all_rows, recut, write_run


def test_a_caption_has_label_answers_confidences_and_weights(run, experts):
    rows, names = all_rows(run, "one"), ["<b>", "=1", "two", "three", "four"]
    shown = thumbnail_of(rows, 3, names, "an id", "data:,")
    label = int(rows.label[3])
    assert (shown.sample_id, shown.label) == ("an id", names[label])
    assert [said.name for said in shown.said] == ["DaWin", *experts]
    for said, name in zip(shown.said, ["dawin", *experts], strict=True):
        answer = int(rows.prediction[name][3])
        assert (said.answer, said.right) == (names[answer], answer == label)
        assert said.confidence == pytest.approx(rows.confidence[name][3])
    assert shown.weights == named_weights(experts, rows.coefficient[3].tolist())


def test_a_caption_without_labels_or_names_says_neither(run):
    shown = thumbnail_of(all_rows(run, "bare"), 3, (), "an id", "data:,")
    assert (shown.label, shown.alt) == (None, "an image without a label")
    assert {said.right for said in shown.said} == {None}
    assert all(said.answer.isdecimal() for said in shown.said)


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
