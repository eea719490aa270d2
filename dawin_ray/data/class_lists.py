"""Reading class lists and mappings: which of a head's classes an entry means."""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib.resources import files

from dawin_ray.errors import UserError
from dawin_ray.names import plain
from dawin_ray.storage import read_bytes

IMAGENET_CLASSES = 1000


@cache
def imagenet_lemmas() -> tuple[str, ...]:
    """WordNet's names of ImageNet's classes, without case and punctuation, in their order."""
    lines = files("timm").joinpath("data", "_info", "imagenet_synset_to_lemma.txt").read_text()
    of_synset = dict(line.split("\t", 1) for line in lines.splitlines() if "\t" in line)
    return tuple(plain(of_synset[synset]) for synset in timm_lines("imagenet_synsets.txt"))


def timm_lines(name: str) -> tuple[str, ...]:
    """The words of a text file that timm ships."""
    return tuple(files("timm").joinpath("data", "_info", name).read_text().split())


def read_groups(address: str, where: str) -> dict[str, list[object]]:
    """A class mapping: name -> the head's classes, as a JSON file has them.

    Raises:
        UserError: it is none.
    """
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


def _unique(pairs: list[tuple[str, object]], where: str) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"The {where} give the class '{twice[0]}' twice; each has one list.")
    return dict(pairs)


def class_index(item: object, head_count: int, names: tuple[str, ...] | None, where: str) -> int:
    """The head's class that an index or a name in a list means.

    Raises:
        UserError: it is none, or the name of two.
    """
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
    positions = {plain(name): i for i, name in enumerate(names)}
    if (
        head_count == IMAGENET_CLASSES
    ):  # WordNet's "mountain bike, all-terrain bike, off-roader" too
        lemmas = imagenet_lemmas()
        positions = {lemma: i for i, lemma in enumerate(lemmas) if lemmas.count(lemma) == 1} | (
            positions
        )  # fmt: skip
    if plain(text) not in positions:
        near = difflib.get_close_matches(plain(text), positions, n=1)
        raise UserError(
            f"The {where} name {text!r}, which is none of the head's {head_count} class names."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    same = [i for i, name in enumerate(names) if plain(name) == plain(text)]
    if len(same) > 1:
        raise UserError(
            f"The {where} name {text!r}, which the head's classes {same[0]} and {same[1]} are both "
            "called. Give the index instead."
        )
    return positions[plain(text)]
