"""The rows of a Parquet shard as images and labels: which columns they are in, and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.format import Format, Partly, Told, broken_shard, labeller
from dawin_ray.data.found import Found
from dawin_ray.data.images import IMAGE_SUFFIXES
from dawin_ray.data.labels import (
    FOOTERS,
    Footer,
    Labelling,
    describe,
    kind_of,
    label_column,
    read_footer,
)
from dawin_ray.names import escaped, shown
from dawin_ray.storage import (
    ExtensionTypesError,
    ParquetFileError,
    content_errors,
    join,
    open_parquet,
    open_stream,
    unreadable,
)


def read_parquet(
    shard: Shard, wanted: Callable[[int], bool], start: Start | None = None
) -> Iterator[Sample]:
    """The rows of a Parquet file, from the first one or from a start, which is a row group's."""
    start = Start(0, (0,)) if start is None else start
    name, rows, ordinal = shown(shard.name), None, start.samples
    with open_stream(shard.address, "shard") as stream:
        try:
            rows = ImageRows(stream, shard, limits.MAX_MEMBER_BYTES)
            for image, label, error in rows.read(wanted, start):
                ordinal += 1
                yield Sample(
                    sample_id=f"{name}/{ordinal - 1}",
                    image=image,
                    label=label,
                    error=error,
                    position=min(shard.bytes, shard.bytes * ordinal // max(rows.count, 1)),
                    start=rows.start,
                )
        except ParquetFileError as failure:
            lost = failure.rows if rows is None else max(0, rows.count - ordinal)
            where = "" if rows is None else f"the file breaks after row {ordinal} of {rows.count}: "
            broken = broken_shard(shard, ordinal, lost, f"{where}{failure}")
            yield replace(broken, start=None if rows is None else rows.start)
        except OSError as error:  # of the disk: Arrow's own became ParquetFileError
            raise unreadable(shard.address, "shard", error) from error


IMAGE_COLUMNS = ("image", "img", *(suffix[1:] for suffix in IMAGE_SUFFIXES))

# What a footer says of sizes may be wrong, and one dictionary entry may stand for any number of
# rows: one row is held at a time. That costs 10 us a row.
ROWS_AT_A_TIME = 1

SHOWN_TYPE = 200  # characters of a column's type


class ImageRows:
    """An open Parquet file whose columns of images and labels are known."""

    def __init__(self, stream: Any, shard: Shard, max_bytes: int):
        """`max_bytes` of an image are read.

        Raises:
            ParquetFileError: it is no readable Parquet, or has no such columns; says why.
            OSError: the storage fails.
        """
        self.max_bytes, self.label_of = max_bytes, labeller(shard)
        try:
            self.file = open_parquet(stream)
        except ExtensionTypesError as failure:
            message = f"no column of encoded images is read: {failure}"
            raise ParquetFileError(message, failure.rows) from failure
        except ParquetFileError as failure:
            raise ParquetFileError(f"the file is no readable Parquet: {failure}") from failure
        self.count: int = max(0, self.file.metadata.num_rows)  # by its footer
        self.start: Start | None = None
        try:
            with content_errors():
                self.image, self.leaf, self.label = _columns(self.file, shard)
        except ParquetFileError as failure:
            failure.rows = self.count
            raise

    def read(
        self, wanted: Callable[[int], bool], start: Start
    ) -> Iterator[tuple[bytes | None, int | None, str | None]]:
        """Each row's encoded image, label, and what is wrong with it; the image where `wanted`.

        Row group by row group, so that what comes from one on is the same whoever reads what is
        before it; `start` is that of the one that is being read.

        Raises:
            ParquetFileError: it breaks behind the rows that were given, or ends too early.
            OSError: the storage fails.
        """
        row = start.samples
        for group in range(start.place[0], self.file.metadata.num_row_groups):
            self.start = Start(row, (group,))
            for image, label in self._rows_of(group):
                with content_errors():
                    value, error = self._image(image) if wanted(row) else (None, None)
                try:
                    found = self.label_of(None if label is None else _written(label))
                except ValueError as failure:
                    value, found, error = None, None, str(failure)
                row += 1
                yield value, found, error
        if row < self.count:
            raise ParquetFileError(f"its footer counts {self.count} rows, but it has {row}")

    def _rows_of(self, group: int) -> Iterator[tuple[pa.Scalar, pa.Scalar | None]]:
        columns = [self.leaf, *([self.label] if self.label else [])]
        batches = self.file.iter_batches(
            ROWS_AT_A_TIME, row_groups=[group], columns=columns, use_threads=False
        )
        while True:
            with content_errors():
                batch = next(batches, None)
                if batch is None:
                    return
                images = batch.column(self.image)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                labels = batch.column(self.label) if self.label else [None] * len(batch)
                rows = list(zip(images, labels, strict=True))
            yield from rows

    def _image(self, image: pa.Scalar) -> tuple[bytes | None, str | None]:
        if not image.is_valid:
            return None, "the row has no image bytes"
        if (size := image.as_buffer().size) > self.max_bytes:
            return None, f"its image has {size:,} bytes; at most {self.max_bytes:,} are read"
        return image.as_py(), None


def _written(label: pa.Scalar) -> Any:
    try:
        return label.as_py()
    except UnicodeDecodeError as failure:
        raise ValueError("the label is no UTF-8 text") from failure


def _columns(file: Any, shard: Shard) -> tuple[str, str, str | None]:
    """The image column, the path of its bytes, and the label column if there is one."""
    schema = file.schema_arrow
    image = _image_column(schema, shard)
    leaf = f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image
    label = _label_column(schema, shard)
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    for path in (leaf, label):
        if path is not None and (count := paths.count(path)) != 1:
            raise ParquetFileError(
                f"the file has {count} columns {escaped(path)!r}; rename all but one of them"
            )
    return image, leaf, label


def _image_column(schema: pa.Schema, shard: Shard) -> str:
    asked = shard.image_column
    found = [asked] if asked else [name for name in IMAGE_COLUMNS if name in schema.names]
    for name in found:
        if (count := schema.names.count(name)) > 1:
            raise ParquetFileError(
                f"the file has {count} columns named {name!r}; rename all but one of them, or name "
                "another with datasets[].image_column"
            )
    able = [field.name for field in schema if _holds_images(field.type)]
    usable = [name for name in found if name in able] or (able if not asked else [])
    if len(usable) == 1 or (usable and usable[0] in found):
        return usable[0]
    names = escaped(", ".join(schema.names))[: 5 * SHOWN_TYPE]
    types = "".join(
        f"; {name!r} is {escaped(str(schema.field(name).type))[:SHOWN_TYPE]}"
        for name in found
        if name in schema.names
    )
    raise ParquetFileError(
        "the file has no column of encoded images"
        + (f" named {asked!r}" if asked else "")
        + f": its columns are {names}{types}. Expected a struct {{bytes, path}} with binary bytes, "
        "or a binary column; name it with datasets[].image_column."
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")  # -1 for none, and for two
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, shard: Shard) -> str | None:
    kinds = {field.name: kind_of(field.type) for field in schema}
    label = label_column(kinds, shard.label_column)
    if label is None:
        return None
    count, kind = schema.names.count(label), kinds.get(label)
    if count == 1 and (kind in ("integer", "float") or (kind == "text" and shard.label_names)):
        return label
    found = "missing" if not count else f"there {count} times"
    if count == 1:
        found = escaped(str(schema.field(label).type))[:SHOWN_TYPE]
    raise ParquetFileError(
        f"the label column {label!r} is {found}; expected integers"
        + (", or the names of classes that are known" if kind == "text" else "")
        + ". Name another with datasets[].label_column, or none."
    )


def count_rows(shard: Shard, told: Told) -> int | None:
    """Rows by the footer; of a broken file those that are lost, if that is known."""
    with open_stream(shard.address, "shard") as stream:
        try:
            return ImageRows(stream, shard, limits.MAX_MEMBER_BYTES).count
        except ParquetFileError as failure:
            told(broken_shard(shard, 0, failure.rows, str(failure)))
            return failure.rows


def starts_of_groups(shard: Shard) -> list[Start]:
    """Of each row group, by the footer; none where the file is no readable Parquet."""
    with open_stream(shard.address, "shard") as stream:
        try:
            metadata = open_parquet(stream).metadata
        except ParquetFileError:
            return []
    starts, rows = [], 0
    for group in range(metadata.num_row_groups):
        starts.append(Start(rows, (group,)))
        rows += max(0, metadata.row_group(group).num_rows)
    return starts


def labels_of_columns(found: Found, names: Sequence[str], asked: str | None) -> Labelling:
    """Where labels are, by the footers of some of the files."""
    return describe(_footers(found, names), names, asked)


def _footers(found: Found, names: Sequence[str]) -> list[Footer]:
    """Of up to FOOTERS of the files, spread over them; a broken one is left to the reader."""
    step = max(1, len(names) // FOOTERS)
    footers = []
    for name in names[::step][:FOOTERS]:
        try:
            with found.fs.open(join(found.root, name), "rb") as stream:
                footers.append(read_footer(stream, name))
        except Exception:  # noqa: BLE001 - the reader will say why, as a broken shard
            continue
    return footers


PARQUET = Format(
    suffixes=(".parquet",),
    files="Parquet files (.parquet)",
    read=read_parquet,
    count=count_rows,
    counts_losses=True,
    partly=Partly(
        read=read_parquet,
        scan=lambda shard: read_parquet(shard, lambda _: False),
        starts=starts_of_groups,
    ),
    numbered=True,
    labels=labels_of_columns,
)
