"""The ledger marks a shard when its end and all its chunks are known, and counts every row."""

import dataclasses

import pytest

from dawin_ray import tables
from dawin_ray.data.chunks import ChunkSummary
from dawin_ray.data.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.ledger import PassLedger, RowsLostError, check_shard
from dawin_ray.runs.usable import check_usable
from dawin_ray.runs.work import Mark

SHARD = Shard(dataset="set", name="s.tar", address="", format="webdataset", bytes=9, key="s")
OTHER = Shard(dataset="set", name="t.tar", address="", format="webdataset", bytes=9, key="t")


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


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
    assert run.work.read_mark("experts", "set", "s") == Mark(chunks={"a": (3, 0), "b": (1, 1)})
    ledger.check_complete()
    assert not ledger.open  # nothing is remembered of a shard that is complete


def test_a_shard_is_marked_when_all_its_slices_are_read(run):
    """One slice may have been read twice, and one may have been done before."""
    ends = [end({"a": 1}, cut=(0, 3)), end({"a": 1}, cut=(0, 3)), end({}, ("b",), cut=(2, 3))]
    commit(run, "experts", "b", ["1", "2"])
    ledger = PassLedger(run, ["experts"], [SHARD])
    for summary in [chunk("a", 1), chunk("c", 3), *ends]:
        ledger.add(summary)
        assert run.work.marks("experts", "set") == set()
    ledger.add(end({"c": 3}, cut=(1, 3)))
    marked = run.work.read_mark("experts", "set", "s").chunks
    assert marked == {"a": (1, 0), "b": (2, 0), "c": (3, 0)}


def test_marked_shards_do_not_remain(run):
    run.work.mark("experts", "set", "t", Mark(chunks={}))
    assert PassLedger(run, ["experts"], [SHARD, OTHER]).remaining == [SHARD]


def test_chunks_of_an_earlier_try_are_counted_from_their_files(run):
    commit(run, "experts", "a", ["1", "2"])
    commit(run, "rejects", "a", ["3"])
    ledger = PassLedger(run, ["experts"], [SHARD])
    ledger.add(end({"b": 1}, before=("a",)))
    ledger.add(chunk("b", 1))
    assert run.work.read_mark("experts", "set", "s").chunks == {"a": (2, 1), "b": (1, 0)}


def test_a_task_that_ran_twice_changes_nothing(run):
    ledger = PassLedger(run, ["experts"], [SHARD])
    for summary in [*ORDERS[0], *ORDERS[0]]:
        ledger.add(summary)
    ledger.check_complete()
    assert run.work.read_mark("experts", "set", "s").chunks == {"a": (3, 0), "b": (1, 1)}


def test_a_chunk_that_lost_a_row_is_named(run):
    ledger = PassLedger(run, ["experts"], [SHARD])
    ledger.add(chunk("a", 2))
    with pytest.raises(RowsLostError, match=r"chunk a .*3 samples were read, but 2 scored and 0"):
        ledger.add(end({"a": 3}))


def finished(run: RunDirectory, predictions: list[str], rejects: list[str]) -> None:
    for kind in ("experts", "predictions"):
        run.work.mark(kind, "set", "s", Mark(chunks={"a": (2, 1)}))
    commit(run, "predictions", "a", predictions)
    commit(run, "rejects", "a", rejects)


def test_a_sound_shard_is_counted(run):
    finished(run, ["1", "2"], ["3"])
    assert check_shard(run, SHARD) == (2, 1)


@pytest.mark.parametrize(
    ("predictions", "rejects", "message"),
    [
        (["1"], ["3"], "2 samples were scored and 1 rejected, but there are 1 predictions and 1"),
        (["1", "2"], ["3", "4"], "there are 2 predictions and 2 rejects"),
        (["1", "1"], ["3"], "3 samples have only 2 names"),
        (["1", "2"], ["2"], "3 samples have only 2 names"),
    ],
)
def test_a_violated_count_names_the_shard(run, predictions, rejects, message):
    finished(run, predictions, rejects)
    with pytest.raises(RowsLostError, match=message) as caught:
        check_shard(run, SHARD)
    assert "shard 's.tar' of data set 'set'" in str(caught.value)


