"""The order in which data number their classes, against that of the head.

Data may bring names for their labels: `classnames.txt` beside shards, a ClassLabel in a Parquet
schema. Where they stand in another order than the head's, every label would be read as another
class, with nothing to see but a poor accuracy.

Shapes: C classes of the data set, H of the head.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence

from dawin_ray.data.class_lists import imagenet_lemmas
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.errors import UserError
from dawin_ray.names import finder, plain

logger = logging.getLogger(__name__)


def in_order_of(
    names: Sequence[str], classes: DatasetClasses, dataset: DatasetConfig, origin: str
) -> DatasetClasses:
    """The classes as the data number them, by the names that they bring.

    `classes` are those of the head, or of the list that `dataset` gives, which goes before. What
    was mapped, or could not be compared, is logged.

    Raises:
        UserError: as `match_names`; or the given list contradicts the data.
    """
    if dataset.classes is not None:
        _check_given(names, classes, dataset, origin)
        return classes
    lists = (classes.names, classes.folders, classes.synsets)
    known = [of_head for of_head in lists if of_head is not None]
    if classes.synsets is not None:
        known.append(imagenet_lemmas())
    try:
        order = match_names(names, known, dataset.name, origin)
    except UserError:
        if classes.names is not None:
            raise
        known = []  # the head has a thousand classes, but others than ImageNet's
    if not known:
        _check_count(names, classes, dataset, origin)
        logger.warning(
            "data set %s: the names that it brings for its labels (%s) cannot be compared, as the "
            "names of the head's classes are unknown: label i is taken for the head's class i. "
            "Give model.class_names, or class_names of the data set beside its head of a file",
            dataset.name, origin,
        )  # fmt: skip
        return classes
    if order is None:
        _check_count(names, classes, dataset, origin)
        return classes
    moved = [label for label, index in enumerate(order) if label != index]
    logger.warning(
        "data set %s: its labels have names of its own (%s), which are %d of the head's %d "
        "classes%s; they are mapped by name",
        dataset.name, origin, len(order), classes.count,
        f", {len(moved)} of them under other numbers (label {moved[0]}, {names[moved[0]]!r}, is "
        f"the head's class {order[moved[0]]})" if moved else "",
    )  # fmt: skip
    return DatasetClasses(
        count=len(order),
        members=tuple((index,) for index in order),
        names=tuple(names if classes.names is None else (classes.names[i] for i in order)),
        synsets=classes.synsets and tuple(classes.synsets[i] for i in order),
    )


def match_names(
    names: Sequence[str], known: Sequence[Sequence[str]], dataset: str, origin: str
) -> tuple[int, ...] | None:
    """The head's class that each label of the data means, [C]; None where label i is class i of H.

    `known` are lists of names of the head's H classes, such as their names and their WordNet ids;
    the first that has all of `names` decides. How a name is spelt does not matter (see
    `names.finder`), and names that only count (0, 1, 2 ...) say nothing.

    Raises:
        UserError: a name is none of the head's, or of two of them; the message has the first such
            label and the nearest name. `origin` is where the names stand.
    """
    if not known or list(names) == [str(i) for i in range(len(names))]:
        return None
    tried = []
    for of_head in known:
        if _in_order(names, of_head):
            return None if len(names) == len(of_head) else tuple(range(len(names)))
        find = finder(of_head)
        found = [find(name) for name in names]
        known_ones = [position for position in found if position is not None]
        if len(set(known_ones)) == len(found):
            return tuple(known_ones)
        tried.append((found, of_head))
    found, of_head = min(tried, key=lambda attempt: attempt[0].count(None))
    raise _mismatch(names, found, of_head, dataset, origin)


def first_difference(names: Sequence[str], known: Sequence[str]) -> int | None:
    """The first label whose name is another; None where all are the same, or cannot be compared.

    For a class list that somebody gave: names in other words are theirs to choose, so only a name
    that stands at another place is held against it.
    """
    find = finder(known)
    for label, name in enumerate(names):
        if find(name) not in (None, label):
            return label
    return None


def _check_given(
    names: Sequence[str], classes: DatasetClasses, dataset: DatasetConfig, origin: str
) -> None:
    _check_count(names, classes, dataset, origin)
    if classes.names is None or (label := first_difference(names, classes.names)) is None:
        return
    raise UserError(
        f"The classes of data set '{dataset.name}' ({dataset.classes}) have another order than the "
        f"names that its data bring ({origin}): label {label} is {names[label]!r} there and "
        f"{classes.names[label]!r} here. Put the list in the data's order, or leave it out: then "
        "labels are mapped by name."
    )


def _check_count(
    names: Sequence[str], classes: DatasetClasses, dataset: DatasetConfig, origin: str
) -> None:
    if len(names) != classes.count:
        raise UserError(
            f"Data set '{dataset.name}' brings {len(names)} class names ({origin}), but is scored "
            f"on {classes.count} classes. Say which of the head's classes it has: "
            "datasets[].classes."
        )


def _in_order(names: Sequence[str], known: Sequence[str]) -> bool:
    """Also where two classes have one name, as ImageNet's cranes."""
    return len(names) <= len(known) and all(
        plain(name) == plain(other) for name, other in zip(names, known, strict=False)
    )


def _mismatch(
    names: Sequence[str], found: Sequence[int | None], known: Sequence[str], dataset: str,
    origin: str,
) -> UserError:  # fmt: skip
    unknown = [i for i, place in enumerate(found) if place is None]
    if unknown:
        label = unknown[0]
        of_several = [plain(name) for name in known].count(plain(names[label])) > 1
        near = difflib.get_close_matches(plain(names[label]), map(plain, known), n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        why = "is the name of several of the head's classes" if of_several else (
            f"is none of the head's{hint}"
        )  # fmt: skip
    else:
        label = next(i for i, place in enumerate(found) if place in found[:i])
        why = f"is the same class of the head as label {found.index(found[label])}"
    here = f" (its class {label} is {known[label]!r})" if label < len(known) else ""
    return UserError(
        f"Data set '{dataset}' brings names for its labels ({origin}), and label {label}, "
        f"{names[label]!r}, {why}{here}. {len(unknown)} of its {len(names)} names cannot be found, "
        "so its labels could mean other classes. Say which of the head's classes each label is, in "
        "the data's order: datasets[].classes, a .txt file with an index or a name of the head's a "
        "line."
    )
