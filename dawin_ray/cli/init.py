"""The newcomer's first command: a job file from data and checkpoints."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from dawin_ray.cli.app import EXIT_UNFINISHED, Verbose, app
from dawin_ray.terminal import echo, friendly


@app.command()
def init(  # noqa: PLR0913  # each is an option of the command
    data: Annotated[
        list[str], typer.Argument(help="Where data sets lie: folders, files, fsspec addresses.")
    ],
    experts: Annotated[
        list[str], typer.Option(help="A checkpoint or pretrained tag; give two or more.")
    ],
    architecture: Annotated[
        str | None, typer.Option(help="An open_clip name or config, where shapes do not tell.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="What the experts were fine-tuned from, for task vectors.")
    ] = None,
    out: Annotated[
        str, typer.Option(help="The job file to write; a .png goes beside.")
    ] = "job.yaml",
    run_dir: Annotated[str | None, typer.Option(help="Of the job; runs/NAME of the data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that exist.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write a job file for data and checkpoints, with doubts, and a sheet of images with labels.

    Exit code 6: something is left to do before it runs, which is said.
    """
    with friendly(verbose):
        from dawin_ray.drafts import Asked, draft_job

        draft = draft_job(
            Asked(
                data=data,
                experts=experts,
                architecture=architecture,
                base=base,
                out=out,
                run_dir=run_dir,
                over=force,
            )
        )
        draft.write()
        for line in draft.found:
            echo(f"found     {line}")
        for line in draft.doubts:
            echo(f"doubt     {line}")
        for line in draft.to_do:
            echo(f"to do     {line}")
        echo(f"written   {', '.join(draft.files)}")
        echo(f"next      dawin-ray plan {shlex.quote(out)}")
        if draft.to_do:
            sys.exit(EXIT_UNFINISHED)
