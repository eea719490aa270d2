"""The ledger marks a shard when its end and all its chunks are known, and counts every row."""

import dataclasses
import time
from contextlib import suppress

import pytest

from dawin_ray import tables
from dawin_ray.data.chunks import ChunkSummary
from dawin_ray.data.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.ledger import PassLedger, RowsLostError
from dawin_ray.runs.work import Mark, Work

SHARD = Shard(dataset="set", name="s.tar", address="", format="webdataset", bytes=9, key="s")
OTHER = Shard(dataset="set", name="t.tar", address="", format="webdataset", bytes=9, key="t")


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def marked(run: RunDirectory) -> Mark:
    """The mark of the shard."""
    (mark,) = run.work.read_marks("experts", "set", ["s"])
    return mark


def chunk(name: str, rows: int, rejects: int = 0, shard: str = "s") -> ChunkSummary:
    return ChunkSummary(
        dataset="set", shard=shard, chunk=name, rows=rows, rejects=rejects, bytes=9, begun=1.0,
        done=2.0,
    )  # fmt: skip


def end(
    read: dict[str, int], before: tuple[str, ...] = (), cut: tuple[int, int] = (0, 1)
) -> ChunkSummary:
    """Of slice `cut[0]` of `cut[1]`."""
    told = {"read": read, "before": list(before), "slice": cut[0], "of": cut[1]}
    return dataclasses.replace(chunk("", 0), end=told)


def commit(run: RunDirectory, kind: str, name: str, ids: list[str]) -> None:
    schema = {"experts": tables.EXPERTS, "predictions": tables.PREDICTIONS,
              "rejects": tables.REJECTS}[kind]  # fmt: skip
    run.work.commit(kind, "set", "s", name, tables.table(schema, {"sample_id": ids}))


ORDERS = [
    [chunk("a", 3), chunk("b", 1, 1), end({"a": 3, "b": 2})],
    [end({"a": 3, "b": 2}), chunk("b", 1, 1), chunk("a", 3)],
    [chunk("b", 1, 1), end({"a": 3, "b": 2}), chunk("a", 3)],
]


@pytest.mark.parametrize("order", ORDERS)
def test_a_shard_is_marked_with_its_last_summary_whatever_it_is(run, order):
    ledger = PassLedger(run, ["experts"], [SHARD])
    for summary in order[:-1]:
        ledger.add(summary)
        assert run.work.marks("experts", "set") == set()
    with pytest.raises(RowsLostError, match=r"1 shards of .* did not"):
        ledger.check_complete()
    ledger.add(order[-1])
    ledger.check_complete()
    assert marked(run) == Mark(chunks={"a": (3, 0), "b": (1, 1)})
    assert not ledger.open  # nothing is remembered of a shard that is complete


def test_a_shard_is_marked_when_all_its_slices_are_read(run):
    """One slice may have been read twice, and one may have been done before."""
    ends = [end({"a": 1}, cut=(0, 3)), end({"a": 1}, cut=(0, 3)), end({}, ("b",), cut=(2, 3))]
    commit(run, "experts", "b", ["1", "2"])
    ledger = PassLedger(run, ["experts"], [SHARD])
    for summary in [chunk("a", 1), chunk("c", 3), *ends]:
        ledger.add(summary)
        assert ledger.open
    ledger.add(end({"c": 3}, cut=(1, 3)))
    ledger.check_complete()
    chunks = marked(run).chunks
    assert chunks == {"a": (1, 0), "b": None, "c": (3, 0)}


def test_marked_shards_do_not_remain(run):
    run.work.mark("experts", "set", "t", Mark(chunks={}))
    assert PassLedger(run, ["experts"], [SHARD, OTHER]).remaining == [SHARD]


def test_chunks_of_an_earlier_try_are_named_and_not_counted(run):
    """Who reads them for their part counts them."""
    commit(run, "experts", "a", ["1", "2"])
    commit(run, "rejects", "a", ["3"])
    ledger = PassLedger(run, ["experts"], [SHARD])
    assert ledger.chunks == {("set", "s"): {"a"}}
    ledger.add(end({"b": 1}, before=("a",)))
    ledger.add(chunk("b", 1))
    ledger.check_complete()
    assert marked(run).chunks == {"a": None, "b": (1, 0)}
    commit(run, "experts", "b", ["4"])
    again = PassLedger(run, ["experts"], [SHARD])
    assert (again.remaining, again.chunks) == ([], {})


