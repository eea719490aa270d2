"""MAT-files of level 5 (MATLAB 5 to 7, `save -v7`): numbers, texts and structs, nothing else.

After MathWorks, "MAT-File Format", version 5. `scipy.io.loadmat` reads whole variables, and trusts
their sizes: a file of 1 MB that speaks of one value made it take 1.4 GB. Here a file is not
trusted: what is compressed is inflated piece by piece and never further than what was asked for,
sizes are checked against what was read, and what is none of the three kinds is passed over.

`variables` finds what a file holds; `numbers`, `planes` and `structs` read one variable.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HEADER = 128  # bytes of a file's, which end with the version and the order of bytes

LEVEL_5 = 0x0100

HDF5 = b"\x89HDF"  # begins the data of level 7.3, behind its header

HDF5_AT = 512

MATRIX, COMPRESSED = 14, 15  # types of elements that hold others

CHARACTERS, STRUCT = 4, 2  # classes of arrays

NUMBERS = range(6, 16)  # the numeric classes: double to uint64

# Types of elements that hold numbers, as numpy's without the order of bytes. An array is stored in
# the smallest type that holds its values, whatever its class.
TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip

TEXT_TYPES = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

ONE_BYTE = (1, 2, 16)  # of them, those without an order of bytes

_ENDS = {"<": "-le", ">": "-be"}

MAX_DIMENSIONS = 32

MAX_NAME_BYTES = 4096  # of a variable; and of all field names of a struct

MAX_TEXT_BYTES = 65_536  # of one text, such as a file's name

MOST_VARIABLES = 1000

PIECE = 1 << 16  # bytes that are inflated or passed over at once


class MatError(ValueError):
    """A file that is none of level 5, is damaged, or is larger than what is read."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """What a file says of one of its arrays, before its values are read."""

    name: str
    kind: int  # its class: CHARACTERS, STRUCT, one of NUMBERS, or what is not read
    shape: tuple[int, ...]
    at: int  # byte of the file that its element begins at
    order: str  # of bytes: < or >

    @property
    def count(self) -> int:
        """Its values, or structs."""
        return math.prod(self.shape)


def variables(stream: Any) -> dict[str, Variable]:
    """The arrays of an open file, by name, in their order.

    Raises:
        MatError: it is no such file, or a header is damaged.
    """
    order, at = _order_of(stream), HEADER
    found: dict[str, Variable] = {}
    for _ in range(MOST_VARIABLES):
        stream.seek(at)
        head = stream.read(8)
        if not head:
            return found
        if len(head) < 8:
            raise MatError("the file ends in the header of a variable")
        kind, size = struct.unpack(f"{order}II", head)
        if kind in (MATRIX, COMPRESSED):
            variable = _opened(stream, at, order)[0]
            found.setdefault(variable.name, variable)
        at += 8 + size
    raise MatError(f"it has more than {MOST_VARIABLES:,} variables")


def numbers(stream: Any, variable: Variable, most: int) -> np.ndarray:
    """The values of a numeric array, [count], column after column.

    Raises:
        MatError: it is none, has more than `most` values, or is damaged.
    """
    elements, kind, size = _values(stream, variable, most)
    dtype = _dtype(kind, variable)
    _check_size(variable, size, dtype.itemsize)
    return np.frombuffer(elements.read(size), dtype)


def planes(stream: Any, variable: Variable, most: int) -> Iterator[bytes]:
    """An array of bytes, uint8 [..., N]: the values of each of its last axis, one by one.

    Column after column, so that an image [H, W, 3] comes as [3, W, H].

    Raises:
        MatError: it is no such array, one plane has more than `most` bytes, or it is damaged,
            behind the planes that were given.
    """
    plane = math.prod(variable.shape[:-1])
    if plane > most:
        raise MatError(
            f"each of variable {variable.name!r} has {plane:,} bytes; at most {most:,} are read"
        )
    elements, kind, size = _values(stream, variable, most * variable.shape[-1])
    if TYPES.get(kind) != "u1":
        raise MatError(f"variable {variable.name!r} is not of bytes (uint8)")
    _check_size(variable, size, 1)
    for _ in range(variable.shape[-1]):
        yield elements.read(plane)


def structs(
    stream: Any, variable: Variable, fields: Sequence[str], most: int
) -> Iterator[dict[str, float | str | None]]:
    """The structs of an array, each with some of its fields: a number, a text, or None.

    A field that the array lacks, or whose value is neither one number nor a text, is None.

    Raises:
        MatError: it is no array of structs, has more than `most`, or is damaged.
    """
    if variable.kind != STRUCT:
        raise MatError(f"variable {variable.name!r} is no array of structs")
    if variable.count > most:
        raise MatError(
            f"variable {variable.name!r} has {variable.count:,} structs, of at most {most:,}"
        )
    elements = _opened(stream, variable.at, variable.order)[1]
    length = elements.element(4)
    width = int.from_bytes(length, "little" if variable.order == "<" else "big", signed=True)
    joined = elements.element(MAX_NAME_BYTES)
    if width < 1 or len(joined) % width:
        raise MatError(f"the field names of variable {variable.name!r} are damaged")
    names = [
        joined[i : i + width].split(b"\0", 1)[0].decode("latin-1")
        for i in range(0, len(joined), width)
    ]
    for _ in range(variable.count):
        found: dict[str, float | str | None] = dict.fromkeys(fields)
        for name in names:
            if name in found:
                found[name] = _field(elements)
            else:
                elements.drop(elements.tag()[1])
        yield found


def _order_of(stream: Any) -> str:
    """The order of bytes of an open file.

    Raises:
        MatError: it is none of level 5.
    """
    stream.seek(0)
    header = stream.read(HEADER)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    version = struct.unpack(f"{order or '<'}H", header[124:126])[0] if len(header) == HEADER else 0
    if order and version == LEVEL_5:
        return order
    stream.seek(HDF5_AT)
    if header.startswith((HDF5, b"MATLAB 7.3")) or stream.read(4) == HDF5:
        raise MatError(
            "it is a MAT-file of version 7.3 (HDF5), which is not read: save it with -v7"
        )
    raise MatError("it is no MAT-file of version 5 to 7 (save -v7)")


def _opened(stream: Any, at: int, order: str) -> tuple[Variable, _Elements]:
    """The array whose element begins at a byte, and what follows its header."""
    stream.seek(at)
    elements = _Elements(stream, order)
    kind, size = elements.tag()
    if kind == COMPRESSED:
        elements = _Elements(_Inflated(stream, size), order)
        kind, size = elements.tag()
    if kind != MATRIX:
        raise MatError(f"byte {at} is no array (type {kind})")
    return _header(elements, at, order), elements


def _header(elements: _Elements, at: int, order: str) -> Variable:
    flags = elements.element(8)
    if len(flags) != 8:
        raise MatError(f"the array at byte {at} has damaged flags")
    dimensions = elements.element(4 * MAX_DIMENSIONS)
    shape = tuple(
        int(n) for n in np.frombuffer(dimensions[: len(dimensions) // 4 * 4], f"{order}i4")
    )
    name = elements.element(MAX_NAME_BYTES).decode("latin-1")
    if len(shape) < 2 or min(shape) < 0:
        raise MatError(f"the array {name!r} at byte {at} has a damaged shape")
    kind = struct.unpack(f"{order}I", flags[:4])[0] & 0xFF
    return Variable(name=name, kind=kind, shape=shape, at=at, order=order)


def _values(stream: Any, variable: Variable, most: int) -> tuple[_Elements, int, int]:
    if variable.kind not in NUMBERS:
        raise MatError(f"variable {variable.name!r} is no array of numbers")
    if variable.count > most:
        raise MatError(
            f"variable {variable.name!r} has {variable.count:,} values, of at most {most:,}"
        )
    elements = _opened(stream, variable.at, variable.order)[1]
    return elements, *elements.tag()


def _dtype(kind: int, variable: Variable) -> np.dtype[Any]:
    if kind not in TYPES:
        raise MatError(f"the values of variable {variable.name!r} are of an unknown type ({kind})")
    return np.dtype(variable.order + TYPES[kind])


def _check_size(variable: Variable, size: int, item: int) -> None:
    if size != variable.count * item:
        raise MatError(
            f"variable {variable.name!r} has {size:,} bytes, not those of {variable.count:,} values"
        )


def _field(elements: _Elements) -> float | str | None:
    """One field's value; what is neither a number nor a text is passed over."""
    kind, size = elements.tag()
    if kind != MATRIX:
        raise MatError(f"a field is no array (type {kind})")
    if size > MAX_TEXT_BYTES or not size:  # more than a text, or an empty array
        elements.drop(size)
        return None
    inner = _Elements(io.BytesIO(elements.read(size)), elements.order)
    field = _header(inner, 0, elements.order)
    if field.kind in NUMBERS and field.count == 1:
        kind, raw = inner.typed(8)
        _check_size(field, len(raw), _dtype(kind, field).itemsize)
        return float(np.frombuffer(raw, _dtype(kind, field))[0])
    if field.kind == CHARACTERS and field.count:
        kind, raw = inner.typed(MAX_TEXT_BYTES)
        if kind not in TEXT_TYPES:
            raise MatError(f"a text is of an unknown type ({kind})")
        return raw.decode(
            TEXT_TYPES[kind] + ("" if kind in ONE_BYTE else _ENDS[field.order]), "replace"
        )
    return None


