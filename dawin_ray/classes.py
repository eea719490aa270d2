"""Which of a head's classes a data set has, and which label a class folder stands for.

Shapes: N samples, H classes of the head, C classes of the data set, G members of a class at most.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from dawin_ray.errors import UserError
from dawin_ray.storage import read_bytes, read_lines

logger = logging.getLogger(__name__)

# The index lists that timm ships; both are subsets of ImageNet's 1000 classes, in their order.
KNOWN_SUBSETS = {
    "imagenet-a": "imagenet_a_indices.txt",
    "imagenet-r": "imagenet_r_indices.txt",
}
IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class DatasetClasses:
    """The classes of a data set in terms of the head's.

    `members[c]` are the head's classes that class c stands for; None means all of the head's, in
    their order. `names` are for people and for class folders, where they are known.
    """

    count: int
    members: tuple[tuple[int, ...], ...] | None = None
    names: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None

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
    synsets = _timm_lines("imagenet_synsets.txt") if head_count == IMAGENET_CLASSES else None
    if spec is None or (spec == "imagenet" and head_count == IMAGENET_CLASSES):
        return DatasetClasses(count=head_count, names=names, synsets=synsets)
    where = f"classes of data set '{dataset}' ({spec})"
    group_names = None
    if spec in KNOWN_SUBSETS:
        if head_count != IMAGENET_CLASSES:
            raise UserError(
                f"The {where} are a subset of ImageNet's {IMAGENET_CLASSES} classes, but the head "
                f"has {head_count}. Give a file of indices instead."
            )
        groups = [[line] for line in _timm_lines(KNOWN_SUBSETS[spec])]
    elif spec.endswith(".json"):
        named = _read_groups(spec, where)
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
        tuple(_class_index(item, head_count, names, where) for item in items) for items in groups
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
    for known in (classes.synsets, classes.names):
        plain = [_plain(name) for name in known or ()]
        positions = {name: i for i, name in enumerate(plain) if plain.count(name) == 1}
        labels = {f: positions[_plain(f)] for f in folders if _plain(f) in positions}
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
    folders: Iterable[str], classes: DatasetClasses, dataset: str, *, growing: bool = False
) -> Mapping[str, int]:
    """The label of each class folder.

    In this order: folders named by integers are those labels (ImageNet-V2's sort as text would
    mislabel them); folders named by the classes' WordNet ids or names have their label; all others
    are numbered in sorted order, as torchvision's ImageFolder does; if the data set is `growing`,
    only where every class has a folder, as the next one would move the labels after it.

    Raises:
        UserError: a label lies outside the data set's classes, or is not settled yet.
    """
    ordered = sorted(folders)
    if all(folder.isascii() and folder.isdigit() for folder in ordered):
        labels = {folder: int(folder) for folder in ordered}
    else:
        for known in (classes.synsets, classes.names):
            plain = [_plain(name) for name in known or ()]
            # a name of two classes tells neither
            positions = {name: i for i, name in enumerate(plain) if plain.count(name) == 1}
            if ordered and all(_plain(folder) in positions for folder in ordered):
                return {folder: positions[_plain(folder)] for folder in ordered}
        labels = {folder: i for i, folder in enumerate(ordered)}
        if growing and 0 < len(labels) < classes.count:
            raise UserError(
                f"Data set '{dataset}' grows, and the {len(labels)} folders that it has for its "
                f"{classes.count} classes are named by none of them: numbered in sorted order, "
                "their labels would change with the next folder. Name the folders by class, "
                "WordNet id or label, or make a folder for every class, empty or not."
            )
        if 0 < len(labels) < classes.count:
            logger.warning(
                "data set %s: %d class folders for %d classes, numbered in sorted order; if some "
                "are missing, the labels after them are wrong",
                dataset, len(labels), classes.count,
            )  # fmt: skip
    for folder, label in labels.items():
        check_label(label, classes.count, dataset, f"folder '{folder}'")
    return labels


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


@cache
def imagenet_lemmas() -> tuple[str, ...]:
    """WordNet's names of ImageNet's classes, without case and punctuation, in their order."""
    lines = files("timm").joinpath("data", "_info", "imagenet_synset_to_lemma.txt").read_text()
    of_synset = dict(line.split("\t", 1) for line in lines.splitlines() if "\t" in line)
    return tuple(_plain(of_synset[synset]) for synset in _timm_lines("imagenet_synsets.txt"))


def _timm_lines(name: str) -> tuple[str, ...]:
    return tuple(files("timm").joinpath("data", "_info", name).read_text().split())


def _read_groups(address: str, where: str) -> dict[str, list]:
    try:
        groups = json.loads(
            read_bytes(address, "class mapping"),
            object_pairs_hook=lambda pairs: _unique(pairs, where),
        )
    except ValueError as error:
        raise UserError(f"The {where} are no valid JSON: {error}") from error
    if isinstance(groups, dict):  # ObjectNet's own mapping has "analog clock; digital clock"
        groups = {
            name: [part.strip() for part in items.split(";") if part.strip()]
            if isinstance(items, str) else items
            for name, items in groups.items()
        }  # fmt: skip
    if not isinstance(groups, dict) or not all(
        isinstance(items, list) and items for items in groups.values()
    ):
        raise UserError(
            f"The {where} must map each class name to a list of one or more of the head's classes "
            '(indices or names), like {"chair": [423, 559]} or {"chair": "barber chair; throne"}.'
        )
    return groups


def _unique(pairs: list[tuple[str, object]], where: str) -> dict:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"The {where} give the class '{twice[0]}' twice; each has one list.")
    return dict(pairs)


def _class_index(item: object, head_count: int, names: tuple[str, ...] | None, where: str) -> int:
    text = str(item).strip()
    if text.isascii() and text.isdigit():
        if int(text) >= head_count:
            raise UserError(
                f"The {where} name class {text}, but the head has {head_count} classes, "
                f"0..{head_count - 1}."
            )
        return int(text)
    if names is None and head_count == IMAGENET_CLASSES:
        names = imagenet_lemmas()
    if names is None:
        raise UserError(
            f"The {where} name {text!r}, but the head's class names are unknown. Give them "
            "(model.class_names), or use indices."
        )
    positions = {_plain(name): i for i, name in enumerate(names)}
    if (
        head_count == IMAGENET_CLASSES
    ):  # WordNet's "mountain bike, all-terrain bike, off-roader" too
        lemmas = imagenet_lemmas()
        positions = {lemma: i for i, lemma in enumerate(lemmas) if lemmas.count(lemma) == 1} | (
            positions
        )  # fmt: skip
    if _plain(text) not in positions:
        near = difflib.get_close_matches(_plain(text), positions, n=1)
        raise UserError(
            f"The {where} name {text!r}, which is none of the head's {head_count} class names."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    same = [i for i, name in enumerate(names) if _plain(name) == _plain(text)]
    if len(same) > 1:
        raise UserError(
            f"The {where} name {text!r}, which the head's classes {same[0]} and {same[1]} are both "
            "called. Give the index instead."
        )
    return positions[_plain(text)]


def _plain(name: str) -> str:
    """A class name without case, punctuation, underscores and outer space."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