def test_what_goes_wrong_with_a_mark_is_told_and_no_mark_is_written_behind_the_ledger(
    run, monkeypatch
):
    def full(*_):
        time.sleep(0.1)
        raise UserError("no space is left")

    monkeypatch.setattr(Work, "mark", full)
    with PassLedger(run, ["experts"], [SHARD]) as one:
        one.add(end({}))
        with pytest.raises(UserError, match="no space"):
            one.check_complete()
    noted = []
    monkeypatch.setattr(Work, "mark", lambda *_: [time.sleep(0.1), noted.append(1)])
    with suppress(KeyboardInterrupt), PassLedger(run, ["experts"], [SHARD]) as other:
        other.add(end({}))
        raise KeyboardInterrupt
    assert noted == [1]


def test_a_resume_reads_by_shard_and_not_by_chunk(run, monkeypatch):
    """One listing for each kind, and a mark for each shard; of chunks nothing but their names."""
    keys = [f"s{i}" for i in range(50)]
    shards = [dataclasses.replace(SHARD, name=key, key=key) for key in keys]
    table = tables.table(tables.EXPERTS, {"sample_id": ["1"]})
    for key in keys:
        for name in "abcd":
            run.work.commit("experts", "set", key, name, table)
        if key < "s3":
            run.work.mark("experts", "set", key, Mark(chunks=dict.fromkeys("abcd", (1, 0))))
    fs, _ = run.path()
    listed, opened = [], []
    find, read = fs.find, fs.cat_file
    monkeypatch.setattr(fs, "find", lambda *a, **b: listed.append(a) or find(*a, **b))
    monkeypatch.setattr(fs, "cat_file", lambda path, **b: opened.append(path) or read(path, **b))
    monkeypatch.setattr(Work, "_opened", None)  # no chunk is read
    ledger = PassLedger(run, ["experts"], shards)
    assert len(ledger.remaining) == sum(key >= "s3" for key in keys)
    assert all(names == set("abcd") for names in ledger.chunks.values())
    assert len(listed) <= 2  # experts and rejects
    assert len(opened) == sum(key < "s3" for key in keys)
    assert all("/marks/" in path for path in opened)


def test_a_task_that_ran_twice_changes_nothing(run):
    ledger = PassLedger(run, ["experts"], [SHARD])
    for summary in [*ORDERS[0], *ORDERS[0]]:
        ledger.add(summary)
    ledger.check_complete()
    assert marked(run).chunks == {"a": (3, 0), "b": (1, 1)}


def test_a_chunk_that_lost_a_row_is_named(run):
    ledger = PassLedger(run, ["experts"], [SHARD])
    ledger.add(chunk("a", 2))
    with pytest.raises(RowsLostError, match=r"chunk a .*3 samples were read, but 2 scored and 0"):
        ledger.add(end({"a": 3}))


# What a resumed run finds


def complete(run: RunDirectory, kinds: tuple[str, ...], rejected: int = 1) -> None:
    """Two chunks of shard s, the first with a reject."""
    chunks = {"a": (2, rejected), "b": (2, 0)}
    for kind in kinds:
        for name in chunks:
            commit(run, kind, name, [f"{name}1", f"{name}2"])
        run.work.mark(kind, "set", "s", Mark(chunks=chunks))
    if rejected:
        commit(run, "rejects", "a", ["a3"])


@pytest.mark.parametrize("kinds", [("experts",), ("experts", "predictions")])
def test_a_shard_with_all_its_chunks_is_done(run, kinds):
    complete(run, kinds)
    assert PassLedger(run, kinds, [SHARD]).remaining == []


@pytest.mark.parametrize("kinds", [("experts",), ("experts", "predictions")])
@pytest.mark.parametrize("lost", ["experts", "predictions", "rejects"])
def test_a_chunk_that_lost_a_file_is_made_again(run, kinds, lost):
    if lost not in (*kinds, "rejects"):
        pytest.skip("the pass has no such files")
    complete(run, kinds)
    run.work.remove_chunk(lost, "set", "s", "a")
    assert PassLedger(run, kinds, [SHARD]).remaining == [SHARD]
    for kind in kinds:
        assert run.work.chunks(kind, "set", "s") == ["b"]  # the other one is kept
        assert run.work.marks(kind, "set") == set()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"chunks": {"a": 3}}', '{"chunks": []}'])
@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_a_damaged_mark_is_none(run, kind, text):
    kinds = ("experts", "predictions")
    complete(run, kinds)
    run.write_text(f"work/marks/{kind}/set/s.json", text)
    assert PassLedger(run, kinds, [SHARD]).remaining == [SHARD]
    assert run.work.chunks("predictions", "set", "s") == ["a", "b"]
    assert run.work.marks("experts", "set") == run.work.marks("predictions", "set") == set()


def test_marks_of_two_kinds_that_differ_are_none(run):
    complete(run, ("experts", "predictions"))
    run.work.mark("experts", "set", "s", Mark(chunks={"a": (2, 1)}))
    assert PassLedger(run, ("experts", "predictions"), [SHARD]).remaining == [SHARD]
