"""A data set and its classes brought together: which label each of its samples has, and from where.

What is found is said in words; what makes labels doubtful is refused.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dawin_ray.data.classes import (
    SORTED,
    DatasetClasses,
    folder_way,
    label_folders,
    label_known_folders,
)
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Listing, Shard
from dawin_ray.data.formats.format import Reading
from dawin_ray.data.formats.registry import FORMATS, read_samples
from dawin_ray.data.labels import NO_LABELS, NOT_READ, Labelling
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import filesystem, is_local, join

PEEKED = 8  # samples of a local tar that are looked at for labels


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that was found, and all that its shards are made of."""

    config: DatasetConfig
    listing: Listing
    labels: Mapping[str, int] | None  # of its class folders
    label_names: tuple[str, ...] = ()  # of its classes, where labels are written as names
    labels_from: str = ""  # where labels come from, in words
    notes: tuple[str, ...] = ()  # for a person: what is left out, missing or guessed

    def shards(self, wanted: Callable[[str, int, str], bool] | None = None) -> tuple[Shard, ...]:
        """Its shards, or those of the files that are `wanted` (see `Listing.where`)."""
        listing = self.listing if wanted is None else self.listing.where(wanted)
        return tuple(make_shards(self.config, listing, self.labels, self.label_names))


def make_shards(
    config: DatasetConfig,
    listing: Listing,
    labels: Mapping[str, int] | None = None,
    label_names: tuple[str, ...] = (),
) -> list[Shard]:
    """The shards of a data set in a fixed order.

    `labels` are those of its class folders; `label_names` its class names, where labels are written
    as such.

    Raises:
        UserError: a Hive folder's label is none.
    """
    reading = Reading(
        dataset=config.name,
        image_column=config.image_column,
        label_column=config.label_column,
        crop_border=config.crop_border,
        folder_labels=labels,
        label_names=label_names,
    )
    return FORMATS[listing.format].shards(listing, reading)


def settle(
    config: DatasetConfig, listing: Listing, classes: DatasetClasses, *, growing: bool = False
) -> Source:
    """The data set with its labels; `growing` where files are still to come.

    Raises:
        UserError: its labels cannot be told for sure.
    """
    if FORMATS[listing.format].of_images:
        return _of_folders(config, listing, classes, growing)
    found = listing.labelling or _peek(config, listing)
    if found.text and classes.names is None:
        raise UserError(
            f"The labels of data set '{config.name}' are words ({found.words}), and the names of "
            "its classes are unknown. Give them (model.class_names, or datasets[].classes), choose "
            "another label_column, or set label_column: none."
        )
    return Source(
        config=config,
        listing=replace(listing, labelling=found),
        labels=None,
        label_names=(classes.names or ()) if found.text else (),
        labels_from=found.words + (", as names of classes" if found.text else ""),
        notes=listing.notes,
    )


def check_apart(address: str, what: str, config: DatasetConfig, listing: Listing) -> None:
    """Refuse a folder to write to that lies within the data, or that they lie within.

    Files of a run would be taken for data by the next one, and `--restart` would delete data.

    Raises:
        UserError: naming both.
    """
    (fs, ours), (data_fs, root) = filesystem(address, what), filesystem(listing.root)
    if type(fs) is not type(data_fs):
        return
    asked = filesystem(config.path)[1]
    if is_local(fs):
        ours, root, asked = map(os.path.realpath, (ours, root, asked))
    below = asked == root or "**" in config.path  # all that lies below the root is data
    if _within(root, ours) or (below and _within(ours, root)):
        raise UserError(
            f"The {what} {address!r} and the data of data set '{config.name}' ({config.path!r}) "
            "lie one within the other, so that outputs would be taken for data, or data deleted "
            f"with outputs. Choose a {what} beside the data."
        )


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _of_folders(
    config: DatasetConfig, listing: Listing, classes: DatasetClasses, growing: bool
) -> Source:
    if config.label_column == NO_LABELS:
        return Source(
            config=config,
            listing=listing,
            labels=None,
            labels_from=NOT_READ.words,
            notes=listing.notes,
        )
    if listing.labels is not None:
        assert listing.labelling is not None, "annotations say where they stand"
        return Source(
            config=config,
            listing=listing,
            labels=None,
            labels_from=listing.labelling.words,
            notes=listing.notes,
        )
    notes = list(listing.notes)
    if config.skip_other_folders:
        labels = label_known_folders(listing.folders, classes, config.name)
        others = [folder for folder in listing.folders if folder not in labels]
        if others:
            notes.append(
                f"left out: {len(others):,} folders that are named by none of its classes, as "
                f"skip_other_folders says ({', '.join(map(shown, others[:5]))}"
                f"{', ...' if others[5:] else ''})"
            )
        listing = listing.only(labels)
    else:
        _check_depth(config, listing, classes)
        labels = label_folders(
            listing.folders,
            classes,
            config.name,
            growing=growing,
            empty=listing.empty_folders,
        )
    loose = sum("/" not in name for name in listing.files.names)
    if not labels:
        words = "none: the images lie in no class folders"
    else:
        way = folder_way(labels, classes)
        words = f"{len(labels):,} class folders, {way}"
        if way == SORTED and classes.names is None:
            words += " (the classes' names are unknown)"
        if loose:
            notes.append(f"{loose:,} images lie in no class folder: they have no label")
    return Source(
        config=config, listing=listing, labels=labels, labels_from=words, notes=tuple(notes)
    )