def test_passes_that_differ_are_found(run):
    finished(run, ["1", "2"], ["3"])
    run.work.mark("predictions", "set", "s", Mark(chunks={"b": (2, 1)}))
    with pytest.raises(RowsLostError, match="pass 2 has other chunks than pass 1"):
        check_shard(run, SHARD)


# Broken shards


def broken(run: RunDirectory, shard: str, rows: int, lost: int | None, parts: int = 1) -> Shard:
    """A shard of the run that has rows, and breaks with a loss."""
    columns = {
        "sample_id": [f"{shard}.tar/\\@{i}" for i in range(parts)],
        "shard": [f"{shard}.tar"] * parts,
        "reason": ["the shard breaks after byte 7"] * parts,
        "broken": [True] * parts,
        "lost": [lost] * parts,
    }
    run.work.commit("rejects", "set", shard, "a", tables.table(tables.REJECTS, columns))
    run.work.mark("experts", "set", shard, Mark(chunks={"a": (rows, parts)}))
    return whole(shard)


def whole(shard: str) -> Shard:
    return Shard(
        dataset="set", name=f"{shard}.tar", address="", format="webdataset", bytes=9, key=shard
    )


def sound(run: RunDirectory, shard: str, rows: int) -> Shard:
    run.work.mark("experts", "set", shard, Mark(chunks={"a": (rows, 0)}))
    return whole(shard)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (230, "about 230 samples \\(estimated\\) lost"),
        (1, "about 1 sample \\(estimated\\) lost"),
        (None, "an unknown number of samples lost"),
    ],
)
def test_a_broken_shard_fails_the_run_with_its_name_and_its_loss(run, lost, words):
    shards = [sound(run, "s", 99), broken(run, "t", 1, lost)]
    message = rf"1 shard is broken.*max_broken_shards \(0\)(.|\n)*set: t\.tar: {words}: the shard"
    with pytest.raises(UserError, match=message) as caught:
        check_usable(run, {"set": shards}, 1.0)
    assert "raise max_broken_shards" in str(caught.value)
    assert "the work done is kept" in str(caught.value)
    check_usable(run, {"set": shards}, 1.0, max_broken=1)


def test_rows_of_a_parquet_file_are_counted_not_estimated(run):
    shard = dataclasses.replace(broken(run, "t", 1, 180), format="parquet")
    with pytest.raises(UserError, match=r"t\.tar: 180 samples lost"):
        check_usable(run, {"set": [shard]}, 1.0)


def test_what_is_lost_counts_against_the_limit_of_rejects(run):
    shards = [sound(run, "s", 99), broken(run, "t", 1, 50)]
    with pytest.raises(UserError, match="50 of 150 samples were rejected, 50 of them lost") as told:
        check_usable(run, {"set": shards}, 0.3, max_broken=1)
    assert "max_reject_fraction (0.3)" in str(told.value)
    check_usable(run, {"set": shards}, 0.34, max_broken=1)


def test_what_is_not_known_counts_as_one(run):
    shards = [sound(run, "s", 98), broken(run, "t", 1, None)]
    check_usable(run, {"set": shards}, 0.01, max_broken=1)
    with pytest.raises(UserError, match="1 of 100 samples were rejected, 1 of them"):
        check_usable(run, {"set": shards}, 0.009, max_broken=1)


def test_a_shard_that_breaks_in_two_places_is_one_shard(run):
    shards = [sound(run, "s", 99), broken(run, "t", 1, 5, parts=2)]
    check_usable(run, {"set": shards}, 1.0, max_broken=1)
    with pytest.raises(UserError, match=r"t\.tar: about 10 samples"):
        check_usable(run, {"set": shards}, 1.0)


def test_of_thousands_of_broken_shards_a_few_are_named(run):
    shards = [broken(run, f"s{i:04d}", 1, 3) for i in range(300)]
    with pytest.raises(UserError, match=r"300 shards are broken.*at least 900 samples are") as told:
        check_usable(run, {"set": shards}, 1.0, max_broken=299)
    assert len(str(told.value)) < 2000
    assert "and 290 more broken shards" in str(told.value)


def test_a_set_that_is_all_broken_has_no_usable_image_however_many_may_break(run):
    shards = [broken(run, "s", 0, None)]
    with pytest.raises(UserError, match="'set' has no usable image"):
        check_usable(run, {"set": shards}, 1.0, max_broken=1)


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
