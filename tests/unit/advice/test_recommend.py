"""The rule, on planted cases."""

import numpy as np
import pytest

from dawin_ray.advice.gains import judge
from dawin_ray.advice.modes import MODES
from dawin_ray.advice.recommend import TOLERANCE, recommend
from tests.unit.advice.test_gains import answers

N = 4_000
KINDS = {
    "plain": ("zero_shot", "fine_tuned"), "static": ("even",), "clustered": ("dawin",),
    "exact": ("exact",),
}  # fmt: skip


def judged(count=N, **shares):
    """Modes that are right on these shares of samples: each on all that the lesser ones are."""
    right = {name: np.arange(count) % 1_000 < 1_000 * share for name, share in shares.items()}
    return judge({"a": answers(right)}, KINDS)


def test_one_expert_dominates():
    found = recommend(
        MODES, judged(zero_shot=0.5, fine_tuned=0.9, even=0.8, dawin=0.85, exact=0.86), 0.4
    )
    assert (found.mode, found.why, found.settled) == ("plain", "labels", True)
    assert found.over == {}
    assert found.open["static"].value == pytest.approx(-0.1)


def test_even_is_enough():
    found = recommend(
        MODES, judged(zero_shot=0.7, fine_tuned=0.7, even=0.8, dawin=0.8, exact=0.8), 0.4
    )
    assert (found.mode, found.settled) == ("static", True)
    assert found.over["plain"].value == pytest.approx(0.1)
    assert set(found.open) == {"clustered", "exact"}


def test_dawin_gains():
    found = recommend(
        MODES, judged(zero_shot=0.7, fine_tuned=0.7, even=0.75, dawin=0.8, exact=0.8), 0.4
    )
    assert (found.mode, found.settled) == ("clustered", True)
    assert found.over["static"].value == pytest.approx(0.05)


def test_exact_gains():
    found = recommend(
        MODES, judged(zero_shot=0.7, fine_tuned=0.7, even=0.75, dawin=0.8, exact=0.82), 0.4
    )
    assert (found.mode, found.settled, found.open) == ("exact", True, {})
    assert found.over["clustered"].value == pytest.approx(0.02)


def test_where_exact_cannot_be_run_the_best_of_the_others_is_taken():
    found = recommend(
        MODES[:3], judged(zero_shot=0.7, fine_tuned=0.7, even=0.75, dawin=0.8, exact=0.82), 0.4
    )
    assert found.mode == "clustered"


def test_few_labels_leave_it_open_and_the_cheapest_stays():
    """Of 60 samples each mode misses ten others: no gain, and none that is excluded."""
    numbers = np.arange(60) % 6
    missed = {"zero_shot": 0, "fine_tuned": 0, "even": 1, "dawin": 2, "exact": 3}
    right = {kind: numbers != number for kind, number in missed.items()}
    found = recommend(MODES, judge({"a": answers(right)}, KINDS), 0.4)
    assert found.mode == "plain"
    assert not found.settled
    assert all(gain.value == 0 and gain.high >= TOLERANCE for gain in found.open.values())


def test_a_gain_that_chance_may_have_brought_is_not_taken():
    """Of 60 samples exact has three more."""
    right = {kind: np.arange(60) >= 12 for of in KINDS.values() for kind in of}
    right["exact"] = right["exact"] | (np.arange(60) % 4 == 1)
    found = recommend(MODES, judge({"a": answers(right)}, KINDS), 0.4)
    assert found.open["exact"].value == pytest.approx(3 / 60)
    assert found.mode == "plain"
    assert not found.settled


def test_a_dearer_mode_is_taken_only_where_no_cheaper_one_is_as_good():
    """Exact gains over an expert alone, but not over even interpolation."""
    found = recommend(
        MODES, judged(zero_shot=0.7, fine_tuned=0.7, even=0.8, dawin=0.78, exact=0.8), 0.4
    )
    assert found.mode == "static"


@pytest.mark.parametrize(
    ("agree", "mode", "why"),
    [
        (0.9, "clustered", "no labels"),
        (1 - TOLERANCE, "plain", "agreement"),
        (1.0, "plain", "agreement"),
        (None, "clustered", "no labels"),
    ],
)
def test_without_labels_it_goes_by_the_experts_agreement(agree, mode, why):
    found = recommend(MODES, {}, agree)
    assert (found.mode, found.why) == (mode, why)
    assert (found.over, found.open) == ({}, {})
    assert found.settled == (why == "agreement")
