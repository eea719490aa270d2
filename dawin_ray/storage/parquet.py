"""Parquet, read so that a file's values are all that is taken from it.

A Parquet file that Arrow wrote tells its Arrow types under a key of its footer, extension types by
name. Where a type of that name is registered, opening the file calls it, and some unpickle what
they are given; Ray registers such types in every worker. So the key is renamed in the footer's
bytes before Arrow sees them: what is left are Parquet's own types, which hold values and run
nothing. The names of extension types are read from the same key with theirs renamed, and a file
that has any is refused: its values would not be what it says they are.

Every Parquet file that this package reads is opened here, those of a run directory too: others may
write there.
"""

from __future__ import annotations

import base64
import errno
import inspect
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.names import escaped
from dawin_ray.storage.files import LFS_POINTER, lfs_pointer

# Keys, and what they are renamed to: of the same length, as lengths stand before them.
ARROW_SCHEMA, RENAMED_SCHEMA = b"ARROW:schema", b"arrow.schema"

EXTENSION_NAME, RENAMED_NAME = b"ARROW:extension:name", b"arrow.extension.name"

MAGIC, ENCRYPTED = b"PAR1", b"PARE"

TAIL = 8  # bytes: the length of the footer, then MAGIC

# A footer of 1,000 row groups of 20 columns has some 2 MB; decoded, it takes up to a hundred times
# as much.
MAX_FOOTER_BYTES = 16 << 20

READ_BUFFER = 1 << 20  # bytes of a column that are read at a time, not a row group's whole

SHOWN_NAMES = 5

MAX_MESSAGE = 500  # characters of what Arrow says

# Deeper schemas overflow the stack of a pyarrow that has no limit of its own.
MAX_SCHEMA_ELEMENTS = 10_000

WRITE = {"compression": "zstd", "write_page_checksum": True}


class ParquetFileError(ValueError):
    """What is wrong with the content of a file, without its name."""

    def __init__(self, message: str, rows: int | None = None):
        """`rows` that the file has by its footer, where that is known."""
        super().__init__(message)
        self.rows = rows


class ExtensionTypesError(ParquetFileError):
    """A file has columns whose types would run code of their own."""


def open_parquet(source: Any, *, checksums: bool = False) -> pq.ParquetFile:
    """A Parquet file of storage types only; `source` is open for reading, and can seek.

    `checksums` of pages are verified where the file has them, once the pages are read.

    Raises:
        ParquetFileError: as `read_metadata`.
    """
    metadata = read_metadata(source)
    options = _options(buffer_size=READ_BUFFER, page_checksum_verification=checksums)
    with content_errors():
        # with metadata given, Arrow does not look at the file's own footer
        file = pq.ParquetFile(source, metadata=metadata, **options)
        if any(isinstance(f.type, pa.BaseExtensionType) for _, f in _fields(file.schema_arrow)):
            raise ExtensionTypesError("Arrow makes extension types of its columns", 0)
    return file


def read_metadata(source: Any) -> pq.FileMetaData:
    """What a Parquet file's footer says, without a word on Arrow's types.

    Raises:
        ParquetFileError: it is no readable Parquet, or has extension types.
        Exception: what `source` raises of itself.
    """
    with content_errors():  # a place that a file does not have was asked for by its content
        footer = _footer(source).replace(ARROW_SCHEMA, RENAMED_SCHEMA)
    whole = b"".join((MAGIC, footer, len(footer).to_bytes(4, "little"), MAGIC))
    with content_errors("its footer cannot be read: "):
        metadata = pq.ParquetFile(pa.BufferReader(whole), **_options()).metadata
        arrow_schema = (metadata.metadata or {}).get(RENAMED_SCHEMA)
        extensions = [] if arrow_schema is None else _extensions_of(arrow_schema)
    if extensions:
        names = ", ".join(extensions[:SHOWN_NAMES])
        more = len(extensions) - SHOWN_NAMES
        raise ExtensionTypesError(
            f"it has columns of extension types, and data may not choose what runs: {names}"
            + (f" and {more} more" if more > 0 else "")
            + ". Write it anew with plain types: binary for encoded images, integers for labels",
            max(0, metadata.num_rows),
        )
    return metadata


