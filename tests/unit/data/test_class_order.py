"""Names that data bring for their labels, against the head's: mapped, or refused."""

import logging

import pytest

from dawin_ray.data.class_lists import imagenet_lemmas
from dawin_ray.data.class_order import first_difference, in_order_of, match_names
from dawin_ray.data.classes import DatasetClasses, resolve_classes
from dawin_ray.data.config import DatasetConfig
from dawin_ray.errors import UserError

HEAD = ("zéro", "one", "two", "fire truck")
FILE = "classnames.txt"


def match(names, *known):
    return match_names(names, known or (HEAD,), "d", FILE)


@pytest.mark.parametrize(
    "names",
    [
        HEAD,
        ("Zéro", "ONE", "two", "fire_truck"),
        ("ze\u0301ro", "one", " two ", "Fire-Truck"),  # NFD
        ("0", "1", "2", "3"),  # count, and say nothing
    ],
)
def test_the_same_order_is_no_mapping(names):
    assert match(names) is None


def test_another_order_is_mapped_by_name():
    assert match(("two", "fire truck", "Ze\u0301ro", "one")) == (2, 3, 0, 1)
    assert match(("one", "two")) == (1, 2)  # a part of the head's
    assert match(("zéro", "one")) == (0, 1)  # in order, but fewer


def test_classes_that_share_a_name_stand_where_they_stand():
    head = ("crane", "ship", "crane")
    assert match(head, head) is None
    with pytest.raises(UserError, match="label 1, 'crane', is the name of several"):
        match(("ship", "crane", "crane"), head)


def test_the_first_list_that_has_all_names_decides():
    synsets = ("n1", "n2", "n3", "n4")
    assert match(("n2", "n1", "n3", "n4"), HEAD, synsets) == (1, 0, 2, 3)
    with pytest.raises(UserError, match="'n9', is none of the head's"):
        match(("n2", "n9"), HEAD, synsets)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("zero", "one", "two"), ["label 0", "'zero'", "'zéro'", "1 of its 3 names"]),
        (
            ("one", "too", "fire truck"),
            ["label 1", "'too'", "nearest is 'two'", "class 1 is 'one'"],
        ),
        (("one", "two", "ONE"), ["label 2", "same class of the head as label 0"]),
        (("x", "one", "two", "y", "z"), ["label 0", "3 of its 5 names"]),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_first_difference(names, parts):
    with pytest.raises(UserError) as caught:
        match(names)
    for part in [*parts, "'d'", FILE, "datasets[].classes"]:
        assert part in str(caught.value)


# The classes of a data set


def found(names, head=HEAD, spec=None, count=None, tmp_path=None):
    classes = resolve_classes(spec, count or len(head), head, "d")
    config = DatasetConfig(name="d", path="p", classes=spec)
    return in_order_of(names, classes, config, FILE)


def test_a_shuffled_data_set_is_scored_on_its_own_order(caplog):
    classes = found(("two", "zéro", "fire truck", "one"))
    assert classes.members == ((2,), (0,), (3,), (1,))
    assert classes.names == ("two", "zéro", "fire truck", "one")
    assert "label 0, 'two', is the head's class 2" in caplog.text
    assert "mapped by name" in caplog.text


def test_names_of_folders_order_labels_too():
    classes = DatasetClasses(count=2, names=("lake or sea", "forest"), folders=("SeaLake", "Wood"))
    moved = in_order_of(("Wood", "SeaLake"), classes, DatasetConfig(name="d", path="p"), FILE)
    assert moved.members == ((1,), (0,))
    assert moved.names == ("forest", "lake or sea")


def test_the_same_order_says_nothing(caplog):
    assert found(HEAD) == DatasetClasses(count=4, names=HEAD)
    assert not caplog.records


def test_a_head_without_names_cannot_be_compared_and_it_is_said(caplog):
    classes = in_order_of(
        ("b", "a"), DatasetClasses(count=2), DatasetConfig(name="d", path="p"), FILE
    )
    assert classes == DatasetClasses(count=2)
    assert "cannot be compared" in caplog.text
    assert "model.class_names" in caplog.text
    with pytest.raises(UserError, match=r"brings 3 class names.*scored on 2 classes"):
        in_order_of(
            ("b", "a", "c"), DatasetClasses(count=2), DatasetConfig(name="d", path="p"), FILE
        )


def test_imagenets_names_are_known_without_the_heads(caplog):
    names = list(imagenet_lemmas())
    with caplog.at_level(logging.WARNING):
        assert found(names, None, count=1000).members is None
        classes = found([names[7], names[3]], None, count=1000)
    assert classes.members == ((7,), (3,))
    # and a head of a thousand other classes is no ImageNet
    other = [f"thing {i}" for i in range(1000)]
    assert found(other, None, count=1000).members is None
    assert "cannot be compared" in caplog.text


def test_a_list_that_is_given_goes_before_but_may_not_contradict(tmp_path):
    def given(*lines):
        path = tmp_path / "classes.txt"
        path.write_text("\n".join(lines))
        return str(path)

    own = ("nought", "1st", "2nd")  # in other words, which are theirs to choose
    assert found(own, spec=given("zéro", "one", "two")).members == ((0,), (1,), (2,))
    assert found(("two", "one"), spec=given("two", "one")).members == ((2,), (1,))
    with pytest.raises(UserError, match=r"another order.*label 0 is 'one' there and 'two' here"):
        found(("one", "two"), spec=given("two", "one"))
    with pytest.raises(UserError, match=r"brings 2 class names.*scored on 3 classes"):
        found(("one", "two"), spec=given("0", "1", "2"))


def test_names_in_other_words_are_no_difference():
    assert first_difference(("nought", "one"), ("zéro", "one")) is None
    assert first_difference(("one", "zéro"), ("zéro", "one")) == 0
