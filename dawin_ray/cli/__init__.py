"""The command `dawin-ray`. What is heavy is imported where it is used, so that help is instant."""

from dawin_ray.cli import init, jobs, runs, tools  # noqa: F401  # each brings its commands
from dawin_ray.cli.app import (
    EXIT_DIFFERENT, EXIT_DOUBT, EXIT_DRIFT, EXIT_UNFINISHED, app, main,
)  # fmt: skip

__all__ = ["EXIT_DIFFERENT", "EXIT_DOUBT", "EXIT_DRIFT", "EXIT_UNFINISHED", "app", "main"]
