"""PyTorch's files: a zip archive or the older one of pickles in a row, each with bytes of storages.

Layouts after torch.serialization (`_save`, `_legacy_save` of torch 2.14). Storages are copied by
nobody: a tensor is a view of the file's bytes, which must hold all that it reaches, so that a
tensor of huge shape and stride 0 is refused and not filled in.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any, TypeGuard

import torch

from dawin_ray.errors import UserError
from dawin_ray.models.convert.allowed import (
    DTYPES,
    PARAMETERS,
    STORAGES,
    TENSORS,
    WITH_ATTRIBUTES,
    Name,
)
from dawin_ray.models.convert.program import Made, Program, ProgramError, Storage

ZIP = b"PK\x03\x04"

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001  # torch.serialization, legacy files

COUNT = struct.Struct("<q")  # of elements, before the bytes of each storage in a legacy file

SHOWN_NAMES = 12  # in a message

TENSOR_ARGUMENTS = 4  # storage, offset, size, stride

MAX_SIZE = 2**40  # of one dimension, offset or stride, and of an empty tensor's other dimensions

# what a damaged archive makes of zipfile, and ours
FAULTS = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error)


class Archive:
    """What a file's pickle describes, and the tensors that stand in it."""

    def __init__(self, data: bytes, address: str):
        """Read the pickle; no name in it is looked up.

        Raises:
            UserError: it names what is not allowed, is a raw pickle, or is damaged.
        """
        self.address = address
        self._storages: dict[str, memoryview] = {}
        self._views: dict[int, torch.Tensor] = {}  # by the record, which the content keeps alive
        program = Program()
        try:
            self.content = (self._zip if data.startswith(ZIP) else self._legacy)(data, program)
        except FAULTS as error:
            self._check(program)
            raise self._error(str(error)) from error
        self._check(program)

    def tensor(self, made: Any, depth: int = 4) -> torch.Tensor | None:
        """The tensor that a record stands for, as a view of the file; None where it is none.

        A parameter is the tensor in it, and a subclass of tensors is its tensor without attributes.

        Raises:
            UserError: the file does not hold all of its values.
        """
        if type(made) is not Made or not depth:
            return None
        name, arguments = str(made.what), made.arguments
        if name in PARAMETERS:
            return self.tensor(arguments[0], depth - 1) if arguments else None
        if name == WITH_ATTRIBUTES:  # a function, the tensor's class, the function's arguments
            function, _, within, *_ = (*arguments, None, None, None)
            if type(function) is not Name or type(within) is not tuple:
                raise self._error("a tensor in it is incomplete")
            name, arguments = str(function), within
            if name in PARAMETERS:
                return self.tensor(arguments[0], depth - 1) if arguments else None
        if name not in TENSORS:
            return None
        if id(made) not in self._views:
            self._views[id(made)] = self._view(name, arguments)
        return self._views[id(made)]

    def bytes_of_storages(self) -> int:
        """How many bytes all storages of the file have."""
        return sum(map(len, self._storages.values()))

    def _view(self, name: str, arguments: tuple[Any, ...]) -> torch.Tensor:
        if len(arguments) < TENSOR_ARGUMENTS or type(arguments[0]) is not Storage:
            raise self._error("a tensor in it has no storage")
        storage, offset, size, stride = arguments[:TENSOR_ARGUMENTS]
        dtype = self._dtype(name, storage, arguments)
        size, stride = _plain(size), _plain(stride)
        if not (_counts(size) and _counts(stride) and _counts((offset,))) or (
            len(size) != len(stride)
        ):
            raise self._error("a tensor in it has no shape")
        data = self._bytes(storage)
        held, count = len(data) // dtype.itemsize, math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and (count > held or last >= held):
            raise self._error(
                f"a tensor of shape {list(size)} and strides {list(stride)} needs more than the "
                f"{held} values of its storage"
            )
        if not count and math.prod(max(n, 1) for n in size) >= MAX_SIZE:
            raise self._error(f"a tensor in it has the shape {list(size)}")
        if not count:
            return torch.empty(size, dtype=dtype)
        return torch.frombuffer(data, dtype=dtype, count=held).as_strided(size, stride, offset)

    def _dtype(self, name: str, storage: Storage, arguments: tuple[Any, ...]) -> torch.dtype:
        after = arguments[TENSOR_ARGUMENTS + 2 :]  # requires_grad and hooks
        if name.endswith("_v2") and any(after):
            raise self._error("a tensor in it is stored negated or conjugated")
        found = STORAGES.get(str(storage.type))
        if name.endswith("_v3"):  # of types that have no storage class of their own
            found = DTYPES.get(str(after[0])) if after else None
        if found is None:
            raise self._error(f"a tensor in it has values of the type {storage.type}")
        return found

    def _bytes(self, storage: Storage) -> memoryview:
        data, dtype = self._storages.get(storage.key), STORAGES.get(str(storage.type))
        if data is None or dtype is None:
            raise self._error(f"the storage {storage.key!r} is missing")
        if storage.count * dtype.itemsize != len(data):
            raise self._error(
                f"the storage {storage.key!r} has {len(data)} bytes, and should have "
                f"{storage.count} values of {storage.type}"
            )
        return data

    def _zip(self, data: bytes, program: Program) -> Any:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            pickles = [m.filename for m in members if re.fullmatch(r"[^/]+/data\.pkl", m.filename)]
            if len(pickles) != 1:
                raise ProgramError("it is a zip archive, but none that torch.save wrote")
            folder = pickles[0].removesuffix("data.pkl")
            if len({m.filename for m in members}) != len(members):
                raise ProgramError("it has two members of one name")
            # torch.save compresses nothing, so nothing here is larger than the file
            if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
                raise ProgramError("its members are compressed or encrypted")
            if sum(m.file_size for m in members) > len(data):
                raise ProgramError("its members overlap")
            order = f"{folder}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ProgramError("its values are in the order of bytes of another machine")
            content = program.run(io.BytesIO(archive.read(pickles[0])))
            self._check(program)
            for member in members:
                if member.filename.startswith(f"{folder}data/"):
                    key = member.filename.removeprefix(f"{folder}data/")
                    self._storages[key] = memoryview(bytearray(archive.read(member)))
        return content

    def _legacy(self, data: bytes, program: Program) -> Any:
        stream = io.BytesIO(data)
        number = _try(lambda: program.run(stream))
        if type(number) is not int or number != MAGIC_NUMBER:
            raise ProgramError("it is no file of torch.save: a raw pickle, or damaged")
        version, system = program.run(stream), program.run(stream)
        if version != PROTOCOL_VERSION or type(system) is not dict:
            raise ProgramError("it is of another version of torch.save")
        if system.get("little_endian") is not True:
            raise ProgramError("its values are in the order of bytes of another machine")
        content = program.run(stream)
        keys = program.run(stream)
        self._check(program)
        types = _storages(content)
        if type(keys) is not list or not all(type(key) is str and key in types for key in keys):
            raise ProgramError("its list of storages is not that of its tensors")
        for key in keys:
            prefix = stream.read(COUNT.size)
            count = COUNT.unpack(prefix)[0] if len(prefix) == COUNT.size else -1
            length = count * types[key].itemsize
            if not 0 <= length <= len(data) - stream.tell():
                raise ProgramError(f"the storage {key!r} is cut")
            self._storages[key] = memoryview(bytearray(stream.read(length)))
        return content

    def _check(self, program: Program) -> None:
        if not program.foreign:
            return
        names = [name if name.isprintable() else repr(name) for name in program.foreign]
        names = names[:SHOWN_NAMES]
        more = len(program.foreign) - len(names)
        raise UserError(
            f"The checkpoint {self.address!r} is refused, and nothing in it was run: its pickle "
            f"asks for {', '.join(names)}{f' and {more} more names' if more else ''}. Only modules "
            "of torch.nn, torchvision.transforms, open_clip and modeling, and tensors, are read. "
            "Where you trust the file, load it yourself and save model.state_dict() with "
            "safetensors.torch.save_file."
        )

    def _error(self, reason: str) -> UserError:
        return UserError(
            f"The checkpoint {self.address!r} cannot be read without running it: {reason}. Copy or "
            "download it again; or, where you trust it, load it yourself and save "
            "model.state_dict() with safetensors.torch.save_file."
        )


