"""Where the labels of a data set lie, and what a label that is written there means.

Parquet: a column of a known name, or Hive folders (`label=3/`); tars: members `.cls`, or a key of
`.json`. What is found is told, and what looks like labels and is not taken is named. Null and NaN
are no labels. Labels that are all -1, as in Hugging Face's test sets, are none; a single -1 is a
label outside the classes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from dawin_ray.names import finder, shown
from dawin_ray.storage import open_parquet

NO_LABELS = "none"  # as a label column: the labels are not read

LABEL_COLUMNS = ("label", "labels", "cls")  # the first of them is taken

# Taken where there is one of them, of integers, and none of the above.
OTHER_LABEL_COLUMNS = (
    "class", "class_id", "class_idx", "class_index", "class_label", "label_id", "label_idx",
    "label_index", "target", "targets", "category", "category_id", "y",
)  # fmt: skip

LABEL_KEYS = (*LABEL_COLUMNS, *OTHER_LABEL_COLUMNS)

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

USABLE = ("integer", "float", "text")  # kinds of label columns

FOOTERS = 16  # Parquet files whose columns are looked at

SHOWN = 40  # characters of a label in a message


@dataclass(frozen=True, kw_only=True)
class Footer:
    """What the end of a Parquet file says of its columns."""

    name: str  # of the file
    kinds: Mapping[str, str]  # column -> integer, float, text, other
    class_names: Mapping[str, tuple[str, ...]]  # column -> names, as Hugging Face's ClassLabel
    bounds: Mapping[str, tuple[Any, Any]]  # column -> least and largest value, where written


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Where labels are, in words, and what a reader must know of it."""

    words: str
    text: bool = False  # they are names of classes
    unlabelled: bool = False  # what is there are no labels, and is not read
    names: tuple[str, ...] | None = None  # of the classes, in the labels' order
    names_from: str = ""
    notes: tuple[str, ...] = ()


NOT_READ = Labelling(words="none are read, as label_column: none says", unlabelled=True)


def label_column(kinds: Mapping[str, str], asked: str | None) -> str | None:
    """The column of a Parquet file that holds its labels; `kinds` are those of its columns."""
    if asked is not None:
        return None if asked == NO_LABELS else asked
    known = [c for c in LABEL_COLUMNS if kinds.get(c) in USABLE]
    if known:
        return next((c for c in known if kinds[c] != "text"), known[0])
    if present := [c for c in LABEL_COLUMNS if c in kinds]:
        return present[0]  # the reader says what is wrong with it
    plain = {c.lower(): c for c in kinds}
    others = [plain[c] for c in LABEL_KEYS if c in plain and kinds[plain[c]] in USABLE[:2]]
    return others[0] if len(others) == 1 else None


def kind_of(kind: pa.DataType) -> str:
    """What labels of an Arrow type are: integer, float, text, or other, which are none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "other"


def label_of(written: Any, find: Callable[[str], int | None]) -> int | None:
    """The label that a number or text means; None for NaN.

    `find` tells the class that a name is of, if any.

    Raises:
        ValueError: it means none.
    """
    if isinstance(written, bytes):
        written = written.decode("utf-8", "replace")
    if isinstance(written, str):
        text = written.strip().removeprefix("\ufeff")
        if (position := find(text)) is not None:
            written = position
        elif re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            written = int(text)
        else:
            raise ValueError(f"the label {text[:SHOWN]!r} is no integer and no known class name")
    if isinstance(written, float):
        if math.isnan(written):
            return None
        if not written.is_integer():
            raise ValueError(f"the label {written} is no whole number")
    if not isinstance(written, int | float):
        raise ValueError(f"the label is a {type(written).__name__}, not a number")
    return int(written)


def label_of_json(data: bytes, asked: str | None = None) -> int | float | str | None:
    """The label that a sample's `.json` member holds under a known key, or the one `asked` for."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    keys = LABEL_KEYS if asked is None else (asked,)
    found = (values[key] for key in keys if key in values)
    return next((v for v in found if isinstance(v, int | float | str)), None)


