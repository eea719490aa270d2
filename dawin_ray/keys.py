"""What `dawin-ray keys` prints: every key of the job file, from the settings that read it."""

from __future__ import annotations

import difflib
import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dawin_ray.config import Job, models_in
from dawin_ray.errors import UserError

WIDTH = 100  # of a line

REQUIRED = "required"

BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}

WORDS: dict[Any, str] = {
    NoneType: "null", bool: "true | false", str: "text", int: "integer", float: "number",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the job file. `[]` in its name stands for any item of a list."""

    name: str
    kind: str
    default: str  # as YAML has it, or `REQUIRED`; of a section nothing
    meaning: str


def keys_of(model: type[BaseModel] = Job, prefix: str = "") -> list[Key]:
    """All keys, a section before what is in it. A section that is there twice is told once."""
    return list(_keys_of(model, prefix, {}))


def matching(name: str) -> list[Key]:
    """The key of a name and what is in it; all keys where the name is empty.

    Raises:
        UserError: there is none.
    """
    keys = keys_of()
    found = [key for key in keys if not name or _within(_plain(key.name), _plain(name))]
    if not found:
        near = difflib.get_close_matches(_plain(name), [_plain(key.name) for key in keys], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"The job file has no key {name!r}.{hint} All: dawin-ray keys")
    return found


def text_of(key: Key) -> str:
    """A key in a few lines: name, type, default; then what it means."""
    default = f"default {key.default}" if key.default not in ("", REQUIRED) else key.default
    meaning = textwrap.fill(
        key.meaning, WIDTH, initial_indent="    ", subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    first = ", ".join(filter(None, [f"{key.name}: {key.kind}", default]))
    return "\n".join(filter(None, [first, meaning]))


def _keys_of(
    model: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str]
) -> Iterator[Key]:
    model.model_rebuild()  # a type that its module defines further down
    for field_name, field in model.model_fields.items():
        name = f"{prefix}{field.alias or field_name}"
        sections = models_in(field.annotation)
        yield Key(
            name=name,
            kind=_kind(field.annotation, field.metadata),
            default=_default(field),
            meaning=_meaning(field, sections, seen),
        )
        for section in sections:
            if section not in seen:
                seen[section] = name
                inner = f"{name}[]." if _is_list(field.annotation) else f"{name}."
                yield from _keys_of(section, inner, seen)


def _meaning(
    field: FieldInfo, sections: list[type[BaseModel]], seen: dict[type[BaseModel], str]
) -> str:
    """What stands below the key, and of a section its docstring."""
    texts = [
        f"Keys as of {seen[section]}." if section in seen else inspect.getdoc(section)
        for section in sections
    ]
    return " ".join(" ".join(text.split()) for text in (field.description, *texts) if text)


def _kind(annotation: Any, metadata: typing.Iterable[Any] = ()) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(inner[0], [m for part in inner[1:] for m in getattr(part, "metadata", [part])])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, UnionType):
        return " | ".join(_kind(part, metadata) for part in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return WORDS.get(annotation, "mapping") + _bounds(annotation, metadata)


def _bounds(annotation: Any, metadata: typing.Iterable[Any]) -> str:
    if annotation not in (int, float):
        return ""
    return "".join(
        f" {word} {getattr(bound, name):g}"
        for bound in metadata
        for name, word in BOUNDS.items()
        if hasattr(bound, name)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""  # its keys tell theirs
    if isinstance(value, tuple):
        value = list(value)
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple


def _plain(name: str) -> str:
    return name.replace("[]", "")


def _within(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")