def _try(read: Callable[[], Any]) -> Any:
    """What is read, or None of what is no pickle at all."""
    try:
        return read()
    except ProgramError:
        return None


def _plain(size: Any) -> Any:
    """A shape, also where it is a torch.Size."""
    if type(size) is Made and str(size.what) == "torch.Size" and size.arguments:
        size = size.arguments[0]
    return tuple(size) if type(size) in (tuple, list) else None


def _counts(values: Any) -> TypeGuard[tuple[int, ...]]:
    return type(values) is tuple and all(type(v) is int and 0 <= v < MAX_SIZE for v in values)


def _storages(content: Any) -> dict[str, torch.dtype]:
    """The element types of all storages in a legacy file, by key."""
    found: dict[str, torch.dtype] = {}
    seen: set[int] = set()
    todo = [content]
    while todo:
        item = todo.pop()
        if type(item) is Storage:
            dtype = STORAGES.get(str(item.type))
            if dtype is None or found.setdefault(item.key, dtype) != dtype:
                raise ProgramError(f"the storage {item.key!r} has no one type")
        elif type(item) in (dict, list, tuple, Made) and id(item) not in seen:
            seen.add(id(item))
            if type(item) is Made:
                todo += [item.arguments, item.state]
            else:
                todo += item.values() if type(item) is dict else item
    return found
