"""The base of every settings class; each stands beside the code that it configures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

FILL_IN = "FILL IN: "  # begins a value that `dawin-ray init` could not find out


class Settings(BaseModel):
    """Frozen, and strict about its keys: an unknown one is refused, never ignored.

    The docstring below a key is what `dawin-ray keys` says of it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )


def to_fill_in(values: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """What is left to be filled in among plain values: the key, and what belongs there."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from to_fill_in(value, f"{where}.{key}" if where else str(key))
    elif isinstance(values, list):
        for i, value in enumerate(values):
            yield from to_fill_in(value, f"{where}.{i}")
    elif isinstance(values, str) and values.startswith(FILL_IN):
        yield where, values.removeprefix(FILL_IN)
