"""What a format is: all that must be known to find, tell, read and count its samples.

A new one is a module beside this one that makes a `Format`, and a line in `registry`. What a
format leaves as it is here holds for one whose files are shards of many samples each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray.data.datasets import Beside, Listing, Sample, Shard, Start, file_key
from dawin_ray.data.found import Found
from dawin_ray.data.labels import (
    NO_LABELS,
    NOT_READ,
    Labelling,
    describe,
    hive_label,
    hive_labels,
    label_of,
)
from dawin_ray.errors import UserError
from dawin_ray.names import MADE, finder, shown
from dawin_ray.storage import join

Wanted = Callable[[int], bool]  # whether the image of an ordinal in the shard will be used

Told = Callable[[Sample], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a data set's shards are made of beside its files: the job's words, and its labels."""

    dataset: str
    image_column: str | None = None
    label_column: str | None = None
    crop_border: int = 0
    folder_labels: Mapping[str, int] | None = None  # of its class folders
    label_names: tuple[str, ...] = ()  # of its classes, where labels are written as names


def shards_of_files(listing: Listing, reading: Reading) -> list[Shard]:
    """A shard for each file.

    Raises:
        UserError: a Hive folder's label is none.
    """
    hive = _hive(listing, reading)
    column = reading.label_column
    if listing.labelling is not None and listing.labelling.unlabelled:
        column = NO_LABELS
    if hive and column and any(f"{column}=" in name for name in hive):
        column = NO_LABELS  # it is the folders', not the files'
    shards = [
        Shard(
            dataset=reading.dataset,
            name=name,
            address=join(listing.root, name),
            format=listing.format,
            bytes=size,
            version=version,
            key=file_key(name),
            beside=listing.beside.get(name),
            image_column=reading.image_column,
            label_column=column,
            label=hive.get(name),
            label_names=reading.label_names,
            crop_border=reading.crop_border,
        )
        for name, size, version in listing.files.rows()
    ]
    assert len({shard.key for shard in shards}) == len(shards), "keys are unique"
    return shards


def labels_of_files(found: Found, names: Sequence[str], asked: str | None) -> Labelling | None:
    """Where labels are as far as names tell; None where only the files' content does."""
    if asked == NO_LABELS:
        return NOT_READ
    return None if hive_labels(names) is None else describe([], names, asked)


def rows_of_files(sample_ids: pa.ChunkedArray, files: Collection[str]) -> pa.Array:
    """Which samples lie in some files."""
    mask = pa.array(np.zeros(len(sample_ids), dtype=bool))
    for file in files:
        mask = pc.or_(mask, pc.starts_with(sample_ids, f"{file}/"))
    return mask


@dataclass(frozen=True, kw_only=True)
class Partly:
    """How a format's shards are read in parts: each sample tells a `Start`, from which they go on.

    What is read from a start is what reading the whole shard gives there, or a shard has no starts.
    """

    read: Callable[[Shard, Wanted, Start], Iterable[Sample]]
    # all samples without their images, in as little time as may be; their errors may lack what
    # only reading tells
    scan: Callable[[Shard], Iterable[Sample]]
    # some of them in their order, where headers alone tell them
    starts: Callable[[Shard], Sequence[Start]] | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of data sets. Names are raw and relative to the data set's root."""

    suffixes: tuple[str, ...]  # of its files, in lower case
    files: str  # what they are, in words
    read: Callable[[Shard, Wanted], Iterable[Sample]]  # see `registry.read_samples`
    count: Callable[[Shard, Told], int | None]  # see `registry.count_samples`
    partly: Partly | None = None  # where a shard may have several readers
    hint: str = ""  # what to say besides where there are none
    told_by_suffix: bool = True  # else other formats' files go before, and a job names this one
    of_images: bool = False  # each file is a sample, in a class folder; a shard is many of them
    numbered: bool = False  # a sample's id ends with its ordinal in the shard
    counts_losses: bool = False  # a broken shard tells how many samples are lost
    text_files: bool = False  # lists of classes and templates lie beside its files
    # of all files that were found, by name, with the job's label_column: where their labels are
    labels: Callable[[Found, Sequence[str], str | None], Labelling | None] = labels_of_files
    shards: Callable[[Listing, Reading], list[Shard]] = shards_of_files  # in a fixed order
    # of all files that were found, by name: those that lie beside some and are read with them
    beside: Callable[[Found, Sequence[str]], Mapping[str, Beside]] = lambda found, names: {}
    # of a column of sample_id: whether each is of one of some files, named as `shown`
    rows: Callable[[pa.ChunkedArray, Collection[str]], pa.Array] = rows_of_files


def broken_shard(shard: Shard, row: int, lost: int | None, reason: str) -> Sample:
    """What stands for the samples of a shard from one on, `lost` of them where that is known."""
    return Sample(
        sample_id=f"{shown(shard.name)}/{MADE}{row}",
        image=None,
        error=reason,
        position=shard.bytes,
        broken=True,
        lost=lost,
    )


def labeller(shard: Shard) -> Callable[[Any], int | None]:
    """Makes a label of what is written for a sample of a shard: a number, a text, or nothing.

    It raises ValueError, with words for a reject, for what is no label.
    """
    if shard.label_column == NO_LABELS:
        return lambda written: shard.label
    find = finder(shard.label_names)

    def label(written: Any) -> int | None:
        return shard.label if written is None else label_of(written, find)

    return label


def _hive(listing: Listing, reading: Reading) -> dict[str, int | None]:
    """The labels of files that lie in Hive folders, `label=3/`."""
    names = listing.files.names
    asked = reading.label_column
    unnamed = listing.labelling is not None and listing.labelling.text and not reading.label_names
    if asked == NO_LABELS or unnamed or (hive := hive_labels(names, asked)) is None:
        return {}
    labels = {}
    for name, value in hive[1].items():
        try:
            labels[name] = hive_label(value, reading.label_names)
        except ValueError as error:
            raise UserError(
                f"Data set '{reading.dataset}', {shown(name)!r}: {error}. Correct the folder's "
                "name, give the class names (model.class_names, datasets[].classes), or set "
                "label_column: none."
            ) from error
    return labels
