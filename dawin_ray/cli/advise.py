"""Try a job on few samples: what each mode would cost and gain, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dawin_ray.cli.app import JobFile, Overrides, Verbose, app
from dawin_ray.terminal import echo, friendly, show


@app.command()
def advise(
    job_file: JobFile,
    overrides: Overrides = None,
    out: Annotated[
        str, typer.Option(metavar="FILE.yaml", help="Write the job that does it; never over one.")
    ] = "",
    json_file: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write all figures, as JSON.")
    ] = "",
    samples: Annotated[
        int | None, typer.Option(min=1, help="To try; 1 %, at least 500 and at most 20,000.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Try a job on 1 % of its samples: what each mode would cost here and gain; one is advised."""
    with friendly(verbose):
        from dawin_ray.advice import advise as advice_of
        from dawin_ray.advice import check_free, fit_address, parts_of, write_job
        from dawin_ray.config import read_values
        from dawin_ray.job import ConsoleProgress
        from dawin_ray.records import write_record

        values = read_values(job_file, overrides or ())
        asked = [out, fit_address(out)] if out else []
        check_free(*asked, *([json_file] if json_file else []))
        advised = advice_of(values, ConsoleProgress().say, samples)
        show(*parts_of(advised.advice))
        if json_file:
            Path(json_file).write_bytes(write_record(advised.advice))
            echo(f"written   {json_file}")
        if out:
            written = write_job(advised, job_file, values, out)
            echo(f"written   {', '.join(written)}; dawin-ray run {out}")
        else:
            echo("          --out advised.yaml writes the job that does it")
