"""The class lists that are built in, as folders and names of data are held against them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache

from dawin_ray.data import KNOWN_SUBSETS, DatasetClasses, named_folders, resolve_classes
from dawin_ray.models import folder_names, known_class_names

IMAGENET = "imagenet"

SHARE = 0.5  # of names that a list has to have, where some may be misspelt or of no class


@cache
def known_lists() -> Mapping[str, DatasetClasses]:
    """Each list with all that its class folders may be called."""
    return {
        name: replace(resolve_classes(None, len(names), names, name), folders=folder_names(names))
        for name, names in known_class_names().items()
    }


def labels_in(name: str, folders: Collection[str]) -> Mapping[str, int]:
    """Which class of a list each folder or name is of; others are left out."""
    return named_folders(sorted(folders), known_lists()[name])


def are_numbers(names: Collection[str]) -> bool:
    """Whether names do nothing but count, as those of every list may."""
    return all(name.isascii() and name.isdigit() for name in names)


def are_classes(folders: Collection[str]) -> bool:
    """Whether folders are, most of them, called like classes of some list."""
    if are_numbers(folders):
        return False
    return any(len(labels_in(name, folders)) >= SHARE * len(folders) for name in known_lists())


@cache
def subset(name: str) -> frozenset[int]:
    """The classes of ImageNet that a known part of it has."""
    members = resolve_classes(name, len(known_class_names()[IMAGENET]), None, name).members
    assert members is not None, "it is a part"
    return frozenset(index for group in members for index in group)


def subset_of(labels: Collection[int], called: str) -> str | None:
    """The known part of ImageNet whose classes these are: all of them, or of one called so."""
    for name in KNOWN_SUBSETS:
        whole = subset(name)
        if whole == set(labels) or (name in called.lower() and whole.issuperset(labels)):
            return name
    return None
