"""open_clip, imported when something of it is first used.

It takes three seconds, most of them torchvision's and timm's. Whoever lists files, reads a report
or starts a worker that builds no model does not wait for them: `clip.list_models()` imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """What open_clip has under this name (PEP 562)."""
    return getattr(import_module("open_clip"), name)
