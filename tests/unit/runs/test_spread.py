"""Names of shards in several parts are unique in all of them, however many they are."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs import spread
from dawin_ray.runs.making import make_experts
from dawin_ray.runs.part_records import names_name
from dawin_ray.runs.planning import PartPlan, Piece
from dawin_ray.runs.spread import Spread, plan_spreads, repeated_names, write_names
from dawin_ray.statistics import hashes_of
from tests.unit.runs.test_making import commit, table_of

CHUNKS = {
    "a": {"a-0": (["1"], ["2"]), "a-1": (["3", "4"], []), "a-2": (["5"], ["6"])},
    "b": {"b-0": (["7"], [])},
    "c": {"c-0": (["8"], []), "c-1": (["9"], [])},
}

CUTS = [[("a", 0, 1)], [("a", 1, 2)], [("a", 2, 3), ("b", 0, 1)], [("c", 0, 1)], [("c", 1, 2)]]


def plans():
    return [
        PartPlan(
            dataset="set", number=number, place=number, counted=False,
            pieces=tuple(
                Piece(key=key, shard=f"{key}.tar", first=first, last=last, of=len(CHUNKS[key]))
                for key, first, last in cut
            ),
        )
        for number, cut in enumerate(CUTS)
    ]  # fmt: skip


def made(run):
    return [(plan, make_experts(run, plan)) for plan in plans()]


def repeated(run) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in plan_spreads(made(run)):
        found[one.shard] = found.get(one.shard, 0) + repeated_names(run, one)
    return found


def test_names_are_kept_of_large_shards_only(run):
    commit(run, CHUNKS, ("experts",))
    parts = made(run)
    kept = [None if r.names is None else r.names.bytes // 16 for _, r in parts]
    assert kept == [2, 2, 2, 1, 1]  # with rejects, and without those of b
    spreads = plan_spreads(parts)
    assert [(s.dataset, s.shard, s.count, len(s.files)) for s in spreads] == [
        ("set", "a.tar", 6, 3), ("set", "c.tar", 2, 2),
    ]  # fmt: skip
    assert repeated(run) == {"a.tar": 0, "c.tar": 0}


def test_shards_that_lie_in_one_part_need_none(run):
    commit(run, CHUNKS, ("experts",))
    pieces = tuple(
        Piece(key=key, shard=key, first=0, last=len(of), of=len(of)) for key, of in CHUNKS.items()
    )
    plan = replace(plans()[0], pieces=pieces)
    record = make_experts(run, plan)
    assert record.names is None
    assert not run.exists(names_name(plan))
    assert plan_spreads([(plan, record)]) == []


@pytest.mark.parametrize("names", [1, 3, 100])
@pytest.mark.parametrize(
    ("kind", "chunk", "ids"),
    [
        ("experts", "a-2", ["1"]),  # a row of another part's
        ("rejects", "a-2", ["1"]),
        ("experts", "a-2", ["2"]),  # of a reject
        ("rejects", "a-2", ["2"]),
    ],
)
def test_a_name_in_two_parts_is_found_in_some_share(run, monkeypatch, names, kind, chunk, ids):
    monkeypatch.setattr(spread, "NAMES", names)
    commit(run, CHUNKS, ("experts",))
    run.work.commit(kind, "set", "a", chunk, table_of(kind, ids))
    assert repeated(run) == {"a.tar": 1, "c.tar": 0}
    shares = [one.share for one in plan_spreads(made(run)) if one.shard == "a.tar"]
    assert shares == list(range({1: 6, 3: 2, 100: 1}[names]))


def test_shares_have_each_name_once_and_a_task_holds_its_own_only(run, monkeypatch):
    ids = [str(i) for i in range(40_000)]
    files = tuple(
        write_names(run, f"work/{k}.names", hashes_of([*ids[k::4], *ids[:3]])) for k in range(4)
    )
    found, most = 0, 0
    for share in range(16):
        one = Spread(dataset="set", shard="s", files=files, share=share, shares=16)
        tracemalloc.start()
        found += repeated_names(run, one)
        most = max(most, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found == 12
    assert one.count == 40_012
    assert most < 16 * 40_012  # less than the hashes of all names


def test_equal_halves_of_hashes_are_no_equal_names(run):
    hashes = np.array([[7, 1], [7, 2], [8, 1], [7, 3], [7, 1]], dtype=np.uint64)
    file = write_names(run, "work/a.names", hashes)
    one = Spread(dataset="set", shard="s", files=(file,), share=0, shares=1)
    assert repeated_names(run, one) == 1


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_names_that_are_spoilt_are_told_and_made_again(run, how):
    commit(run, CHUNKS, ("experts",))
    parts = made(run)
    name = names_name(plans()[1])
    content = run.read_bytes(name)
    if how == "lost":
        run.remove(name)
    else:
        run.write(run.path(name), content[:-1] + b"x")
    with pytest.raises(UserError, match=r"part-00001\.names' of this run .*made again"):
        repeated_names(run, plan_spreads(parts)[0])
    assert made(run) == parts
    assert run.read_bytes(name) == content
