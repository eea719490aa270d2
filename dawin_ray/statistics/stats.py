"""scipy.stats, imported when something of it is first used.

It holds some 50 MB, which nobody needs who only plans a job or reads a shard.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """What scipy.stats has under this name (PEP 562)."""
    return getattr(import_module("scipy.stats"), name)
