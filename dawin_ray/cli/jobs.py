"""What begins with a job file: run it, say what it would do, calibrate it; and the demo's."""

from __future__ import annotations

import itertools
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from dawin_ray.cli.app import EXIT_DOUBT, EXIT_DRIFT, JobFile, Overrides, Verbose, app
from dawin_ray.errors import UserError
from dawin_ray.terminal import echo, friendly, show

if TYPE_CHECKING:
    from dawin_ray.config import Job
    from dawin_ray.job import ConsoleProgress
    from dawin_ray.report import Report

PEEKED = 64  # samples that plan --peek looks at, where no number is given

CALIBRATION_LEVEL = 0.8  # as dawin_ray.job.LEVEL, whose import takes seconds


@app.command()
def run(  # noqa: PLR0913  # each is an option of the command
    job_file: JobFile,
    overrides: Overrides = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete what the run directory holds of a run first.")
    ] = False,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit code 3 where data have left their fit.")
    ] = False,
    fail_on_doubt: Annotated[
        bool,
        typer.Option("--fail-on-doubt", help="Exit code 4 where the input looks wrong."),
    ] = False,
    log_json: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Add what the run does to FILE, an event a line of JSON: phase, rows, rejects, "
            "images/s, time left. - is standard output; tables go to standard error then.",
        ),
    ] = "",
    verbose: Verbose = False,
) -> None:
    """Run a job, or resume it. Exit code 0: every row is accounted for."""
    with friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.report import alarms_of

        job = load_job(job_file, overrides or ())
        if fail_on_drift and job.saved_fit is None:
            raise UserError(
                "--fail-on-drift compares with the data of a saved fit, and this job has none. "
                "Give fit: {from: RUN, dataset: NAME}, or leave the option out."
            )
        report = _score(job, restart=restart, log=log_json)
        alarms = alarms_of(report)
        if fail_on_drift and alarms:
            echo(
                f"Drift: {'; '.join(alarms)}. All rows are scored; see {report.run_dir}.",
                err=True,
            )
            sys.exit(EXIT_DRIFT)
        if fail_on_doubt and report.doubts:
            kinds = ", ".join(dict.fromkeys(doubt.kind for doubt in report.doubts))
            echo(
                f"Doubt: {kinds}. All rows are scored; see {report.run_dir}.",
                err=True,
            )
            sys.exit(EXIT_DOUBT)


class _Peeking(TyperCommand):
    """A command whose --peek may stand without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, with PEEKED behind a bare --peek."""
        whole = []
        for arg, following in itertools.pairwise([*args, ""]):
            whole.append(arg)
            if arg == "--peek" and not following.isdecimal():
                whole.append(str(PEEKED))
        return super().parse_args(ctx, whole)


@app.command(cls=_Peeking)
def plan(
    job_file: JobFile,
    overrides: Overrides = None,
    peek: Annotated[
        int,
        typer.Option(
            min=0, help=f"Decode the first N samples of each data set ({PEEKED} without a number)."
        ),
    ] = 0,
    verbose: Verbose = False,
) -> None:
    """Print what a run would do: shards, samples, forwards, bytes. No model scores anything."""
    with friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.job import peek_of, plan_of, prepare
        from dawin_ray.runs import Series

        # what would be said of the data is part of the plan
        prepared = prepare(
            load_job(job_file, overrides or ()), say=lambda note: None, progress=_progress().say
        )
        if prepared.job.mode == "append":
            new = Series(prepared.job.run_dir).unscored(prepared.sources)
            if not new:
                echo(f"All files are scored in {prepared.job.run_dir}; nothing would run.")
                return
            prepared = prepared.only(new)
        show(*plan_of(prepared), *(peek_of(prepared, peek) if peek else []))


@app.command()
def calibrate(  # noqa: PLR0913  # each is an option of the command
    job_file: JobFile,
    overrides: Overrides = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="Of sample_id, label and dataset.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the data's own labels to use.")
    ] = None,
    level: Annotated[
        float,
        typer.Option(min=0, max=0.999, help="Of the gain's interval, which is to be above 0."),
    ] = CALIBRATION_LEVEL,
    temperatures: Annotated[bool, typer.Option(help="Fit them, or keep the job's own.")] = True,
    out: Annotated[str, typer.Option(help="The file to write.")] = "calibration.json",
    verbose: Verbose = False,
) -> None:
    """Make temperatures and log odds of a few labels, for coefficient: {calibration: FILE}."""
    with friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.job import calibrate as calibration_of
        from dawin_ray.job import (
            labelled_by_file,
            labelled_by_share,
            lines_of_calibration,
            prepare,
            without_calibration,
        )

        if (labels is None) == (fraction is None):
            raise UserError("Give the labels: either --labels FILE.csv or --fraction 0.02.")
        say = _progress().say
        job = without_calibration(load_job(job_file, overrides or ()))
        prepared = prepare(job, say=say, progress=say)
        if labels is not None:
            few, origin = labelled_by_file(prepared, labels, say), labels
        else:
            few = labelled_by_share(prepared, fraction or 0.0, say)
            origin = f"{100 * (fraction or 0.0):g} % of the data's own labels"
        found = calibration_of(
            prepared, few, say, labels=origin, level=level, temperatures=temperatures
        )
        found.write(out)
        for line in lines_of_calibration(found):
            echo(line)
        echo(f"written       {out}; a job applies it: coefficient: {{calibration: {out}}}")


class Suite(StrEnum):
    """The suites of the demo."""

    shifts = "shifts"
    tasks = "tasks"


@app.command()
def demo(
    suite: Annotated[
        Suite,
        typer.Option(help="Shifts of handwritten digits, or eight tasks with an expert each."),
    ] = Suite.shifts,
    out: Annotated[
        Path | None, typer.Option(help="Where images and run go; runs/demo or runs/tasks.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Run the whole job on the built-in data and experts."""
    with friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.demo.job import write_job, write_tasks_job

        write, folder = {
            Suite.shifts: (write_job, Path("runs/demo")),
            Suite.tasks: (write_tasks_job, Path("runs/tasks")),
        }[suite]
        _score(load_job(str(write(out or folder))))


def _score(job: Job, restart: bool = False, log: str = "") -> Report:
    """A run, which is told to `log` too, if that is given: a file, or - for standard output."""
    from dawin_ray.job import STDOUT, Metered, json_log, metered, prepare, score
    from dawin_ray.report import footer_of, tables_of

    with ExitStack() as stack:
        sinks = [stack.enter_context(json_log(log))] if log else []
        meter = stack.enter_context(metered(job.run_dir, sinks))
        progress = _progress()
        say = Metered(progress, meter).say
        report = score(prepare(job, say, say), progress, restart=restart, meter=meter)
    show(*tables_of(report), footer_of(report), err=log == STDOUT)
    return report


def _progress() -> ConsoleProgress:
    from dawin_ray.job import ConsoleProgress

    return ConsoleProgress()
