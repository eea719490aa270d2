"""`python -m dawin_ray` is `dawin-ray`."""

from dawin_ray.cli import main

main()
