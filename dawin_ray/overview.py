"""report.html of a run directory that grows: its batches side by side."""

from __future__ import annotations

from dawin_ray.batches import Series


def write_overview(series: Series) -> None:
    """x."""
