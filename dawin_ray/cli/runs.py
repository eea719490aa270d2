"""What begins with a finished run: is it whole, what does it say, show it."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from dawin_ray.cli.app import EXIT_DIFFERENT, Verbose, app
from dawin_ray.errors import UserError
from dawin_ray.terminal import echo, friendly


@app.command()
def verify(
    run_dir: Annotated[str, typer.Argument(help="A finished run.")],
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the samples to score again.")
    ] = 0.001,
    verbose: Verbose = False,
) -> None:
    """Recount and rehash a finished run, and score a part of it again. Exit code 1: it differs."""
    with friendly(verbose):
        from dawin_ray.job import verify as differences_of

        differences = differences_of(run_dir, sample)
        for difference in differences:
            echo(difference)
        if differences:
            echo(f"{run_dir}: {len(differences)} differences", err=True)
            sys.exit(EXIT_DIFFERENT)
        echo(f"{run_dir} is what its manifest says.")


@app.command()
def report(
    run_dirs: Annotated[list[str], typer.Argument(help="Finished runs; the first is the base.")],
    thumbnails: Annotated[
        int, typer.Option(min=0, help="Example images of each cluster and outcome in the page.")
    ] = 0,
    incumbent: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Say whether to replace this expert or baseline, in place of the job's incumbent.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where a comparison goes, as JSON.")] = None,
    verbose: Verbose = False,
) -> None:
    """Make the reports of finished runs again from their Parquet files, and compare the runs."""
    with friendly(verbose):
        from dawin_ray.report import (
            check_incumbent,
            compare_runs,
            comparison_json,
            comparison_lines,
            remake_reports,
        )
        from dawin_ray.runs import PAGE, RunDirectory
        from dawin_ray.storage import join

        runs = [RunDirectory.at(address) for address in run_dirs]
        for run in runs if incumbent is not None else ():
            check_incumbent(run.address, str(incumbent))  # all of them, before one is written
        for run in runs:
            echo(remake_reports(run.address, thumbnails, incumbent))
            echo(f"report  {join(run.address, PAGE)}")
        if len(runs) > 1:
            rows = compare_runs(runs)
            echo(comparison_lines(rows, runs[0].address))
            if out is not None:
                out.write_text(comparison_json(rows))


@app.command()
def view(
    run_dirs: Annotated[list[str], typer.Argument(help="Finished runs.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Show finished runs in a browser on this machine: filters, images, SQL, exports. Read-only."""
    with friendly(verbose), suppress(KeyboardInterrupt):  # the way to end it
        try:
            from dawin_ray.view import serve
        except ModuleNotFoundError as error:
            raise UserError(
                f"dawin-ray view wants {error.name}, which is not installed: "
                "pip install 'dawin_ray[view]'."
            ) from error
        serve(run_dirs, port, echo)
