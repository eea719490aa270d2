"""The modes that are compared."""

from __future__ import annotations

from typing import Literal

# An expert alone, one model merged for all samples, one for each cluster, each sample's own.
Mode = Literal["plain", "static", "clustered", "exact"]

MODES: tuple[Mode, ...] = ("plain", "static", "clustered", "exact")  # by price
