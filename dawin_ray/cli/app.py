"""The application, what its commands share, and its entry point."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import dawin_ray

EXIT_DIFFERENT = 1  # what verify finds

EXIT_DRIFT = 3  # with --fail-on-drift; the rows are scored all the same

EXIT_DOUBT = 4  # with --fail-on-doubt, likewise

EXIT_UNFINISHED = 6  # of init: the job file is written, and something is to be done before it runs

app = typer.Typer(
    help="Score image data sets with dynamically interpolated CLIP models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JobFile = Annotated[str, typer.Argument(help="The job file, local or at any fsspec address.")]

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, such as compute.batch_size=64")
]

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more; show tracebacks.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dawin-ray {dawin_ray.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit."),
    ] = False,
) -> None:
    """Score image data sets with dynamically interpolated CLIP models."""


def main() -> None:
    """The entry point of the console command."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character is no reason to end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