@contextmanager
def content_errors(what: str = "") -> Iterator[None]:
    """Whatever Arrow raises at a file's content is about the file; storage's failures are not.

    Raises:
        ParquetFileError: `what` and what Arrow raised.
        Exception: a UserError, and an OSError of the system's, as they are.
    """
    try:
        yield
    except (UserError, ParquetFileError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk: Arrow's own have no number, and EINVAL is of a place before 0
        raise ParquetFileError(f"{what}{told(error)}") from error


@contextmanager
def own_parquet(fs: Any, path: str) -> Iterator[pq.ParquetFile]:
    """A file that a run wrote, its checksums verified as it is read.

    Raises:
        DamagedFileError: it is not what was written; also at reads within the `with`.
        FileNotFoundError: it is not there.
    """
    with fs.open(path, "rb") as stream:
        try:
            with content_errors():
                yield open_parquet(stream, checksums=True)
        except ParquetFileError as error:
            raise DamagedFileError(path, str(error)) from error


def read_table(fs: Any, path: str, columns: list[str] | None = None) -> pa.Table:
    """A whole file that a run wrote; raises as `own_parquet`."""
    with own_parquet(fs, path) as file:
        return file.read(columns=columns)


@contextmanager
def parquet_of(content: bytes, name: str) -> Iterator[pq.ParquetFile]:
    """A file of a run that has been read whole; `name` is for errors. Raises as `own_parquet`."""
    try:
        with content_errors():
            yield open_parquet(pa.BufferReader(content), checksums=True)
    except ParquetFileError as error:
        raise DamagedFileError(name, str(error)) from error


def table_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file whose pages carry checksums."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **WRITE)
    return buffer.getvalue()


def told(error: BaseException) -> str:
    """What an error says, on one line of bounded length: the file's bytes may be in it."""
    return f"{type(error).__name__}: {escaped(' '.join(str(error).split()))[:MAX_MESSAGE]}"


def _options(**asked: Any) -> dict[str, Any]:
    """Options of `ParquetFile` that this pyarrow has."""
    known = inspect.signature(pq.ParquetFile).parameters
    # nothing of a row group is read ahead, as it may have any size
    options = {"pre_buffer": False, "arrow_extensions_enabled": False, **asked}
    if "schema_depth_limit" not in known:
        options["thrift_container_size_limit"] = MAX_SCHEMA_ELEMENTS
    return {name: value for name, value in options.items() if name in known}


def _footer(source: Any) -> bytes:
    source.seek(0, io.SEEK_END)
    size = source.tell()
    source.seek(0)
    start = source.read(64)
    if lfs_pointer(start):
        raise ParquetFileError(LFS_POINTER)
    if size < len(MAGIC) + TAIL:
        raise ParquetFileError(f"it has {size} bytes, fewer than any Parquet file")
    source.seek(size - TAIL)
    tail = source.read(TAIL)
    length, magic = int.from_bytes(tail[:4], "little"), tail[4:]
    if magic == ENCRYPTED:
        raise ParquetFileError("its footer is encrypted; write it without encryption")
    if magic != MAGIC:
        raise ParquetFileError(
            f"it does not end with {MAGIC.decode()} as Parquet does: it was cut, or is another "
            "kind of file"
        )
    if length > size - len(MAGIC) - TAIL:
        raise ParquetFileError(f"it has {size:,} bytes, but a footer of {length:,}")
    if length > MAX_FOOTER_BYTES:
        raise ParquetFileError(
            f"its footer has {length:,} bytes; at most {MAX_FOOTER_BYTES:,} are read. Write it "
            "with larger row groups"
        )
    source.seek(size - TAIL - length)
    footer: bytes = source.read(length)
    if len(footer) != length:
        raise ParquetFileError(f"it was cut while it was read: {len(footer)} of {length} bytes")
    return footer


def _extensions_of(arrow_schema: bytes) -> list[str]:
    """`column: extension type` of each, by the Arrow schema of a footer; none is made."""
    message = base64.b64decode(arrow_schema).replace(EXTENSION_NAME, RENAMED_NAME)
    return [
        f"{escaped(path)}: {escaped(field.metadata[RENAMED_NAME].decode(errors='replace'))}"
        for path, field in _fields(pa.ipc.read_schema(pa.BufferReader(message)))
        if field.metadata and RENAMED_NAME in field.metadata
    ]


def _fields(parent: pa.Schema | pa.DataType, path: str = "") -> Iterator[tuple[str, pa.Field]]:
    """All fields with their paths, those within others too."""
    for field in _children(parent):
        inner = f"{path}.{field.name}" if path else field.name
        yield inner, field
        yield from _fields(field.type, inner)


def _children(parent: pa.Schema | pa.DataType) -> list[pa.Field]:
    if isinstance(parent, pa.Schema):
        return list(parent)
    if pa.types.is_map(parent):
        return [parent.key_field, parent.item_field]
    if pa.types.is_dictionary(parent) or pa.types.is_run_end_encoded(parent):
        return [pa.field("values", parent.value_type)]
    if pa.types.is_struct(parent) or pa.types.is_union(parent):
        return [parent.field(i) for i in range(parent.num_fields)]
    return [parent.value_field] if hasattr(parent, "value_field") else []
