"""`python -m dawin_ray` is `dawin-ray`."""

from __future__ import annotations

from dawin_ray.cli import main

main()
