"""What is written as JSON and read again: frozen dataclasses, each with a version.

A record's class says `VERSION`; its file has it beside the fields. One that is newer than this
program is refused, as its words may mean something else. A field whose key Python has taken has an
alias: `origin: Annotated[str, Field(alias="from")]`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from dawin_ray.errors import UserError

TEXTS_AT_ONCE = 1 << 12


class Record(Protocol):
    """A frozen dataclass of plain fields and of other such dataclasses."""

    VERSION: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON has it, with its version."""
    values = _adapter(type(record)).dump_python(record, by_alias=True)
    return {"version": record.VERSION, **values}


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
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise _damaged(address, str(error)) from error
    return of_json(kind, values, address)


def of_json(kind: type[R], values: dict[str, Any], address: str) -> R:
    """The record that `to_json` made values of. Raises as `read_record`."""
    values = dict(values)
    take_version(values, kind.VERSION, address)
    try:
        record: R = _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise _damaged(address, f"{place}: {first['msg']}") from error
    return record


def take_version(values: dict[str, Any], newest: int, address: str) -> None:
    """Take the version out of what a file holds; files of the first days have none.

    Raises:
        UserError: it is newer than `newest`.
    """
    version = values.pop("version", 0)
    if not isinstance(version, int) or version > newest:
        raise UserError(
            f"{address!r} has version {version}, and this program reads versions up to {newest}: "
            "a newer dawin_ray wrote it. Use that one."
        )


def digest(value: Any) -> str:
    """sha256 of a value of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """`digest` of a list of these texts, of which there may be many: it is never made."""
    found, some = hashlib.sha256(b"["), iter(texts)
    between = b""
    while block := list(itertools.islice(some, TEXTS_AT_ONCE)):
        found.update(between + json.dumps(block)[1:-1].encode())
        between = b", "
    found.update(b"]")
    return found.hexdigest()


@cache
def _adapter(kind: type[R]) -> TypeAdapter[R]:
    return TypeAdapter(kind)


def _damaged(address: str, why: str) -> UserError:
    return UserError(
        f"{address!r} is damaged: {why}. Restore it from a copy, or start its run anew with "
        "--restart."
    )
