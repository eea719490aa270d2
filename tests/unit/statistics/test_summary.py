"""Summaries: those of parts merge to that of the whole, and come back from bytes."""

import numpy as np
import pytest

from dawin_ray.statistics import Rows, Summary, sketch
from dawin_ray.statistics.counts import Counts
from tests.unit.statistics.made import EXPERTS, METHODS, make_rows, taken

FLOATS = ("cluster_weights", "losses", "bin_confidence", "confidence")


def parts_of(rows: Rows, seed: int, count: int = 6) -> list[Summary]:
    which = np.random.default_rng(seed).integers(0, count, len(rows.label))
    return [Summary.of(taken(rows, which == part)) for part in range(count + 1)]  # one is empty


def test_summaries_of_parts_are_that_of_the_whole(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 300)
    rows = make_rows(3_000)
    whole = Summary.of(rows)
    assert whole.entropy[0].level > 0
    for seed in range(5):
        merged = Summary.merge(parts_of(rows, seed))
        for name in vars(whole.counts):
            ours, theirs = getattr(whole.counts, name), getattr(merged.counts, name)
            if name in FLOATS:
                ours, theirs = (v[..., 0] + v[..., 1] / 2**40 for v in (ours, theirs))
                np.testing.assert_allclose(ours, theirs, 1e-12)
            else:
                np.testing.assert_array_equal(ours, theirs, name)
        for name in ("entropy", "coefficient", "confidence"):
            for ours, theirs in zip(getattr(whole, name), getattr(merged, name), strict=True):
                assert ours.level == theirs.level
                np.testing.assert_array_equal(ours.key, theirs.key)
                np.testing.assert_array_equal(ours.columns, theirs.columns)
        for name in vars(whole.sample):
            np.testing.assert_array_equal(getattr(whole.sample, name), getattr(merged.sample, name))


def test_any_order_and_grouping_of_merges_gives_the_same_bytes(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 300)
    parts = parts_of(make_rows(2_000), 0)
    expected = Summary.merge(parts).to_bytes()
    draw = np.random.default_rng(1)
    for _ in range(5):
        left = list(parts)
        while len(left) > 1:
            draw.shuffle(left)
            cut = draw.integers(1, len(left)) + 1
            left = [Summary.merge(left[:cut]), *left[cut:]]
        assert left[0].to_bytes() == expected


def test_no_rows_add_nothing():
    some = Summary.of(make_rows(50))
    none = Summary.identity(EXPERTS, METHODS)
    assert Summary.merge([none, some, none]).to_bytes() == some.to_bytes()
    assert Summary.merge([none]).to_bytes() == none.to_bytes()


def test_others_methods_do_not_add():
    with pytest.raises(ValueError, match="do not add"):
        Summary.merge([Summary.of(make_rows(5)), Summary.identity(EXPERTS, (*EXPERTS, "dawin"))])


@pytest.mark.parametrize("n", [0, 1, 2_000])
def test_a_summary_comes_back_from_bytes(n, monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 300)
    summary = Summary.of(make_rows(n))
    content = summary.to_bytes()
    again = Summary.from_bytes(content)
    assert again.to_bytes() == content
    assert isinstance(again.counts, Counts)
    assert Summary.merge([again, summary]).to_bytes() == Summary.merge([summary] * 2).to_bytes()


def test_damaged_bytes_are_said_to_be():
    content = Summary.of(make_rows(40)).to_bytes()
    for cut in range(0, len(content), 97):
        with pytest.raises(ValueError, match=r"."):
            Summary.from_bytes(content[:cut])
    draw = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.integers(len(content))] ^= 1 << draw.integers(8)
        with pytest.raises(ValueError, match="not as it was written"):
            Summary.from_bytes(bytes(damaged))
