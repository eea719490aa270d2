"""Many names in little memory are the same names."""

import pickle
import random
import tracemalloc

import numpy as np
import pytest

from dawin_ray.data.texts import BLOCK, Texts

# lone surrogates too, as names of files have them
LETTERS = "ab/-.\0\u00e9\u4e04\ud800\udc80\udfff\ue000\uffff\U0001f600"


def any_names(seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(LETTERS, k=draw.randrange(6))) for _ in range(draw.randrange(40))]


@pytest.mark.parametrize("seed", range(20))
def test_texts_come_back_and_are_ordered_as_python_orders_them(seed):
    names = any_names(seed)
    texts = Texts.of(names)
    assert [*texts] == [*texts[:]] == [texts[i] for i in range(len(names))] == names
    assert [*texts.take(texts.order())] == sorted(names)
    assert texts == names == Texts.of(tuple(names))
    assert [*pickle.loads(pickle.dumps(texts))] == names  # noqa: S301  (it is ours)


@pytest.mark.parametrize("seed", range(20))
def test_slices_are_those_of_a_list(seed):
    names, draw = any_names(seed), random.Random(seed)
    bounds = [None, *range(-50, 50)]
    for _ in range(20):
        part = slice(draw.choice(bounds), draw.choice(bounds), draw.choice([None, 1, 2, -1, -3]))
        assert [*Texts.of(names)[part]] == names[part]


def test_places_outside_are_refused_and_others_differ():
    texts = Texts.of(["a", "b"])
    assert texts[-1] == "b"
    with pytest.raises(IndexError):
        texts[2]
    assert texts != ["a"]
    assert texts != ["a", "c"]
    assert texts != "ab"
    assert hash(texts) == hash(("a", "b"))


def test_more_than_a_block_of_them_come_back():
    names = [str(i) for i in range(2 * BLOCK + 1)]
    assert [*Texts.of(names)] == names
    places = np.arange(len(names))[::-1]
    assert [*Texts.of(names).take(places)] == names[::-1]


def test_a_slice_goes_to_another_process_without_the_others():
    texts = Texts.of(f"{i:1000d}" for i in range(100))
    assert len(pickle.dumps(texts[:2])) < 3000


def test_they_take_less_than_their_letters():
    tracemalloc.start()
    texts = Texts.of(f"{i:020d}" for i in range(20_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(texts) < 6
