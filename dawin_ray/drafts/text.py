"""The job file as text: each key with a comment that says whence its value came.

Names are whatever data bring, so a value is quoted unless every reader of YAML takes it for the
same text, and a comment has nothing in it that would end its line.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dawin_ray.names import escaped

WIDTH = 100  # of a line of comment

# Texts that need no quotes in any version of YAML: words and paths, and addresses.
PLAIN = re.compile(r"(\.{0,2}/)*[A-Za-z][A-Za-z0-9_./+-]*(://[A-Za-z0-9_./+-]+)?")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the job file, its value (or keys, or items that have some), and why it has that.

    Without a name it is a comment and no more.
    """

    name: str = ""
    value: Any = None
    why: str = ""


def scalar(value: Any) -> str:
    """A value as it stands in a line, so that it is read as what it is.

    >>> [scalar(text) for text in ("cats", "no", "007", "1e5", "a\\nb")]
    ['cats', '"no"', '"007"', '"1e5"', '"a\\\\nb"']
    """
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and value.lower() not in "yn" and yaml.safe_load(value) == value:
            return value
        text: str = yaml.safe_dump(value, default_style='"', width=float("inf"))
        return text.rstrip("\n")
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {scalar(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip("\n")


def text_of(head: Sequence[str], keys: Sequence[Key]) -> str:
    """The whole file; `head` are sentences above it."""
    lines = [line for sentence in head for line in comment(sentence, "")]
    return "\n".join([*lines, "", *_lines(keys, "")]) + "\n"


def comment(text: str, indent: str) -> list[str]:
    """A sentence as lines of comment."""
    begin = f"{indent}# "
    if not text:
        return [begin.rstrip()]
    return textwrap.wrap(
        " ".join(map(escaped, text.split(" "))), WIDTH,
        initial_indent=begin, subsequent_indent=begin,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _lines(keys: Sequence[Key], indent: str) -> Iterator[str]:
    for key in keys:
        if key.why:
            yield from comment(key.why, indent)
        if not key.name:
            continue
        if isinstance(key.value, list) and key.value and isinstance(key.value[0], Key):
            yield f"{indent}{key.name}:"
            yield from _lines(key.value, f"{indent}  ")
        elif isinstance(key.value, list):
            yield f"{indent}{key.name}:"
            for item in key.value:
                yield from _item(item, f"{indent}  ")
        else:
            yield f"{indent}{key.name}: {scalar(key.value)}"


def _item(keys: Sequence[Key], indent: str) -> Iterator[str]:
    """An item of a list, whose first key stands behind the dash, below its comment."""
    first, *others = keys
    if first.why:
        yield from comment(first.why, indent)
    yield f"{indent}- {first.name}: {scalar(first.value)}"
    yield from _lines(others, f"{indent}  ")
