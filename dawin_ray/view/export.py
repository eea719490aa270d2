"""A choice of samples as a file: CSV, Parquet, or a WebDataset of the images themselves."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dawin_ray.data import open_image
from dawin_ray.errors import UserError
from dawin_ray.report import no_formula
from dawin_ray.storage import WRITE
from dawin_ray.view.database import Database
from dawin_ray.view.images import Images

MAX_ROWS = 1_000_000  # of a table

MAX_IMAGES = 10_000  # of a WebDataset

MAX_BYTES = 8 << 30  # of its images

SUFFIXES = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif", "ICO": "png"}  # else the name itself

END = bytes(2 * 512)  # of a tar


def csv_lines(database: Database, sql: str) -> Iterator[str]:
    """A statement's rows as CSV, in which no text is a formula. Raises QueryError at the first."""
    batches = database.stream(sql, MAX_ROWS)
    yield _lines([[no_formula(name) for name in next(batches).schema.names]])
    for batch in batches:
        columns = [[_plain(value) for value in column.to_pylist()] for column in batch.columns]
        yield _lines(list(zip(*columns, strict=True)))


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    return no_formula(json.dumps(value, default=str) if isinstance(value, list | dict) else value)


def parquet_file(database: Database, sql: str) -> Path:
    """A statement's rows as a file, which its reader deletes. Raises QueryError."""
    batches = database.stream(sql, MAX_ROWS)
    schema = next(batches).schema
    with tempfile.NamedTemporaryFile(suffix=".parquet", delete=False) as file:
        path = Path(file.name)
    try:
        with pq.ParquetWriter(path, schema, **WRITE) as writer:
            for batch in batches:
                writer.write_batch(batch)
    except BaseException:
        path.unlink()
        raise
    return path


def webdataset(database: Database, images: Images, sql: str) -> Iterator[bytes]:
    """The images of a statement's samples as a tar, with their labels and rows beside them.

    Members are numbered, as ids are no names of files: `000000.jpg`, `.cls` where there is a label,
    and `.json` with the row. A sample that cannot be read is left out. Where the storage fails
    midway, the tar has no end.

    Raises:
        UserError: the statement has no columns `dataset` and `sample_id`, too many rows, or a file
            has changed since it was scored; before the first byte.
    """
    found = database.query(sql, MAX_IMAGES)
    if not {"dataset", "sample_id"} <= {*found.columns}:
        raise UserError("A WebDataset wants the columns dataset and sample_id in the statement.")
    if found.more:
        raise UserError(
            f"A WebDataset takes at most {MAX_IMAGES:,} samples, and these are more. Ask for fewer "
            f"(LIMIT {MAX_IMAGES})."
        )
    rows = found.dicts()
    pieces = _members(images, rows)
    first = next(pieces, b"")  # by now all files have been looked at
    yield first
    yield from pieces
    yield END


def _members(images: Images, rows: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    number, size = 0, 0
    by_place = {(row["dataset"], row["sample_id"]): row for row in rows}
    for dataset in dict.fromkeys(dataset for dataset, _ in by_place):
        ids = [sample_id for of_set, sample_id in by_place if of_set == dataset]
        for sample in images.samples(dataset, ids):
            if sample.image is None:
                continue
            size += len(sample.image)
            if size > MAX_BYTES:
                raise UserError(f"The images have more than {MAX_BYTES:,} bytes.")
            row = by_place[dataset, sample.sample_id]
            key = f"{number:06d}"
            yield _member(f"{key}.{_suffix(sample.image)}", sample.image)
            if row.get("label") is not None:
                yield _member(f"{key}.cls", str(row["label"]).encode())
            yield _member(f"{key}.json", json.dumps(row, default=str).encode())
            number += 1


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf() + content + bytes(-len(content) % 512)


def _suffix(encoded: bytes) -> str:
    try:
        with open_image(encoded) as image:
            kind = image.format or ""
    except Exception:  # noqa: BLE001  (it was scored once; its bytes are given as they are)
        kind = ""
    return SUFFIXES.get(kind, kind.lower()) or "jpg"
