"""Pairs of label and answer: counted as plain loops do, the same however rows are split."""

from collections import Counter

import numpy as np
import pytest

from dawin_ray.statistics import Summary, confusions
from dawin_ray.statistics.archive import archived, unarchived
from dawin_ray.statistics.confusions import Confusions
from tests.unit.statistics.made import EXPERTS, METHODS, make_rows, taken

LATER = ("counts.class_both", "confusions.rows", "confusions.key", "confusions.n")


def plain(found: Confusions, who: int) -> dict[tuple[int, int], int]:
    label, answer, n = (values.tolist() for values in found.pairs(who))
    return dict(zip(zip(label, answer, strict=True), n, strict=True))


def test_pairs_are_those_of_plain_loops():
    rows = make_rows(2_000)
    found, known = Summary.of(rows).confusions, rows.label >= 0
    for who, name in enumerate((*EXPERTS, "dawin")):
        both = zip(rows.label[known].tolist(), rows.prediction[name][known].tolist(), strict=True)
        assert plain(found, who) == Counter(both)
    assert found.known


@pytest.mark.parametrize("most", [1, 40, 1_000])
def test_what_is_kept_does_not_depend_on_how_rows_were_split(monkeypatch, most):
    monkeypatch.setattr(confusions, "MOST_PAIRS", most)
    rows = make_rows(900, classes=12)
    whole = Summary.of(rows).confusions
    assert whole.known == (most == 1_000)  # there are 4 * 144 pairs
    draw = np.random.default_rng(0)
    for count in (2, 9, 400):
        which = draw.integers(0, count, 900)
        parts = [Summary.of(taken(rows, which == part)).confusions for part in range(count + 1)]
        while len(parts) > 1:
            draw.shuffle(parts)
            parts = [Confusions.merge(parts[:3]), *parts[3:]]
        for name in ("rows", "key", "n"):
            assert (getattr(parts[0], name) == getattr(whole, name)).all()


def test_of_a_class_is_known_what_two_methods_both_have_right():
    rows = make_rows(1_500)
    counts = Summary.of(rows).counts
    ours = rows.prediction["dawin"] == rows.label
    for q, name in enumerate(METHODS):
        both = ours & (rows.prediction[name] == rows.label)
        for c in range(7):
            assert counts.class_both[q, c] == both[rows.label == c].sum()


def test_a_summary_of_before_says_that_it_does_not_know():
    rows = make_rows(300)
    about, arrays = unarchived(Summary.of(rows).to_bytes())
    old = archived(about, {name: a for name, a in arrays.items() if name not in LATER})
    before, since = Summary.from_bytes(old), Summary.of(make_rows(300, seed=1))
    assert not before.confusions.known
    merged = Summary.merge([before, since])
    assert not merged.confusions.known
    assert merged.confusions.rows[0] == merged.labelled
    assert Summary.from_bytes(merged.to_bytes()).to_bytes() == merged.to_bytes()
    assert (merged.counts.class_both[-1] < merged.counts.class_right[-1]).any()


def test_of_no_rows_all_is_known():
    assert Confusions.of(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64)).known
