"""Which class list fits: a built-in one, the names that data bring, or those of their folders.

Names tell lists apart; how many classes a head has tells more; the name of a data set least. What
is chosen says whence it came. Where nothing tells, a person has to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dawin_ray.drafts.known import (
    IMAGENET,
    SHARE,
    are_numbers,
    known_lists,
    labels_in,
    subset_of,
)
from dawin_ray.drafts.layout import Place
from dawin_ray.models import read_class_names
from dawin_ray.names import plain, shown
from dawin_ray.settings import FILL_IN

WORDNET = "n0123456789"  # letters of WordNet's ids

SHOWN = 3  # names in a sentence


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """Names of classes in their order, and where they come from."""

    names: tuple[str, ...]
    known: str | None  # what a job calls it; None where it has to be written as a file
    why: str
    brought: bool = False  # the data bring it as a file, which a job finds


@dataclass(kw_only=True)
class Choice:
    """The class lists of a job."""

    of_model: ClassList | str | None = None  # or what is to be filled in
    why_model: str = ""  # where there is no list
    of_sets: dict[str, ClassList | str] = field(default_factory=dict)  # of zero-shot heads
    parts: dict[str, str] = field(default_factory=dict)  # datasets[].classes, by name
    doubts: list[str] = field(default_factory=list)


def words_of(place: Place) -> tuple[tuple[str, ...], str]:
    """The names that a data set has for its classes, and where; none where they only count.

    Names that it brings are in the order of its labels, folders are sorted.
    """
    listing = place.listing
    if listing.names is not None:
        found, where = listing.names, listing.names_from
    elif listing.class_names is not None:
        found, where = read_class_names(listing.class_names), shown(listing.class_names)
    elif place.of_images and not place.lacks_folders:
        found, where = listing.folders, f"class folders of {place.name}"
    else:
        return (), ""
    return ((), "") if are_numbers([_value(name) for name in found]) else (found, where)


def choose(places: Sequence[Place], head: int | None) -> Choice:
    """The class lists of some data sets; `head` has so many classes, or is made of their names."""
    choice = Choice()
    if head is None:
        _for_texts(places, choice)
    else:
        _for_head(places, head, choice)
    for place in places:
        chosen = choice.of_sets.get(place.name, choice.of_model)
        if isinstance(chosen, ClassList) and chosen.known == IMAGENET:
            _part_of_imagenet(place, choice)
    return choice


def _for_head(places: Sequence[Place], head: int, choice: Choice) -> None:
    """One list for all, as there is one head."""
    words = {place.name: words_of(place) for place in places}
    worded = [place for place in places if words[place.name][0]]
    for name, classes in known_lists().items():
        if classes.count != head or not worded:
            continue
        share = [_share(name, words[place.name][0]) for place in worded]
        if min(share) >= SHARE:
            why = f"the names of {_all(worded)} are of this list, and the head has {head} classes"
            choice.of_model = _known(name, why)
            return
    brought = [place for place in worded if not place.of_images]
    for place in brought:
        names, where = words[place.name]
        if len(names) == head and _can_be_lines(names):
            why = f"as {where} has them"
            choice.of_model = ClassList(names=names, known=None, why=why)
            choice.doubts.append(
                f"the {head} classes of the head are taken to stand in the order of {where}: "
                f"0 is {shown(names[0])!r}"
            )
            return
    folders = sorted({folder for place in worded for folder in words[place.name][0]})
    if len(folders) == head and _can_be_lines(folders):
        choice.of_model = ClassList(
            names=tuple(folders), known=None,
            why=f"the class folders of {_all(worded)}, sorted, as torchvision numbers them",
        )  # fmt: skip
        choice.doubts.append(
            f"the {head} classes of the head are taken to be the class folders in sorted order, as "
            f"torchvision's ImageFolder numbers them in training: 0 is {shown(folders[0])!r}"
        )
    elif folders:
        choice.of_model = (
            f"{FILL_IN}a .txt file with the names of the head's {head} classes, one a line, in its "
            "order"
        )
        choice.why_model = (
            f"the head has {head} classes, and {_all(worded)} {len(folders)} names for them, which "
            "are of no list of so many: which label a name is cannot be told"
        )
    else:
        _without_words(places, head, choice)


def _without_words(places: Sequence[Place], head: int, choice: Choice) -> None:
    """Labels are numbers: names are for people alone."""
    called = [name for name in known_lists() if any(_is_called(p, name) for p in places)]
    fitting = [name for name in called if known_lists()[name].count == head]
    if fitting:
        choice.of_model = _known(
            fitting[0], f"by the name of a data set, and {head} classes; for people, labels count"
        )
    elif head == known_lists()[IMAGENET].count:
        choice.of_model = _known(IMAGENET, f"by the {head} classes of the head")
        choice.doubts.append(
            f"the head's {head} classes are taken for ImageNet's, by their number alone"
        )
    else:
        choice.why_model = (
            "class_names: a .txt file with the names of the head's classes would name them; labels "
            "are numbers"
        )


def _for_texts(places: Sequence[Place], choice: Choice) -> None:
    """A list for each data set, which makes its head; one for all, where it is the same."""
    found = {place.name: _of_texts(place, choice) for place in places}
    lists = list(found.values())
    if all(one == lists[0] for one in lists[1:]) or all(
        isinstance(one, ClassList) and one.known is not None and _same(one, lists[0])
        for one in lists
    ):
        choice.of_model = lists[0]
        return
    choice.of_sets = found
    choice.why_model = "each data set has classes of its own"


def _same(one: ClassList, other: ClassList | str) -> bool:
    return isinstance(other, ClassList) and one.known == other.known


def _of_texts(place: Place, choice: Choice) -> ClassList | str:
    names, where = words_of(place)
    if place.listing.class_names is not None:
        own = read_class_names(place.listing.class_names)
        return ClassList(names=own, known=None, why=f"of {where}", brought=True)
    if names:
        shares = {name: _share(name, names) for name in known_lists()}
        best = max(shares, key=lambda name: (shares[name], _covers(name, names)))
        ids = all(set(name) <= set(WORDNET) for name in names)
        if shares[best] >= SHARE and (ids or _covers(best, names) >= SHARE or _part(place, names)):
            return _known(best, f"{where} are of this list")
        if ids or not _can_be_lines(names):
            return f"{FILL_IN}a .txt file with the names of the classes, one a line"
        spaced = tuple(name.replace("_", " ") for name in names)
        names = spaced if len(set(map(plain, spaced))) == len(names) else names
        choice.doubts.append(
            f"{place.name}: the texts of the zero-shot head are made of {where}, such as "
            f"{', '.join(repr(shown(name)) for name in names[:SHOWN])}"
        )
        return ClassList(names=names, known=None, why=f"{where}")
    called = [name for name in known_lists() if _is_called(place, name)]
    if place.listing.format == "svhn":
        called = ["svhn"]
    if called:
        return _known(called[0], "by the format or the name of the data set")
    return f"{FILL_IN}a .txt file with the names of the classes, one a line, in the labels' order"


def _part_of_imagenet(place: Place, choice: Choice) -> None:
    """datasets[].classes, where a data set has the classes of a known part of ImageNet."""
    names, _ = words_of(place)
    if not names or not place.of_images:
        return  # names that data bring are mapped one by one
    part = subset_of(set(labels_in(IMAGENET, names).values()), place.name)
    if part is not None:
        choice.parts[place.name] = part


def _part(place: Place, names: Collection[str]) -> bool:
    return subset_of(set(labels_in(IMAGENET, names).values()), place.name) is not None


def _share(name: str, names: Collection[str]) -> float:
    """The share of names that a list has."""
    return len(labels_in(name, names)) / len(names)


def _covers(name: str, names: Collection[str]) -> float:
    """The share of a list's classes that are named."""
    return len(set(labels_in(name, names).values())) / known_lists()[name].count


def _known(name: str, why: str) -> ClassList:
    names = known_lists()[name].names
    assert names is not None, "it is a list of names"
    return ClassList(names=names, known=name, why=why)


def _is_called(place: Place, name: str) -> bool:
    return plain(place.name).replace(" ", "") == plain(name).replace(" ", "")


def _can_be_lines(names: Collection[str]) -> bool:
    """Whether a text file can have them, a name a line."""
    return all(name and name == name.strip() and name.isprintable() for name in names)


def _value(folder: str) -> str:
    return folder.partition("=")[2] or folder


def _all(places: Sequence[Place]) -> str:
    names = [place.name for place in places]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
