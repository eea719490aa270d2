"""The base of every settings class; each stands beside the code that it configures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, and strict about its keys: an unknown one is refused, never ignored.

    The docstring below a key is what `dawin-ray keys` says of it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )
