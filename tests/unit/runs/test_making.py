"""Parts hold the rows of their chunks, are made once, and again where they are spoilt."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from dawin_ray import tables
from dawin_ray.errors import UserError
from dawin_ray.runs import making, parts
from dawin_ray.runs.ledger import RowsLostError
from dawin_ray.runs.making import log_expertise_of, make_experts, make_predictions
from dawin_ray.runs.part_records import record_name
from dawin_ray.runs.planning import PartPlan, Piece
from dawin_ray.runs.scored import Compared, rows_of
from dawin_ray.runs.summing import read_summary
from dawin_ray.runs.work import Mark
from dawin_ray.statistics import Summary

COMPARED = Compared(experts=("x", "y"), beside=("x", "y"), fits=(), exact=True)

CHUNKS = {"a": {"a-0": (["1", "2"], ["3"]), "a-1": (["4"], [])}, "b": {"b-0": (["5"], ["6", "7"])}}

PLAN = PartPlan(
    dataset="set", number=2, place=5, counted=False,
    pieces=(
        Piece(key="a", shard="a.tar", first=0, last=2, of=2),
        Piece(key="b", shard="b.tar", first=0, last=1, of=1),
    ),
)  # fmt: skip


def table_of(kind: str, ids: list[str]) -> pa.Table:
    columns = {"sample_id": ids}
    number = np.array(ids, np.int32)
    each = np.stack([number, number], axis=1)
    if kind == "experts":
        columns["log_expertise"] = np.array([[float(i), -1.0] for i in ids], np.float32)
        columns |= {"baseline_prediction": each, "baseline_confidence": each / np.float32(9)}
        columns |= {f"baseline_{name}": each.astype(np.float32) for name in ("nll", "brier")}
    if kind == "predictions":
        columns |= {"label": number.astype(np.int64), "prediction": number, "cluster": number * 0}
        columns |= {name: number.astype(np.float32) / 9 for name in ("confidence", "nll", "brier")}
        columns |= {"coefficient": each / np.float32(9), "expert_prediction": each}
        columns |= {"expert_entropy": each.astype(np.float32)}
    if kind == "rejects":
        columns |= {"reason": [f"no image {i}" for i in ids], "broken": [i == "6" for i in ids]}
        columns |= {"shard": ["b.tar"] * len(ids), "lost": [9] * len(ids)}
    return tables.table(tables.TABLES[kind], columns)


def commit(run, chunks=CHUNKS, kinds=("experts", "predictions"), *, counted: bool = True) -> None:
    """The chunks of both passes, with marks; not `counted`, as of an earlier try."""
    for shard, of_shard in chunks.items():
        for name, (ids, refused) in of_shard.items():
            for kind in kinds:
                run.work.commit(kind, "set", shard, name, table_of(kind, ids))
            if refused:
                run.work.commit("rejects", "set", shard, name, table_of("rejects", refused))
        counts = {name: (len(i), len(r)) if counted else None for name, (i, r) in of_shard.items()}
        for kind in kinds:
            run.work.mark(kind, "set", shard, Mark(chunks=counts))


def ids_in(run, *names: str) -> list[str]:
    return pa.concat_tables(run.parts.read(*names))["sample_id"].to_pylist()


def make(run):
    first = make_experts(run, PLAN)
    return first, make_predictions(run, COMPARED, (PLAN, first))


@pytest.mark.parametrize("counted", [True, False])
def test_parts_hold_the_rows_of_their_chunks_in_their_order(run, counted):
    commit(run, counted=counted)
    first, second = make(run)
    assert ids_in(run, "experts", "dataset=set") == ["1", "2", "4", "5"]
    assert ids_in(run, "predictions", "dataset=set") == ["1", "2", "4", "5"]
    assert ids_in(run, "rejects") == ["3", "6", "7"]
    assert [part.path for part in (*first.outputs, *second.outputs)] == [
        "experts/dataset=set/part-00002.parquet",
        "rejects/part-00005.parquet",
        "predictions/dataset=set/part-00002.parquet",
    ]
    assert [dataclasses.astuple(shard) for shard in first.shards] == [("a", 3, 1), ("b", 1, 2)]
    assert first.reasons == {"no image #": 3}
    assert first.first == ("3", "no image 3")
    assert [(shard.shard, shard.lost) for shard in first.broken] == [("b.tar", 9)]
    batches = list(log_expertise_of(run, first))
    assert [batch[:, 0].tolist() for batch in batches] == [[1, 2], [4], [5]]


def test_the_summary_is_that_of_the_rows(run, monkeypatch):
    monkeypatch.setattr(parts, "ROW_GROUP", 3)
    commit(run)
    _, second = make(run)
    found = read_summary(run, second.summary)
    (experts, predictions) = (
        pa.concat_tables(run.parts.read(kind, "dataset=set")) for kind in ("experts", "predictions")
    )
    whole = Summary.of(rows_of(experts, predictions, COMPARED))
    assert found.counts.size.tolist() == whole.counts.size.tolist() == [4, 4, 0, 0]
    assert found.counts.ids.tolist() == whole.counts.ids.tolist()


def test_a_piece_has_its_own_chunks_only(run):
    commit(run)
    piece = Piece(key="a", shard="a.tar", first=1, last=2, of=2)
    first = make_experts(run, dataclasses.replace(PLAN, pieces=(piece,)))
    assert ids_in(run, "experts", "dataset=set") == ["4"]
    assert first.rejects is None


def test_a_set_without_rows_and_the_first_rejects_have_their_columns(run):
    first = make_experts(run, dataclasses.replace(PLAN, place=0, pieces=()))
    second = make_predictions(run, COMPARED, (dataclasses.replace(PLAN, place=0, pieces=()), first))
    assert [part.rows for part in (*first.outputs, *second.outputs)] == [0, 0, 0]
    assert list(log_expertise_of(run, first)) == []


def test_what_is_made_is_not_made_again(run):
    commit(run)
    made = make(run)
    for shard, of_shard in CHUNKS.items():
        for name in of_shard:
            run.work.remove_chunk("experts", "set", shard, name)
            run.work.remove_chunk("predictions", "set", shard, name)
    assert make(run) == made


@pytest.mark.parametrize("path", ["experts/dataset=set", "rejects", "predictions/dataset=set"])
def test_a_part_that_was_spoilt_since_is_made_again(run, path):
    commit(run)
    made = make(run)
    (part,) = [p for record in made for p in record.outputs if p.path.startswith(path)]
    content = run.read_bytes(part.path)
    for spoilt in (content[:-9], bytes([content[0], content[99] ^ 1]) + content[2:], b""):
        run.write(run.path(part.path), spoilt)
        assert make(run) == made
        assert run.read_bytes(part.path) == content
    run.remove(part.path)
    assert make(run) == made


def test_a_summary_that_was_spoilt_since_is_made_again(run):
    commit(run)
    made = make(run)
    run.write_text(made[1].summary.path, "x")
    with pytest.raises(UserError, match=r"part-00002\.summary' .*made again"):
        read_summary(run, made[1].summary)
    assert make(run) == made
    assert read_summary(run, made[1].summary).counts.size[0] == 4


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 99}'])
@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_a_damaged_record_is_none(run, kind, text):
    commit(run)
    made = make(run)
    run.write_text(record_name(kind, PLAN), text)
    assert make(run) == made


def test_a_record_of_other_chunks_is_none(run):
    commit(run)
    make(run)
    commit(run, {"b": {"b-0": (["5"], []), "b-1": (["6"], [])}})
    plan = dataclasses.replace(
        PLAN, pieces=(PLAN.pieces[0], Piece(key="b", shard="b.tar", first=0, last=2, of=2))
    )
    run.work.remove_chunk("rejects", "set", "b", "b-0")
    assert make_experts(run, plan).rows_of_chunks == (2, 1, 1, 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda run, first: make_predictions(run, COMPARED, (PLAN, first)),
        lambda run, first: list(log_expertise_of(run, first)),
    ],
)
def test_a_part_that_is_spoilt_between_the_passes_is_told_and_made_again(run, read):
    commit(run)
    first = make_experts(run, PLAN)
    content = run.read_bytes(first.experts.path)
    run.write(run.path(first.experts.path), content.replace(b"\x01", b"\x02", 1))
    with pytest.raises(UserError, match=r"part-00002\.parquet' of this run is damaged.*again"):
        read(run, first)
    assert make_experts(run, PLAN) == first
    assert run.read_bytes(first.experts.path) == content


@pytest.mark.parametrize("kind", ["experts", "rejects", "predictions"])
@pytest.mark.parametrize("how", ["lost", "cut"])
def test_a_chunk_that_is_spoilt_is_told(run, kind, how):
    commit(run)
    name = f"work/{kind}/set/b/b-0.parquet"
    if how == "lost":
        run.remove(name)
    else:
        run.write(run.path(name), run.read_bytes(name)[:-7])
    what = "missing" if how == "lost" else "damaged"
    with pytest.raises(UserError, match=rf"b-0\.parquet' of this run is {what}.*made again"):
        make(run)
    assert not run.exists(name)  # so that it is


@pytest.mark.parametrize(
    ("kind", "ids", "message"),
    [
        ("experts", ["1"], "2 samples were scored and 1 rejected, but there are 1 rows and 1"),
        ("rejects", ["3", "9"], "there are 2 rows and 2 rejects"),
        ("experts", ["1", "1"], "4 samples have only 3 names"),
        ("rejects", ["2"], "4 samples have only 3 names"),
        ("experts", ["1", "4"], "4 samples have only 3 names"),  # of two chunks
        ("predictions", ["1"], "2 samples were scored in pass 1, but there are 1 predictions"),
        ("predictions", ["2", "1"], "other samples, or in another order"),
        ("predictions", ["1", "9"], "other samples, or in another order"),
    ],
)
def test_a_violated_count_names_the_shard(run, kind, ids, message):
    commit(run)
    run.work.commit(kind, "set", "a", "a-0", table_of(kind, ids))
    with pytest.raises(RowsLostError, match=message) as caught:
        make(run)
    assert "shard 'a.tar'" in str(caught.value)
    assert "of data set 'set'" in str(caught.value)


def test_passes_that_differ_are_found(run):
    commit(run)
    run.work.mark("predictions", "set", "b", Mark(chunks={"b-1": (1, 2)}))
    with pytest.raises(RowsLostError, match="pass 2 has other chunks than pass 1"):
        make(run)


def test_row_groups_of_both_passes_are_of_the_same_chunks(run, monkeypatch):
    monkeypatch.setattr(parts, "ROW_GROUP", 3)
    commit(run)
    make(run)
    for kind in ("experts", "predictions"):
        groups = list(run.parts.read(kind, "dataset=set"))
        assert [group["sample_id"].to_pylist() for group in groups] == [["1", "2", "4"], ["5"]]


def test_a_record_has_few_reasons(run, monkeypatch):
    monkeypatch.setattr(making, "KEPT_REASONS", 1)
    commit(run)
    run.work.commit("rejects", "set", "b", "b-0", table_of("rejects", ["6", "7"]))
    assert len(make_experts(run, PLAN).reasons) == 1
