"""Annotations: a file beside a tree of images that says which of them are meant, and their labels.

    .txt    a name a line, or a name and a label (RESISC45's `resisc45-test.txt`, DTD's lists)
    .csv    a column of names and one of labels, with a header (GTSRB's `GT-final_test.csv`)
    .mat    structs `annotations` with `fname` and `class`, which counts from 1 (Stanford Cars)

A name is an image's path below the data set's, or its last part where only one image has it.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Listing
from dawin_ray.data.images import IMAGE_SUFFIXES
from dawin_ray.data.labels import LABEL_KEYS, NO_LABELS, SHOWN, Labelling
from dawin_ray.data.matlab import MatError, structs, variables
from dawin_ray.errors import UserError
from dawin_ray.names import escaped, shown
from dawin_ray.storage import open_stream

MAX_BYTES = 256 << 20  # of a file of annotations

MOST = 100_000_000  # annotations

NAME_COLUMNS = ("filename", "file_name", "fname", "file", "path", "image", "name")

CARS = "annotations"  # the variable of Stanford Cars

FIRST_CLASS = 1  # as MATLAB counts

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What is said of one image."""

    name: str
    label: int | None
    where: str  # it stands, for errors


def annotated(listing: Listing, config: DatasetConfig, *, growing: bool = False) -> Listing:
    """The images of a listing that its data set's annotations name, with the labels they give.

    A set that is `growing` may lack images.

    Raises:
        UserError: the file cannot be read, or says what cannot be; names that are no image, are of
            several, or stand there twice.
    """
    address = config.annotations
    assert address is not None, "whoever calls has annotations"
    place = {shown(name): i for i, name in enumerate(listing.files.names)}
    ends = defaultdict(list)
    for name in place:
        ends[posixpath.basename(name)].append(name)
    labels: dict[int, int | None] = {}
    missing: list[Annotation] = []
    for annotation in _read(address, config.label_column):
        name = annotation.name
        found = [name] if name in place else ends.get(name, [])
        if len(found) > 1:
            raise UserError(
                f"{annotation.where}: {escaped(name)!r} may be any of {len(found)} images of data "
                f"set '{config.name}', such as {found[0]!r} and {found[1]!r}. Write their paths."
            )
        if not found:
            missing.append(annotation)
        elif place[found[0]] in labels:
            raise UserError(f"{annotation.where}: {found[0]!r} is there twice. Remove one of them.")
        else:
            labels[place[found[0]]] = annotation.label
    kept, notes = sorted(labels), list(listing.notes)
    if missing:
        told = (
            f"{len(missing):,} of the {len(missing) + len(kept):,} images that its annotations "
            f"name are not there, the first is {escaped(missing[0].name)!r}"
        )
        if not growing:
            raise UserError(
                f"Data set '{config.name}' at {config.path!r}: {told} ({missing[0].where}). Copy "
                "them, or correct path or annotations."
            )
        notes.append(told)
    if others := len(listing.files) - len(kept):
        notes.append(f"left out: {others:,} images that its annotations do not name")
    told_labels = tuple(labels[i] for i in kept)
    with_labels = any(label is not None for label in told_labels)
    return replace(
        listing,
        files=listing.files.take(kept),
        labels=told_labels if with_labels else None,
        labelling=Labelling(words=f"annotations {address}") if with_labels else listing.labelling,
        notes=tuple(notes),
    )


def _read(address: str, label_column: str | None) -> Iterator[Annotation]:
    """The annotations of a file, in their order.

    Raises:
        UserError: by file and line.
    """
    name = posixpath.basename(address).lower()
    readers = {".mat": _of_mat, ".csv": _of_csv, ".txt": _of_text}
    suffix = posixpath.splitext(name)[1]
    if suffix not in readers:
        raise UserError(f"Unknown annotations {address!r}; expected {', '.join(sorted(readers))}.")
    with open_stream(address, "annotations") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"The annotations {address!r} have more than {MAX_BYTES:,} bytes.")
    yield from readers[suffix](address, data, label_column)


def _of_text(address: str, data: bytes, label_column: str | None) -> Iterator[Annotation]:
    for number, line in enumerate(_text(address, data).splitlines(), 1):
        written, where = line.strip(), f"{address}, line {number}"
        if not written:
            continue
        name, label = written, None
        if not written.lower().endswith(IMAGE_SUFFIXES):
            name, _, label = written.replace("\t", " ").rpartition(" ")
        if not name.strip() or (label is not None and not INTEGER.fullmatch(label)):
            raise UserError(
                f"{where}: {escaped(written)[:SHOWN]!r} is no name of an image and no name with a "
                "label, such as: airplane_002.jpg 0."
            )
        yield Annotation(
            name=name.strip(), label=None if label is None else int(label), where=where
        )


def _of_csv(address: str, data: bytes, label_column: str | None) -> Iterator[Annotation]:
    text = _text(address, data)
    header = text.partition("\n")[0]
    separator = max(";,\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        columns = [column.strip() for column in next(rows, [])]
        name_at = _column(columns, NAME_COLUMNS)
        asked = None if label_column in (None, NO_LABELS) else label_column
        keys = (*LABEL_KEYS, "classid") if asked is None else (asked,)
        label_at = None if label_column == NO_LABELS else _column(columns, keys)
        if name_at is None or (asked is not None and label_at is None):
            wanted = f"of names ({', '.join(NAME_COLUMNS)})" if name_at is None else repr(asked)
            raise UserError(
                f"{address}, line 1: no column {wanted} among {escaped(', '.join(columns))}."
            )
        for row in rows:
            where = f"{address}, line {rows.line_num}"
            if not row:
                continue
            if len(row) != len(columns):
                raise UserError(
                    f"{where}: {len(row)} values for {len(columns)} columns. Correct the line."
                )
            label = None if label_at is None else row[label_at].strip()
            if label is not None and not INTEGER.fullmatch(label):
                raise UserError(f"{where}: the label {escaped(label)[:SHOWN]!r} is no integer.")
            yield Annotation(
                name=row[name_at].strip(), label=None if label is None else int(label), where=where
            )
    except csv.Error as error:
        raise UserError(f"{address}, line {rows.line_num}: it is no CSV: {error}.") from error


def _column(columns: list[str], known: tuple[str, ...]) -> int | None:
    plain = [column.casefold() for column in columns]
    return next((plain.index(k.casefold()) for k in known if k.casefold() in plain), None)


def _of_mat(address: str, data: bytes, label_column: str | None) -> Iterator[Annotation]:
    stream = io.BytesIO(data)
    label_field = "class" if label_column in (None, NO_LABELS) else label_column
    assert label_field is not None, "it is one or the other"
    try:
        found = variables(stream)
        if CARS not in found:
            raise MatError(f"it has no variable {CARS!r}; it has {', '.join(map(shown, found))}")
        rows = structs(stream, found[CARS], ("fname", label_field), MOST)
        for number, row in enumerate(rows, 1):
            where, name, label = f"{address}, annotation {number}", row["fname"], row[label_field]
            if not isinstance(name, str):
                raise UserError(f"{where}: it has no file name (fname).")
            if isinstance(label, str) or (label is not None and not label.is_integer()):
                raise UserError(f"{where}: the class {label!r} is no whole number.")
            if label_column == NO_LABELS:
                label = None
            yield Annotation(
                name=name, label=None if label is None else int(label) - FIRST_CLASS, where=where
            )
    except MatError as error:
        raise UserError(f"The annotations {address!r} cannot be read: {error}.") from error


def _text(address: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{address}, line {line}: it is no UTF-8 text.") from error
