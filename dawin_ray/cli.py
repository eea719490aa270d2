"""The command `dawin-ray`. What is heavy is imported where it is used, so that help is instant."""

from __future__ import annotations

import io
import itertools
import sys
from contextlib import ExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import dawin_ray
from dawin_ray.errors import UserError
from dawin_ray.terminal import echo, friendly, show

if TYPE_CHECKING:
    from dawin_ray.config import Job
    from dawin_ray.job import ConsoleProgress
    from dawin_ray.report import Report

PEEKED = 64  # samples that plan --peek looks at, where no number is given

EXIT_DIFFERENT = 1  # what verify finds

EXIT_DRIFT = 3  # with --fail-on-drift; the rows are scored all the same

EXIT_DOUBT = 4  # with --fail-on-doubt, likewise

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


class Suite(StrEnum):
    """The suites of the demo."""

    shifts = "shifts"
    tasks = "tasks"


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
    out: Annotated[Path | None, typer.Option(help="Where a comparison goes, as JSON.")] = None,
    verbose: Verbose = False,
) -> None:
    """Make the reports of finished runs again from their Parquet files, and compare the runs."""
    with friendly(verbose):
        from dawin_ray.report import (
            compare_runs,
            comparison_json,
            comparison_lines,
            remake_reports,
        )
        from dawin_ray.runs import PAGE, RunDirectory
        from dawin_ray.storage import join

        runs = [RunDirectory.at(address) for address in run_dirs]
        for run in runs:
            echo(remake_reports(run.address, thumbnails))
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
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint as you have it.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    base: Annotated[
        str | None, typer.Option(help="The model that an adapter, or a tower alone, is over.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Which of several state dicts in the file, such as ema.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Take the tensors out of a pickled model, running none of it; rename; merge a LoRA adapter."""
    with friendly(verbose):
        from dawin_ray.models import convert_checkpoint

        found = convert_checkpoint(source, target, base=base, part=part)
        echo(f"{target}: {found.tensors} tensors, {found.bytes / 1e6:.1f} MB")
        if found.classes is not None:
            echo(f"head of {found.classes} classes")
        if found.architectures:
            echo(f"model.architecture: {' or '.join(found.architectures)}")


@app.command()
def calibrate(
    job_file: JobFile,
    overrides: Overrides = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="Of sample_id, label and dataset.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the data's own labels to use.")
    ] = None,
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
        found = calibration_of(prepared, few, say, labels=origin)
        found.write(out)
        for line in lines_of_calibration(found):
            echo(line)
        echo(f"written       {out}; a job applies it: coefficient: {{calibration: {out}}}")


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


@app.command()
def keys(
    name: Annotated[str, typer.Argument(help="Only this key and what is in it.")] = "",
) -> None:
    """Print every key of the job file: type, default and meaning."""
    with friendly(verbose=False):
        from dawin_ray.keys import matching, text_of

        for key in matching(name):
            echo(text_of(key))


@app.command()
def bench(  # noqa: PLR0913  # each is an option of the command
    architecture: Annotated[str, typer.Option(help="An open_clip name or config.")] = "ViT-B-32",
    experts: Annotated[int, typer.Option(min=2)] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    batch: Annotated[int, typer.Option(min=1)] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    images: Annotated[int, typer.Option(min=1, help="Images of the whole job.")] = 2_000,
    precisions: Annotated[str, typer.Option(help="Comma-separated.")] = "float32,bfloat16",
    sections: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "models,rank,data,mixture,job,saved,memory,scale",
    store: Annotated[
        str, typer.Option(help="Of scale: s3://bucket/folder at AWS_ENDPOINT_URL.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("runs/bench.json"),
    verbose: Verbose = False,
) -> None:
    """Measure what the method costs on this machine; every figure as a ratio."""
    with friendly(verbose):
        from dawin_ray.bench import BenchConfig, line_of, measure, write

        config = BenchConfig(
            architecture=architecture,
            experts=experts,
            device=device,
            batch=batch,
            rounds=rounds,
            images=images,
            precisions=tuple(precisions.split(",")),
            sections=tuple(sections.split(",")),
            store=store,
        )
        result = measure(config, lambda figure: echo(line_of(figure)))
        write(result, out)
        echo(f"machine  {result['machine']}\nwritten  {out}")


def main() -> None:
    """The entry point of the console command."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character is no reason to end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


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
