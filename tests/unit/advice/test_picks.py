"""A pilot takes few samples, the same ones, from all over the data."""

import numpy as np
import pytest

from dawin_ray.advice import picks as module
from dawin_ray.advice.picks import FLOOR, LEAST, MOST, Counted, counted, picks, quotas
from dawin_ray.data import DatasetConfig, Shard, list_files, make_shards
from tests.conftest import make_images, write_tar


@pytest.mark.parametrize(
    ("totals", "wanted"),
    [
        ({"a": 40}, {"a": 40}),
        ({"a": 2_000}, {"a": LEAST}),
        ({"a": 100_000}, {"a": 1_000}),
        ({"a": 10**9}, {"a": MOST}),
        ({"a": 90_000, "b": 10_000}, {"a": 900, "b": 100}),
        ({"a": 99_990, "b": 10}, {"a": 1_000, "b": 10}),
        ({"a": 100_000, "b": 1_000}, {"a": 1_000, "b": FLOOR}),
        ({"a": 100, "b": 0}, {"a": 100, "b": 0}),
    ],
)
def test_one_per_cent_within_bounds_and_some_of_each_set(totals, wanted):
    assert quotas(totals) == wanted


def test_a_person_may_ask_for_more_or_fewer():
    assert quotas({"a": 100_000, "b": 100_000}, 3_000) == {"a": 1_500, "b": 1_500}
    assert quotas({"a": 100}, 7) == {"a": 7}


def shards_of(counts, kind="folder"):
    return [
        Shard(dataset="d", name=f"s{i}", address="/data", format=kind, bytes=n, key=f"s{i}")
        for i, n in enumerate(counts)
    ]


def test_samples_lie_all_over_the_shards_and_are_the_same_every_time():
    counts = [100, 0, 300, 50]
    found = picks(shards_of(counts), Counted(samples=tuple(counts), known=True), 90)
    again = picks(shards_of(counts), Counted(samples=tuple(counts), known=True), 90)
    assert found == again
    assert {place: len(ordinals) for place, ordinals in found.items()} == {0: 20, 2: 60, 3: 10}
    for place, ordinals in found.items():
        assert ordinals == sorted(set(ordinals))
        assert ordinals[-1] < counts[place]
    # one of each fifth, at no fixed place in it
    assert [o // 5 for o in found[2]] == list(range(60))
    assert len({o % 5 for o in found[2]}) == 5


def test_all_are_taken_where_all_are_wanted():
    found = picks(shards_of([3, 4]), Counted(samples=(3, 4), known=True), 7)
    assert found == {0: [0, 1, 2], 1: [0, 1, 2, 3]}
    assert picks(shards_of([0]), Counted(samples=(0,), known=True), 0) == {}


def test_of_many_tars_some_are_opened_for_several_samples_each():
    counts = Counted(samples=(100,) * 200, known=True)
    found = picks(shards_of([1] * 200, "webdataset"), counts, 320)
    assert len(found) == 320 // module.OF_SHARD
    assert np.ptp(np.diff(list(found))) <= 1  # evenly
    assert sum(map(len, found.values())) == 320


def test_samples_that_headers_do_not_tell_are_estimated_by_bytes(tmp_path, monkeypatch):
    for i, count in enumerate((10, 30)):
        write_tar(tmp_path / f"{i}.tar", make_images(count), [0] * count)
    config = DatasetConfig(name="d", path=str(tmp_path))
    shards = make_shards(config, list_files(config))
    assert counted(shards) == Counted(samples=(10, 30), known=True)
    monkeypatch.setattr(module, "count_samples", lambda shard: None)  # as of a tar elsewhere
    found = counted(shards)
    assert not found.known
    assert found.samples[0] == 10
    assert found.samples[1] == round(shards[1].bytes / (shards[0].bytes / 10))
