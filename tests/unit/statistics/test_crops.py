"""Crops by their hashes: copies with two labels are found however rows are split, and bounded."""

import dataclasses

import numpy as np
import pytest

from dawin_ray.statistics import FLAT_RANGE, Crops, Summary, crops, hashes_of
from tests.unit.statistics.made import EXPERTS, METHODS, make_rows, taken

BRIGHT = np.uint8(200)


def crops_of(hashes, labels, ranges=BRIGHT) -> Crops:
    hashes = np.array(hashes, dtype=np.uint64)
    ranges = np.broadcast_to(np.asarray(ranges, dtype=np.uint8), hashes.shape)
    return Crops.of(hashes, ranges, np.array(labels, dtype=np.int64))


def plain(found: Crops) -> dict:
    return {f.name: getattr(found, f.name).tolist() for f in dataclasses.fields(found)}


def test_copies_with_different_labels_are_counted():
    found = crops_of([5, 3, 5, 3, 9], [1, 2, 4, 2, 0])
    assert plain(found) == {
        "size": [5, 0], "hash": [3, 5, 9], "copies": [2, 2, 1], "lowest": [2, 1, 0],
        "highest": [2, 4, 0],
    }  # fmt: skip
    assert found.conflicting.tolist() == [False, True, False]


def test_a_copy_without_a_label_is_no_other_label():
    assert not crops_of([5, 5], [-1, 3]).conflicting.any()


def test_flat_crops_are_counted_and_are_no_copies():
    found = crops_of([5, 5, 6], [1, 2, 3], [FLAT_RANGE, FLAT_RANGE, FLAT_RANGE + 1])
    assert (found.known, found.flat, found.hash.tolist()) == (3, 2, [6])


def test_nothing_is_known_of_rows_of_before():
    nothing = Crops.of(None, None, np.array([1, 2]))
    assert (nothing.known, len(nothing.hash)) == (0, 0)
    known = crops_of([5], [1])
    assert plain(Crops.merge([nothing, known])) == plain(known)


@pytest.mark.parametrize("kept", [4, 1 << 16])
def test_parts_add_to_the_whole_in_any_order(kept, monkeypatch):
    monkeypatch.setattr(crops, "KEPT", kept)
    draw = np.random.default_rng(0)
    hashes, labels = draw.integers(0, 30, 200), draw.integers(0, 5, 200)
    ranges = draw.integers(0, 50, 200)
    whole = crops_of(hashes, labels, ranges)
    assert len(whole.hash) == min(kept, len(np.unique(hashes[ranges > FLAT_RANGE])))
    order = draw.permutation(200)
    parts = [crops_of(hashes[p], labels[p], ranges[p]) for p in np.split(order, [3, 50, 51])]
    one = Crops.merge([parts[2], Crops.merge([parts[3], parts[0]]), parts[1]])
    assert plain(one) == plain(whole)


def test_a_summary_keeps_them_and_the_answers_of_its_sample():
    rows = make_rows(300, seed=4)
    hashes = hashes_of(str(i % 250) for i in range(300))[:, 0]
    rows = dataclasses.replace(rows, crop_hash=hashes, crop_range=np.full(300, BRIGHT))
    whole = Summary.of(rows)
    assert whole.crops.copies.sum() == 300
    parts = [Summary.of(taken(rows, np.arange(300) % 3 == i)) for i in (2, 0, 1)]
    assert Summary.merge(parts).to_bytes() == whole.to_bytes()
    again = Summary.from_bytes(whole.to_bytes())
    assert plain(again.crops) == plain(whole.crops)
    known = rows.label >= 0
    order = np.argsort(rows.ids[known, 0])
    np.testing.assert_array_equal(again.sample.label, rows.label[known][order])
    said = np.column_stack([rows.prediction[name] for name in (*EXPERTS, METHODS[-1])])
    np.testing.assert_array_equal(again.sample.answer, said[known][order])


def test_a_summary_of_before_is_read_and_knows_less(monkeypatch):
    from dawin_ray.statistics import summary

    rows = make_rows(50)
    archived = summary.archived

    def of_before(about, arrays):
        old = ("sample.label", "sample.answer")
        kept = {k: v for k, v in arrays.items() if k not in old and not k.startswith("crops.")}
        return archived(about, kept)

    monkeypatch.setattr(summary, "archived", of_before)
    found = Summary.from_bytes(Summary.of(rows).to_bytes())
    assert found.rows == 50
    assert (found.sample.label == -1).all()
    assert found.crops.known == 0
