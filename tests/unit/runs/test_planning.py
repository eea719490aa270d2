"""Parts follow from how many chunks each shard has: whole shards, or pieces of a large one."""

import pytest

from dawin_ray.data.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.runs import planning
from dawin_ray.runs.planning import count_chunks, plan_counting, plan_parts
from dawin_ray.runs.work import Mark


def shard(dataset: str, key: str, format_: str = "webdataset") -> Shard:
    return Shard(dataset=dataset, name=f"{key}.tar", address="", format=format_, bytes=1, key=key)


def mark(run, dataset: str, counts: dict[str, int]) -> list[Shard]:
    for key, count in counts.items():
        chunks = {f"{key}-{i:09d}": (2, 0) for i in range(count)}
        run.work.mark("experts", dataset, key, Mark(chunks=chunks))
    return [shard(dataset, key) for key in counts]


def planned(run, shards: dict[str, list[Shard]], chunk_size: int):
    counts = (count for some in plan_counting(shards) for count in count_chunks(run, some))
    return plan_parts(shards, counts, chunk_size)


def pieces(plans) -> list[list[tuple[str, int, int]]]:
    return [[(p.key, p.first, p.last) for p in plan.pieces] for plan in plans]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 2, "b": 1}, [[("a", 0, 2), ("b", 0, 1)]]),
        ({"a": 2, "b": 3}, [[("a", 0, 2)], [("b", 0, 3)]]),  # a shard that fits is not cut
        ({"a": 1, "b": 10}, [[("a", 0, 1)], [("b", 0, 4)], [("b", 4, 8)], [("b", 8, 10)]]),
        ({"b": 9, "a": 3}, [[("b", 0, 4)], [("b", 4, 8)], [("b", 8, 9), ("a", 0, 3)]]),
        ({"a": 0, "b": 4}, [[("a", 0, 0), ("b", 0, 4)]]),
        ({"a": 4, "b": 0}, [[("a", 0, 4), ("b", 0, 0)]]),
        ({"a": 8}, [[("a", 0, 4)], [("a", 4, 8)]]),
        ({}, [[]]),
    ],
)
def test_parts_are_whole_shards_or_pieces_of_one(run, monkeypatch, counts, expected):
    monkeypatch.setattr(planning, "PART_ROWS", 40)
    shards = mark(run, "set", counts)
    plans = planned(run, {"set": shards}, 10)
    assert pieces(plans) == expected
    for plan in plans:
        large = [piece for piece in plan.pieces if not piece.is_whole]
        assert len(large) <= 1  # whose names are compared with those of other parts
        assert all(counts[piece.key] > piece.last - piece.first for piece in large)
        assert all(piece.of == counts[piece.key] for piece in plan.pieces)


def test_parts_are_numbered_within_their_data_set_and_in_all(run, monkeypatch):
    monkeypatch.setattr(planning, "PART_ROWS", 2)
    shards = {name: mark(run, name, {"a": 2, "b": 1}) for name in ("one", "two")}
    plans = planned(run, shards, 1)
    assert [(p.dataset, p.number, p.place) for p in plans] == [
        ("one", 0, 0), ("one", 1, 1), ("two", 0, 2), ("two", 1, 3),
    ]  # fmt: skip


def test_a_chunk_larger_than_a_part_is_one(run, monkeypatch):
    monkeypatch.setattr(planning, "PART_ROWS", 4)
    shards = mark(run, "set", {"a": 2})
    assert pieces(planned(run, {"set": shards}, 10)) == [[("a", 0, 1)], [("a", 1, 2)]]


def test_a_mark_that_is_lost_is_told(run):
    shards = mark(run, "set", {"a": 2})
    with pytest.raises(UserError, match=r"/b\.json' of this run is missing"):
        planned(run, {"set": [*shards, shard("set", "b")]}, 10)


def test_marks_are_read_in_tasks_of_many_shards_and_only_numbers_come_back(run, monkeypatch):
    monkeypatch.setattr(planning, "COUNTED", 2)
    shards = {name: mark(run, name, {"a": 2, "b": 1, "c": 0}) for name in ("one", "two")}
    tasks = plan_counting(shards)
    assert [(task.dataset, task.keys) for task in tasks] == [
        ("one", ("a", "b")), ("one", ("c",)), ("two", ("a", "b")), ("two", ("c",)),
    ]  # fmt: skip
    assert [count_chunks(run, task) for task in tasks] == [[2, 1], [0], [2, 1], [0]]
