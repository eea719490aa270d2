"""Which of a head's classes a data set has, and which label a class folder stands for.

Shapes: N samples, H classes of the head, C classes of the data set, G members of a class at most.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dawin_ray.data.class_lists import IMAGENET_CLASSES, class_index, read_groups, timm_lines
from dawin_ray.data.found import is_system
from dawin_ray.data.labels import LABEL_KEYS
from dawin_ray.errors import UserError
from dawin_ray.names import finder, plain, shown
from dawin_ray.storage import read_lines

logger = logging.getLogger(__name__)

# The index lists that timm ships; both are subsets of ImageNet's 1000 classes, in their order.
KNOWN_SUBSETS = {
    "imagenet-a": "imagenet_a_indices.txt",
    "imagenet-r": "imagenet_r_indices.txt",
}

# What gives class folders their labels, in words.
NAMED = "named by classes"

NUMBERED = "named by their labels"

SORTED = "numbered in sorted order"


@dataclass(frozen=True, kw_only=True)
class DatasetClasses:
    """The classes of a data set in terms of the head's.

    `members[c]` are the head's classes that class c stands for; None means all of the head's, in
    their order. `names` are for people and for class folders, where they are known; `folders` is
    what class folders are called where that is none of the names.
    """

    count: int
    members: tuple[tuple[int, ...], ...] | None = None
    names: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None

    def project(self, logits_NH: torch.Tensor) -> torch.Tensor:
        """Logits [N, C] of the data set's classes: the maximum over each class's members."""
        if self.members is None:
            return logits_NH
        widest = max(map(len, self.members))
        # a class with fewer members repeats its first: the maximum does not change
        index_CG = torch.tensor(
            [m + m[:1] * (widest - len(m)) for m in self.members], device=logits_NH.device
        )
        return logits_NH[:, index_CG].amax(dim=-1)


def resolve_classes(
    spec: str | None, head_count: int, head_names: Sequence[str] | None, dataset: str
) -> DatasetClasses:
    """The classes that `spec` names for a head of `head_count` classes.

    `spec` is None (all of them), `imagenet-a`, `imagenet-r`, a text file with an index or a class
    name a line (a subset), or a JSON file that maps a class name to a list of them (many to one).

    Raises:
        UserError: the list is unknown, or does not fit the head.
    """
    names = tuple(head_names) if head_names is not None else None
    synsets = timm_lines("imagenet_synsets.txt") if head_count == IMAGENET_CLASSES else None
    if spec is None or (spec == "imagenet" and head_count == IMAGENET_CLASSES):
        return DatasetClasses(count=head_count, names=names, synsets=synsets)
    where = f"classes of data set '{dataset}' ({spec})"
    group_names = None
    groups: list[list[object]]
    if spec in KNOWN_SUBSETS:
        if head_count != IMAGENET_CLASSES:
            raise UserError(
                f"The {where} are a subset of ImageNet's {IMAGENET_CLASSES} classes, but the head "
                f"has {head_count}. Give a file of indices instead."
            )
        groups = [[line] for line in timm_lines(KNOWN_SUBSETS[spec])]
    elif spec.endswith(".json"):
        named = read_groups(spec, where)
        groups, group_names = list(named.values()), tuple(named)
    elif spec.endswith(".txt"):
        groups = [[line] for line in read_lines(spec, "class list")]
    else:
        known = [*KNOWN_SUBSETS, "imagenet"]
        hint = difflib.get_close_matches(spec, known, n=1)
        raise UserError(
            f"Unknown {where}. Expected one of {', '.join(known)}, a .txt file with an index or a "
            "class name a line, or a .json file that maps class names to lists of them."
            + (f" Did you mean '{hint[0]}'?" if hint else "")
        )
    if not groups:
        raise UserError(f"The {where} are empty.")
    members = tuple(
        tuple(class_index(item, head_count, names, where) for item in items) for items in groups
    )
    flat = [index for group in members for index in group]
    if len(flat) != len(set(flat)):
        twice = next(index for index in flat if flat.count(index) > 1)
        raise UserError(f"The {where} name class {twice} of the head twice; each may be used once.")
    if group_names is not None:
        return DatasetClasses(count=len(members), members=members, names=group_names)
    return DatasetClasses(
        count=len(members),
        members=members,
        names=tuple(names[i] for i in flat) if names else None,
        synsets=tuple(synsets[i] for i in flat) if synsets else None,
    )


def label_known_folders(
    folders: Iterable[str], classes: DatasetClasses, dataset: str
) -> Mapping[str, int]:
    """The labels of the folders that are named by one of the classes; the others have none.

    For sets such as ObjectNet, of whose folders only a part has a class in the head.

    Raises:
        UserError: no folder is.
    """
    folders = sorted(folders)
    for known in (classes.synsets or (), classes.folders or (), classes.names or ()):
        find = finder(known)
        labels = {f: position for f in folders if (position := find(f)) is not None}
        if not labels:
            continue
        without = [known[i] for i in sorted(set(range(classes.count)) - set(labels.values()))]
        logger.warning(
            "data set %s: %d of %d folders are of its classes, the others are left out; %s",
            dataset, len(labels), len(folders),
            f"no folder for {', '.join(without[:10])}" if without else "every class has a folder",
        )  # fmt: skip
        return labels
    raise UserError(
        f"None of the {len(folders)} folders of data set '{dataset}' is named by one of its "
        "classes, so skip_other_folders would leave out all of them. Check datasets[].classes."
    )


def label_folders(
    folders: Iterable[str],
    classes: DatasetClasses,
    dataset: str,
    *,
    growing: bool = False,
    empty: Collection[str] = (),
) -> Mapping[str, int]:
    """The label of each class folder; folders of the system's, and `empty` strangers, have none.

    In this order: where a folder is named by a class or its WordNet id, names decide for all;
    folders named by integers are those labels (ImageNet-V2's sort as text would mislabel them); all
    others are numbered in sorted order, as torchvision's ImageFolder does; if the data set is
    `growing`, only where every class has a folder, as the next one would move the labels after it.

    Raises:
        UserError: a folder is a stranger among named ones, two are of one class, or a label lies
            outside the data set's classes or is not settled yet.
    """
    ordered = sorted(folder for folder in folders if not is_system(folder))
    labels, way = _labels_by(ordered, classes)
    _check_strangers(ordered, labels, way, classes, dataset, empty)
    if way == SORTED:
        _check_order(labels, classes, dataset, growing)
    for folder, label in labels.items():
        _check_folder(folder, label, len(labels), way, classes.count, dataset)
    return labels


def folder_way(folders: Iterable[str], classes: DatasetClasses) -> str:
    """In words, what gives class folders their labels: NAMED, NUMBERED or SORTED."""
    return _labels_by(sorted(folders), classes)[1]


def _labels_by(folders: Sequence[str], classes: DatasetClasses) -> tuple[dict[str, int], str]:
    """Labels of sorted folders, and what they come from; strangers have none."""
    named = named_folders(folders, classes)
    numbers = {f: int(v) for f in folders if (v := _hive_value(f)).isascii() and v.isdigit()}
    if named and not (len(numbers) == len(folders) > len(named)):
        return named, NAMED
    if numbers:
        return numbers, NUMBERED
    return {folder: i for i, folder in enumerate(folders)}, SORTED


def named_folders(folders: Sequence[str], classes: DatasetClasses) -> dict[str, int]:
    """The labels of those folders that are named by a class or its WordNet id, by folder."""
    lists = (classes.synsets, classes.folders, classes.names)
    finders = [finder(known) for known in lists if known]
    labels = {}
    for folder in folders:
        found = (find(_hive_value(folder)) for find in finders)
        label = next((label for label in found if label is not None), None)
        if label is not None:
            labels[folder] = label
    return labels


def _hive_value(folder: str) -> str:
    """What stands behind `label=` in a folder's name; the name where it has none."""
    key, equals, value = folder.partition("=")
    return value if equals and key.lower() in LABEL_KEYS else folder


def _check_strangers(
    folders: Sequence[str],
    labels: Mapping[str, int],
    way: str,
    classes: DatasetClasses,
    dataset: str,
    empty: Collection[str],
) -> None:
    """Refuse folders of images among those with a label that have none, and labels of two folders.

    Raises:
        UserError: by name, with the nearest class.
    """
    strangers = [folder for folder in folders if folder not in labels]
    if left := [folder for folder in strangers if folder in empty]:
        logger.warning(
            "data set %s: left out %d folders without images that are named by no class: %s",
            dataset, len(left), ", ".join(map(shown, left[:10])),
        )  # fmt: skip
    for folder in strangers:
        if folder in empty:
            continue
        if way == NUMBERED:
            raise UserError(
                f"Folder {shown(folder)!r} of data set '{dataset}' holds images, but its name is "
                f"no label, as those of {len(labels)} others are ({shown(next(iter(labels)))!r}). "
                "Rename it to its label, or move it away."
            )
        count = len(strangers) - 1
        raise UserError(
            f"Folder {shown(folder)!r} of data set '{dataset}' holds images, but is named by none "
            f"of its {classes.count} classes, as {len(labels)} of {len(folders)} folders are"
            f"{f' ({count} more are not)' if count else ''}. {_nearest(folder, labels, classes)} "
            "Rename it, move it away, correct the class names, or leave out such folders with "
            "skip_other_folders: true and a class list."
        )
    of_label: dict[int, str] = {}
    for folder, label in labels.items():
        if label in of_label:
            raise UserError(
                f"Folders {shown(of_label[label])!r} and {shown(folder)!r} of data set "
                f"'{dataset}' are both of class {label}"
                f"{_in_brackets(classes, label)}. Put their images into one, or correct the name "
                "of the other."
            )
        of_label[label] = folder


def _in_brackets(classes: DatasetClasses, label: int) -> str:
    names = classes.names or ()
    return f" ({names[label]})" if label < len(names) else ""


def _nearest(folder: str, labels: Mapping[str, int], classes: DatasetClasses) -> str:
    """Words for the class whose folder this may be: one that has none yet, where there is one."""
    names = classes.names or classes.synsets or ()
    same = [i for i, name in enumerate(names) if plain(name) == plain(folder)]
    if len(same) > 1:
        return f"Classes {' and '.join(map(str, same))} are both called so: use the WordNet id."
    taken = set(labels.values())
    free = [plain(name) for i, name in enumerate(names) if i not in taken]
    near = difflib.get_close_matches(plain(folder), free or list(map(plain, names)), 1, 0)
    if not near:
        return ""
    name = next(name for name in names if plain(name) == near[0])
    return f"The nearest class{' without a folder' if free else ''} is {name!r}."


def _check_order(
    labels: Mapping[str, int], classes: DatasetClasses, dataset: str, growing: bool
) -> None:
    """Tell, or refuse, labels that come from the folders' sorted order alone."""
    if not labels:
        return
    if growing and len(labels) < classes.count:
        raise UserError(
            f"Data set '{dataset}' grows, and the {len(labels)} folders that it has for its "
            f"{classes.count} classes are named by none of them: numbered in sorted order, "
            "their labels would change with the next folder. Name the folders by class, "
            "WordNet id or label, or make a folder for every class, empty or not."
        )
    if len(labels) < classes.count:
        logger.warning(
            "data set %s: %d class folders for %d classes, numbered in sorted order; if some "
            "are missing, the labels after them are wrong",
            dataset, len(labels), classes.count,
        )  # fmt: skip
    if names := classes.names or classes.synsets:
        pairs = [f"{shown(folder)} is {label} ({names[label]})" for folder, label in labels.items()
                 if label < len(names)]  # fmt: skip
        logger.warning(
            "data set %s: none of its %d folders is named by a class, so they are numbered in "
            "sorted order: %s; rename them where that is wrong",
            dataset, len(labels), ", ".join(pairs[:3]) + (", ..." if pairs[3:] else ""),
        )  # fmt: skip


def _check_folder(
    folder: str, label: int, folders: int, way: str, count: int, dataset: str
) -> None:
    try:
        check_label(label, count, dataset, f"folder '{shown(folder)}'")
    except UserError as error:
        if way != SORTED:
            raise
        raise UserError(
            f"{error} It has {folders} folders for {count} classes, and as none is named by a "
            "class they are numbered in sorted order: it may be another one that is too many."
        ) from error


def folders_without_a_name(folders: Iterable[str], names: Sequence[str]) -> str:
    """Words for the folders that a list with too few names lacks; "" where names tell nothing."""
    find = finder(names)
    strangers = [folder for folder in sorted(folders) if find(_hive_value(folder)) is None]
    if not strangers or len(strangers) == len(list(folders)):
        return ""
    return f" It lacks the data's {', '.join(map(repr, map(shown, strangers[:10])))}."


def check_label(label: int, count: int, dataset: str, where: str) -> None:
    """Refuse a label that is none of the data set's classes.

    Raises:
        UserError: naming data set, sample or folder, and range.
    """
    if not 0 <= label < count:
        raise UserError(
            f"Label {label} of {where} in data set '{dataset}' is outside its classes "
            f"0..{count - 1}. Give the data set's class list (datasets[].classes), or correct the "
            "labels."
        )