class _Elements:
    """The elements of a file, or of what one of them holds: tag, data, and fill up to 8 bytes."""

    def __init__(self, file: Any, order: str):
        self._file, self.order = file, order
        self._small: bytes | None = None  # the data of an element that fits in its tag

    def tag(self) -> tuple[int, int]:
        """Type and bytes of the next element, whose data come next."""
        head = self._exactly(8)
        kind, size = struct.unpack(f"{self.order}II", head)
        self._small = None
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise MatError(f"a small element says that it has {size:,} bytes")
            self._small = head[4 : 4 + size]
        return kind, size

    def read(self, size: int) -> bytes:
        """So many bytes of the data of the element whose tag was read."""
        return self._exactly(size) if self._small is None else self._small[:size]

    def typed(self, most: int) -> tuple[int, bytes]:
        """Type and data of the next element, of at most so many bytes."""
        kind, size = self.tag()
        if size > most:
            raise MatError(f"an element has {size:,} bytes, of at most {most:,}")
        data = self.read(size)
        if self._small is None:
            self._exactly(-size % 8)
        return kind, data

    def element(self, most: int) -> bytes:
        """The data of the next element, whatever its type."""
        return self.typed(most)[1]

    def drop(self, size: int) -> None:
        """Pass over the data of the element whose tag was read."""
        if self._small is not None:
            return
        left = size + -size % 8
        while left:
            left -= len(self._exactly(min(left, PIECE)))

    def _exactly(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        if len(data) < size:
            raise MatError("it ends within an array")
        return data


class _Inflated:
    """What a compressed element holds, inflated no further than it is read."""

    def __init__(self, stream: Any, size: int):
        self._stream, self._left = stream, size  # bytes of the element that were not taken yet
        self._inflate, self._ahead = zlib.decompressobj(), b""

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end.

        Raises:
            MatError: the compressed bytes are damaged.
        """
        found = bytearray()
        while len(found) < size and not self._inflate.eof:
            if not self._ahead:
                self._ahead = self._stream.read(min(PIECE, self._left))
                self._left -= len(self._ahead)
            taken = len(self._ahead)
            try:
                data = self._inflate.decompress(self._ahead, size - len(found))
            except zlib.error as error:
                raise MatError(f"a compressed array is damaged: {error}") from error
            self._ahead = self._inflate.unconsumed_tail
            if not taken and not data:
                break  # the file ends within it
            found += data
        return bytes(found)
