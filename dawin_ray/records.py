"""What is written as JSON and read again: frozen dataclasses, each with a version.

A record's class says `VERSION`; its file has it beside the fields. One that is newer than this
program is refused, as its words may mean something else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from dawin_ray.errors import UserError


class Record(Protocol):
    """A frozen dataclass of plain fields and of other such dataclasses."""

    VERSION: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON has it, with its version."""
    return {"version": record.VERSION, **dataclasses.asdict(record)}


def write_record(record: Record) -> bytes:
    """A file's content."""
    return json.dumps(to_json(record), indent=1).encode()


def read_record(kind: type[R], content: bytes, address: str) -> R:
    """The record that `write_record` made a content of; `address` is for errors.

    Raises:
        UserError: it is damaged, lacks something, or is of a newer version.
    """
    try:
        values = json.loads(content)
        version = values.pop("version", 0)
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(address, str(error)) from error
    if not isinstance(version, int) or version > kind.VERSION:
        raise UserError(
            f"{address!r} has version {version}, and this program reads versions up to "
            f"{kind.VERSION}: a newer dawin_ray wrote it. Use that one."
        )
    try:
        record: R = _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise _damaged(address, f"{place}: {first['msg']}") from error
    return record


def digest(value: Any) -> str:
    """sha256 of a value of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _adapter(kind: type[R]) -> TypeAdapter[R]:
    return TypeAdapter(kind)


def _damaged(address: str, why: str) -> UserError:
    return UserError(
        f"{address!r} is damaged: {why}. Restore it from a copy, or start its run anew with "
        "--restart."
    )
