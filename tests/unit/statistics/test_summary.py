"""Summaries: those of parts merge to that of the whole, and come back from bytes."""

import numpy as np
import pytest

from dawin_ray.statistics import (
    Rows,
    Summary,
    floats_of,
    hashes_of,
    sample,
    scores,
    sketch,
    sum_of_hashes,
)  # fmt: skip
from dawin_ray.statistics.counts import Counts
from tests.unit.statistics.made import EXPERTS, METHODS, make_rows, taken


def parts_of(rows: Rows, seed: int, count: int = 6) -> list[Summary]:
    which = np.random.default_rng(seed).integers(0, count, len(rows.label))
    return [Summary.of(taken(rows, which == part)) for part in range(count + 1)]  # one is empty


def test_summaries_of_parts_are_that_of_the_whole_to_the_bit(monkeypatch):
    monkeypatch.setattr(sketch, "MAX_BINS", 300)
    monkeypatch.setattr(sample, "SAMPLED", 500)
    rows = make_rows(3_000)
    whole = Summary.of(rows)
    assert whole.entropy[0].level > 0
    assert len(whole.sample.hash) == 500
    for seed in range(5):
        assert Summary.merge(parts_of(rows, seed)).to_bytes() == whole.to_bytes()


def test_counts_are_those_of_plain_loops():
    rows = make_rows(1_200)
    counts, known = Summary.of(rows).counts, rows.label >= 0
    right = {name: (rows.prediction[name] == rows.label) & known for name in METHODS}
    dawin = right["dawin"]
    made = rows.in_float32 >= 0
    same = (rows.in_float32 == rows.prediction["dawin"]) & made
    assert counts.size.tolist() == [1_200, known.sum(), made.sum(), same.sum()]
    for i, one in enumerate(METHODS):
        for j, other in enumerate(METHODS):
            assert counts.both[i, j] == (right[one] & right[other]).sum()
        for c in range(7):
            assert counts.class_right[i, c] == right[one][rows.label == c].sum()
    assert counts.class_n.tolist() == [(rows.label == c).sum() for c in range(7)]
    assert counts.predicted.tolist() == np.bincount(rows.prediction["dawin"]).tolist()
    how_many = sum(right[name].astype(int) for name in EXPERTS)
    cells = [how_many == 3, how_many == 0]
    cells += [(how_many == 1) & right[name] for name in EXPERTS] + [how_many == 2]
    for k, cell in enumerate(cells):
        assert counts.cells[:, k].tolist() == [(cell & known).sum(), (cell & dawin).sum()]
    for k in range(3):
        inside = rows.cluster == k
        expected = [inside.sum(), (inside & known).sum(), (inside & dawin).sum()]
        assert counts.clusters[:, k].tolist() == expected
        sums = rows.coefficient[inside].sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(floats_of(counts.cluster_weights[k]), sums, 1e-9)
    same = rows.expert_prediction == rows.prediction["dawin"][:, None]
    agree = (rows.expert_prediction == rows.expert_prediction[:, :1]).all(axis=1)
    expected = [agree.sum(), *same.sum(axis=0), (~same.any(axis=1)).sum()]
    assert counts.agreement.tolist() == expected


def test_means_and_their_intervals_are_those_of_float64():
    rows = make_rows(5_000)
    rows.nll["dawin"][np.flatnonzero(rows.label >= 0)[:3]] = [0, 1e-7, 150]
    rows.brier["dawin"][np.flatnonzero(rows.label >= 0)[0]] = np.inf
    counts, known = Summary.of(rows).counts, rows.label >= 0
    for q, name in enumerate(METHODS):
        for k, losses in enumerate((rows.nll[name], rows.brier[name])):
            values = losses[known & np.isfinite(losses)].astype(np.float64)
            assert counts.finite[k, q] == len(values)
            found = scores.mean(len(values), *floats_of(counts.losses[k, :, q]))
            reach = 1.959963984540054 * values.std(ddof=1) / np.sqrt(len(values))
            assert found.value == pytest.approx(values.mean(), rel=1e-11)
            assert found.high - found.value == pytest.approx(reach, abs=1e-9)
        confidence = rows.confidence[name].astype(np.float64)
        assert floats_of(counts.confidence[q]) == pytest.approx(confidence.sum(), rel=1e-12)
    assert counts.finite[1].tolist() == [known.sum()] * 4 + [known.sum() - 1]


def test_ids_tell_a_lost_and_a_doubled_row():
    rows = make_rows(100)
    whole = Summary.of(rows).counts.ids.tolist()
    order = np.random.default_rng(0).permutation(100)
    assert Summary.of(taken(rows, order)).counts.ids.tolist() == whole
    order[0] = order[1]
    assert Summary.of(taken(rows, order)).counts.ids.tolist() != whole


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


def test_hashes_of_ids_are_spread_and_collide_as_often_as_is_said():
    """At the bits that can be tested: N^2 / 2^(bits + 1) pairs of equal ones."""
    n = 50_000
    hashes = hashes_of(str(i) for i in range(n))
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    assert bits.shape == (n, 128)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    for word in hashes.T:
        cut = np.sort(word >> np.uint64(36))  # 28 bits are left
        expected = n**2 / 2**29
        assert abs((cut[1:] == cut[:-1]).sum() - expected) < 5 * np.sqrt(expected)


def test_sums_of_hashes_tell_lists_apart_as_is_said():
    """In any order and grouping they add; of an id 2^k times too often, k bits are lost."""
    hashes = hashes_of("abcdefgh")
    whole = sum_of_hashes(hashes)
    assert (sum_of_hashes(hashes[::-1]) == whole).all()
    parts = np.stack([sum_of_hashes(hashes[:3]), sum_of_hashes(hashes[3:])])
    assert (parts.sum(axis=0) == whole).all()
    assert (sum_of_hashes(hashes[1:]) != whole).all()  # each of the two numbers tells it
    for k in (1, 8, 63):
        more = sum_of_hashes(np.concatenate([hashes, hashes[:1] << np.uint64(k)]))
        assert ((more - whole).view(np.uint64) << np.uint64(64 - k) == 0).all()
    assert sum_of_hashes(hashes_of([])).tolist() == [0, 0]
