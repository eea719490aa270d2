"""What needs neither job nor run: checkpoints, the keys of a job file, what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dawin_ray.cli.app import Verbose, app
from dawin_ray.terminal import echo, friendly


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
