"""Parts of a run's passes, as the driver knows them: names and rows of all of them together."""

from types import SimpleNamespace

import pytest

from dawin_ray.data.datasets import Shard
from dawin_ray.job import parts
from dawin_ray.job.parts import experts_parts, predictions_parts, summaries_of
from dawin_ray.runs import RowsLostError, planning
from dawin_ray.runs import RunDirectory as Run
from dawin_ray.statistics import Summary
from tests.unit.runs.test_making import COMPARED, commit, table_of

CHUNKS = {
    "a": {"a-0": (["1", "2"], []), "a-1": (["3"], []), "a-2": (["4"], ["5"])},
    "b": {"b-0": (["6"], [])},
}

SHARDS = {
    "set": [
        Shard(dataset="set", name=f"{k}.tar", address="", format="webdataset", bytes=1, key=k)
        for k in CHUNKS
    ]
}


@pytest.fixture
def passes(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "PART_ROWS", 1)
    monkeypatch.setattr("dawin_ray.runs.summing.FAN_IN", 2)
    return SimpleNamespace(
        run=Run(str(tmp_path / "run")), chunk_size=1, state="new", on=None,
        engine=SimpleNamespace(map=lambda task, items, on: map(task, items)),
        progress=SimpleNamespace(say=lambda _: None),
    )  # fmt: skip


def unfinished(passes):
    return SimpleNamespace(**vars(passes) | {"state": "unfinished"})


def test_the_parts_of_a_run_have_its_rows(passes):
    commit(passes.run, CHUNKS)
    first = experts_parts(passes, SHARDS)
    assert [record.experts.rows for _, record in first["set"]] == [2, 1, 1, 1]
    second = predictions_parts(passes, COMPARED, first)
    assert summaries_of(passes, first, second)["set"].rows == 5


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    ("kind", "ids"), [("experts", ["1"]), ("rejects", ["1"]), ("rejects", ["3"])]
)
def test_a_name_that_is_in_two_parts_of_a_shard_is_told(passes, monkeypatch, resumed, kind, ids):
    commit(passes.run, CHUNKS)
    passes.run.work.commit(kind, "set", "a", "a-2", table_of(kind, ids))
    if resumed:  # killed behind the parts, before names are compared
        with monkeypatch.context() as patch:
            patch.setattr(parts, "_check_names", lambda *_: None)
            experts_parts(passes, SHARDS)
        passes = unfinished(passes)
    for _ in range(2):  # as often as it is run
        with pytest.raises(RowsLostError, match=r"shard 'a\.tar' of data set 'set' .* 5 samples "):
            experts_parts(passes, SHARDS)


def test_the_same_in_one_part_is_told_alike(passes, monkeypatch):
    monkeypatch.setattr(planning, "PART_ROWS", 9)
    commit(passes.run, CHUNKS)
    passes.run.work.commit("experts", "set", "a", "a-2", table_of("experts", ["1"]))
    with pytest.raises(RowsLostError, match=r"shard 'a\.tar' of data set 'set' .* 5 samples have "):
        experts_parts(passes, SHARDS)


@pytest.mark.parametrize("change", ["lost", "twice", "others"])
def test_a_summary_that_is_not_of_the_rows_is_told(passes, monkeypatch, change):
    commit(passes.run, CHUNKS)
    first = experts_parts(passes, SHARDS)
    second = predictions_parts(passes, COMPARED, first)
    if change == "others":  # as many rows
        second[2] = second[3]
    else:
        merge = Summary.merge
        wrong = {"lost": lambda s: merge(s[:1]), "twice": lambda s: merge([*s, s[0]])}[change]
        monkeypatch.setattr(Summary, "merge", wrong)
    with pytest.raises(RowsLostError, match=r"data set 'set' .* 5 samples were scored in pass 1"):
        summaries_of(passes, first, second)


def test_parts_of_an_older_record_are_made_again(passes):
    """Of a run that an older program began: records lack names, which are to be compared."""
    commit(passes.run, CHUNKS)
    first = experts_parts(passes, SHARDS)
    name = "work/parts/experts/set/part-00001.json"
    record = passes.run.read_json(name)
    for key in ("names", "ids"):
        del record[key]
    passes.run.write_json(name, record | {"version": 1})
    passes.run.remove("work/parts/experts/set/part-00001.names")
    assert experts_parts(unfinished(passes), SHARDS) == first