def hive_labels(
    names: Iterable[str], asked: str | None = None
) -> tuple[str, dict[str, Any]] | None:
    """The key of Hive folders that hold labels, and what they say of each file; None without any.

    `label=3/part-0.parquet`; keys are those of label columns, or the one that is `asked` for.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for part in name.split("/")[:-1]:
            key, equals, value = part.partition("=")
            if equals and (key == asked if asked else key.lower() in LABEL_KEYS):
                found.setdefault(key, {})[name] = None if value == HIVE_NULL else unquote(value)
    return next(iter(found.items())) if len(found) == 1 else None


def hive_label(value: str | None, names: Sequence[str]) -> int | None:
    """The label that a Hive folder's value means.

    Raises:
        ValueError: it means none.
    """
    return None if value is None else label_of(value, finder(names))


def read_footer(stream: Any, name: str) -> Footer:
    """A Parquet file's columns, from its footer.

    Raises:
        ParquetFileError: it is no readable Parquet, or has extension types.
    """
    metadata = open_parquet(stream).metadata
    schema, kinds, leaves = metadata.schema, {}, {}
    for i in range(len(schema)):
        column = schema.column(i)
        top = column.path.split(".")[0]
        kinds[top] = _kind_of_leaf(column) if column.path == top else "other"
        leaves[column.path] = i
    bounds = {}
    for column, kind in kinds.items():
        if kind in ("integer", "float"):
            bounds[column] = _bounds(metadata, leaves[column])
    return Footer(
        name=name,
        kinds=kinds,
        class_names=_hugging_face_names(metadata.metadata or {}),
        bounds={column: bound for column, bound in bounds.items() if bound is not None},
    )


def describe(footers: Sequence[Footer], files: Sequence[str], asked: str | None) -> Labelling:
    """Where the labels of Parquet files are; `files` are the names of all."""
    if asked == NO_LABELS:
        return NOT_READ
    columns = {footer.name: label_column(footer.kinds, asked) for footer in footers}
    chosen = next((c for c in columns.values() if c is not None), None)
    hive = hive_labels(files, asked)
    if hive is not None and not any(chosen in footer.kinds for footer in footers):
        key, values = hive
        first = next(iter(values.values()))
        text = any(v and not re.fullmatch(r"-?[0-9]+", v) for v in values.values())
        lacking = len(files) - len(values)
        return Labelling(
            words=f"Hive folders {key}={first}/ and so on",
            text=text,
            notes=(f"{lacking:,} files lie in no folder {key}=: no labels",) if lacking else (),
        )
    if not footers:
        return Labelling(words="unknown until read")
    if chosen is None or not any(chosen in footer.kinds for footer in footers):
        missing = f"there is no column {shown(chosen)}; " if chosen is not None else ""
        return Labelling(words=f"none: {missing}{_none(footers[0].kinds)}")
    notes = []
    if without := [shown(f.name) for f in footers if chosen not in f.kinds]:
        notes.append(f"{without[0]} has no column {chosen}, as others have")
    kinds = {f.kinds[chosen] for f in footers if chosen in f.kinds}
    names = next((f.class_names[chosen] for f in footers if chosen in f.class_names), None)
    of_names = f"ClassLabel of column {chosen}" if names else ""
    words = f"column {chosen}"
    bounds = [f.bounds[chosen] for f in footers if chosen in f.bounds]
    if bounds and len(bounds) == len(footers):
        low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
        if low == high == -1:
            looked = f" in {len(footers)} of {len(files)} files" if files[len(footers) :] else ""
            words = f"none: all of column {chosen} are -1{looked}"
            return Labelling(words=words, unlabelled=True, names=names, names_from=of_names)
        if low < 0:
            notes.append(
                f"column {chosen} has values below 0, such as {low}: such rows are rejects; "
                "label_column: none reads no labels"
            )
    taken_not = sorted(c for c in _like_labels(footers[0].kinds) if c != chosen)
    if taken_not:
        words += f" (not {', '.join(map(shown, taken_not))}; choose with label_column)"
    return Labelling(
        words=words,
        text="text" in kinds,
        names=names,
        names_from=of_names,
        notes=tuple(notes),
    )


def _none(kinds: Mapping[str, str]) -> str:
    """Words for a file without labels: what it has, and which of that may be labels."""
    columns = ", ".join(shown(c) for c in list(kinds)[:20]) + (", ..." if len(kinds) > 20 else "")
    like = [shown(c) for c in _like_labels(kinds)]
    hint = f" ({' or '.join(like)}?)" if like else ", if one of them holds labels"
    return f"columns are {columns}; choose with label_column{hint}"


def _like_labels(kinds: Mapping[str, str]) -> list[str]:
    """Integer columns whose name says that they may be labels."""
    return [
        c for c, kind in kinds.items()
        if kind == "integer" and ("label" in c.lower() or c.lower() in LABEL_KEYS)
    ]  # fmt: skip


def _kind_of_leaf(column: Any) -> str:
    logical = column.logical_type.type
    if column.max_repetition_level:
        return "other"
    if column.physical_type in ("INT32", "INT64") and logical in ("NONE", "INT"):
        return "integer"
    if column.physical_type in ("FLOAT", "DOUBLE"):
        return "float"
    return "text" if logical == "STRING" else "other"


def _bounds(metadata: Any, leaf: int) -> tuple[Any, Any] | None:
    low, high = [], []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(leaf).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        low.append(statistics.min)
        high.append(statistics.max)
    return (min(low), max(high)) if low else None


def _hugging_face_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Column -> class names, which `datasets` writes into the footer of its files."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: tuple(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and isinstance(feature.get("names"), list)
            and all(isinstance(name, str) for name in feature["names"])
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