def _check_depth(config: DatasetConfig, listing: Listing, classes: DatasetClasses) -> None:
    """Refuse a path that is some levels too high: its folders hold the class folders.

    Raises:
        UserError: with the deeper path.
    """
    below = _folders_of(listing, "")
    if classes.count < 2 or not below or folder_way(below, classes) != SORTED:
        return
    deeper = ""
    while len(below := _folders_of(listing, deeper)) == 1 and all(below.values()):
        deeper = join(deeper, next(iter(below)))
    if deeper and len(below) > 1:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} has one folder for its {classes.count} "
            f"classes, {shown(deeper)!r}, which holds {len(below)} folders itself. Point its path "
            f"there: {shown(join(config.path, deeper))!r}."
        )
    inner = {folder for folders in _folders_of(listing, "").values() for folder in folders}
    if inner and folder_way(inner, classes) != SORTED and all(_folders_of(listing, "").values()):
        first = min(_folders_of(listing, ""))
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} has its class folders one level deeper, "
            f"like {shown(join(first, min(inner)))!r}. Point its path there, like "
            f"{shown(join(config.path, first))!r}, with a data set for each such folder."
        )


def _folders_of(listing: Listing, folder: str) -> Mapping[str, set[str]]:
    """The folders in a folder that hold images, and those in each that do.

    A folder that has images of its own counts as one without folders.
    """
    found: dict[str, set[str]] = defaultdict(set)
    flat = set()
    prefix = f"{folder}/" if folder else ""
    for name in listing.files.names:
        parts = name.removeprefix(prefix).split("/") if name.startswith(prefix) else []
        if len(parts) > 2:
            found[parts[0]].add(parts[1])
        elif len(parts) == 2:
            flat.add(parts[0])
    return {f: set() if f in flat else found[f] for f in {*found, *flat}}


def _peek(config: DatasetConfig, listing: Listing) -> Labelling:
    """Where the labels of tars are; only a local tar is looked into: its first samples."""
    if not listing.files or not is_local(filesystem(listing.root)[0]):
        return Labelling(words="members .cls or .json, where there are any")
    shard = make_shards(config, listing)[0]
    name = shown(shard.name)
    samples = list(itertools.islice(read_samples(shard, lambda ordinal: False), PEEKED))
    labels = [sample.label for sample in samples if sample.label is not None]
    if any(sample.error and "is no integer" in sample.error for sample in samples):
        return Labelling(words=f"members of {name}", text=True)
    if labels and len(labels) == len(samples) and set(labels) == {-1}:
        return Labelling(words=f"none: the first {len(labels)} of {name} are -1", unlabelled=True)
    if labels:
        return Labelling(words="members .cls or .json")
    if samples and all(sample.error for sample in samples):
        return Labelling(words="unknown until read")
    return Labelling(words=f"none in the first {len(samples)} samples of {name}")
