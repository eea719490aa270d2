"""The command `dawin-ray`. What is heavy is imported where it is used, so that help is instant."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dawin_ray.errors import UserError

EXIT_DIFFERENT = 1  # what verify finds
EXIT_USER_ERROR = 2
EXIT_DRIFT = 3  # with --fail-on-drift; the rows are scored all the same
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    help="Score image data sets with dynamically interpolated CLIP models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JobFile = Annotated[str, typer.Argument(help="The job file, local or at any fsspec address.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value, such as compute.batch_size=64")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more; show tracebacks.")]


@app.command()
def run(
    job_file: JobFile,
    overrides: Overrides = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete what the run directory holds of a run first.")
    ] = False,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit code 3 where data have left their fit.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run a job, or resume it. Exit code 0: every row is accounted for."""
    with _friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.report import alarms_of

        job = load_job(job_file, overrides or ())
        if fail_on_drift and job.saved_fit is None:
            raise UserError(
                "--fail-on-drift compares with the data of a saved fit, and this job has none. "
                "Give fit: {from: RUN, dataset: NAME}, or leave the option out."
            )
        report = _score(job, restart=restart)
        alarms = alarms_of(report)
        if fail_on_drift and alarms:
            typer.echo(
                f"Drift: {'; '.join(alarms)}. All rows are scored; see {report['run_dir']}.",
                err=True,
            )
            sys.exit(EXIT_DRIFT)


@app.command()
def verify(
    run_dir: Annotated[str, typer.Argument(help="A finished run.")],
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the samples to score again.")
    ] = 0.001,
    verbose: Verbose = False,
) -> None:
    """Recount and rehash a finished run, and score a part of it again. Exit code 1: it differs."""
    with _friendly(verbose):
        from dawin_ray.verify import verify as differences_of

        differences = differences_of(run_dir, sample)
        for difference in differences:
            typer.echo(difference)
        if differences:
            typer.echo(f"{run_dir}: {len(differences)} differences", err=True)
            sys.exit(EXIT_DIFFERENT)
        typer.echo(f"{run_dir} is what its manifest says.")


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
    with _friendly(verbose):
        from dawin_ray.compare import as_json, compare_runs, lines_of
        from dawin_ray.ours import PAGE
        from dawin_ray.remake import remake
        from dawin_ray.runs import RunDirectory
        from dawin_ray.storage import join

        runs = [RunDirectory.at(address) for address in run_dirs]
        for run in runs:
            typer.echo(remake(run.address, thumbnails))
            typer.echo(f"report  {join(run.address, PAGE)}")
        if len(runs) > 1:
            rows = compare_runs(runs)
            typer.echo(lines_of(rows, runs[0].address))
            if out is not None:
                out.write_text(as_json(rows))


@app.command()
def plan(job_file: JobFile, overrides: Overrides = None, verbose: Verbose = False) -> None:
    """Print what a run would do: shards, samples, forwards, bytes. No model scores anything."""
    with _friendly(verbose):
        from dawin_ray.batches import Series
        from dawin_ray.config import load_job
        from dawin_ray.plan import plan_of
        from dawin_ray.prepare import prepare

        # what would be said is part of the plan
        prepared = prepare(load_job(job_file, overrides or ()), say=lambda note: None)
        if prepared.job.mode == "append":
            new = Series(prepared.job.run_dir).unscored(prepared.sources)
            if not new:
                typer.echo(f"All files are scored in {prepared.job.run_dir}; nothing would run.")
                return
            prepared = prepared.only(new)
        console = _stdout()
        for part in plan_of(prepared):
            console.print(part, soft_wrap=isinstance(part, str))  # a long line is not broken


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where images and run go.")] = Path("runs/demo"),
    verbose: Verbose = False,
) -> None:
    """Run the whole job on the built-in data: handwritten digits and seven shifts of them."""
    with _friendly(verbose):
        from dawin_ray.config import load_job
        from dawin_ray.demo.job import write_job

        _score(load_job(str(write_job(out))))


@app.command()
def bench(
    architecture: Annotated[str, typer.Option(help="An open_clip name or config.")] = "ViT-B-32",
    experts: Annotated[int, typer.Option(min=2)] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    batch: Annotated[int, typer.Option(min=1)] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    images: Annotated[int, typer.Option(min=1, help="Images of the whole job.")] = 2_000,
    precisions: Annotated[str, typer.Option(help="Comma-separated.")] = "float32,bfloat16",
    sections: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "models,rank,data,mixture,job,saved,memory",
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("runs/bench.json"),
    verbose: Verbose = False,
) -> None:
    """Measure what the method costs on this machine; every figure as a ratio."""
    with _friendly(verbose):
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
        )
        result = measure(config, lambda figure: typer.echo(line_of(figure)))
        write(result, out)
        typer.echo(f"machine  {result['machine']}\nwritten  {out}")


def main() -> None:
    """The entry point of the console command."""
    app()


def _score(job, restart: bool = False) -> dict[str, Any]:
    from rich.console import Console

    from dawin_ray.prepare import prepare
    from dawin_ray.progress import ConsoleProgress
    from dawin_ray.report import footer_of, table_of
    from dawin_ray.scoring import score

    report = score(prepare(job), ConsoleProgress(Console(stderr=True)), restart=restart)
    console = _stdout()
    console.print(table_of(report))
    console.print(footer_of(report), highlight=False, soft_wrap=True)
    return report


def _stdout():
    from rich.console import Console

    console = Console()
    # a file or a pipe has no width; tables must not be cut to 80 columns there
    return console if console.is_terminal else Console(width=140)


@contextmanager
def _friendly(verbose: bool) -> Iterator[None]:
    """A person's mistake ends with its message and exit code 2; ours with a traceback."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        yield
    except UserError as error:
        if verbose:
            logging.exception("the run stopped")
        typer.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command resumes the run where it was.", err=True)
        sys.exit(EXIT_INTERRUPTED)
