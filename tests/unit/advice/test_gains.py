"""Gains are of paired answers, by samples that no kind was chosen by."""

import numpy as np
import pytest

from dawin_ray.advice.gains import Answers, choose, estimated, gain, judge


def answers(right, labels=None, confidence=0.9):
    """Of methods that are right where `right` says so; all labels are 0, or there are none."""
    count = len(next(iter(right.values())))
    return Answers(
        label=np.zeros(count, dtype=np.int64) if labels is None else labels,
        prediction={k: np.where(r, 0, 1) for k, r in right.items()},
        confidence={k: np.full(count, confidence) for k in right},
        entropy=np.zeros((count, 2)),
        coefficient=np.full((count, 2), 0.5),
        cluster=np.zeros(count, dtype=np.int32),
        agree=0.5,
    )


def test_a_gain_is_the_mean_over_data_sets_of_paired_differences():
    a = {"x": np.repeat([True, False], [60, 40]), "y": np.repeat([True, False], [50, 50])}
    b = {"x": np.repeat([True, False], [150, 50]), "y": np.repeat([True, False], [150, 50])}
    found = judge({"a": answers(a), "b": answers(b)}, {"plain": ("y",), "exact": ("x",)})
    assert found["exact"].accuracy.value == pytest.approx((0.6 + 0.75) / 2)
    assert found["exact"].datasets["a"].value == pytest.approx(0.6)
    difference = gain(found["exact"], found["plain"])
    assert difference.value == pytest.approx(0.05)
    assert 0.02 < difference.low < 0.05 < difference.high < 0.09
    assert gain(found["plain"], found["exact"]).value == pytest.approx(-0.05)


def test_without_labels_nothing_is_judged():
    none = answers({"x": np.ones(5, dtype=bool)}, labels=np.full(5, -1))
    assert judge({"a": none}, {"plain": ("x",)}) == {}


def test_only_labelled_samples_count():
    labels = np.array([0, 0, -1, -1])
    one = answers({"x": np.array([True, False, True, True])}, labels=labels)
    assert judge({"a": one}, {"plain": ("x",)})["plain"].accuracy.n == 2


def test_of_kinds_that_are_the_same_by_chance_the_best_is_not_told_as_better():
    """Of a hundred guesses at one half, the best has more right answers; the other half knows."""
    draw = np.random.default_rng(0)
    right = {"a": draw.random((200, 100)) < 0.5}
    best, fair = choose(right)
    assert right["a"].mean(axis=0)[best] > 0.57
    assert abs(fair["a"].mean() - 0.5) < 0.05


def test_a_kind_that_is_better_is_chosen_by_both_halves():
    right = {"a": np.stack([np.arange(100) % 4 > 1, np.arange(100) % 4 > 0], axis=1)}
    best, fair = choose(right)
    assert best == 1
    assert (fair["a"] == right["a"][:, 1]).all()


def test_of_equal_kinds_the_first_is_taken():
    assert choose({"a": np.ones((10, 3), dtype=bool)})[0] == 0


def test_sets_without_labels_are_estimated_by_three_that_have_some():
    draw = np.random.default_rng(1)
    sets = {f"set {i}": answers({"x": draw.random(400) < 0.8}) for i in range(3)}
    bare = answers({"x": np.ones(200, dtype=bool)}, labels=np.full(200, -1))
    found = estimated(sets | {"bare": bare}, ["x"])
    assert list(found) == ["bare"]
    assert found["bare"]["x"].low < 0.8 < found["bare"]["x"].high
    assert found["bare"]["x"].true is None
    del sets["set 0"]
    assert estimated(sets | {"bare": bare}, ["x"]) == {}
