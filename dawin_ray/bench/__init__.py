"""What the method costs on this machine: every figure as a ratio beside its absolute.

    models   one forward of one model, and what each mode costs against it; agreement of precisions
    rank     agreement of the exact mode with differences of limited rank, on the demo's experts
    data     decoding an image against reading its crop back
    mixture  the fit from 1e4 to 1e8 coefficients: time and memory
    job      the whole job on synthetic JPEGs against a plain loop that makes the same forwards
    saved    a saved fit applied in one pass, against the two passes that made it
    memory   peak memory of a job over few and over many images
    scale    what a job costs besides its models, with stubs in their place, at any size

`models` and `rank` need no Ray; the others run on a CPU. Compared things are timed in turn in
one process, so that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

SECTIONS = (
    "models", "rank", "data", "mixture", "job", "saved", "memory", "scale", "scale_stream",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured, and how often."""

    architecture: str = "ViT-B-32"
    experts: int = 2
    device: str = "auto"
    batch: int = 64
    rounds: int = 5
    images: int = 2_000  # of the job
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    sections: tuple[str, ...] = SECTIONS
    store: str = ""  # s3://bucket/folder for run directories of `scale`; "" is the disk alone


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value; `ratio` is to `against`, from the same run."""

    section: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""
    note: str = ""


def measure(
    config: BenchConfig, say: Callable[[Figure], None] = lambda figure: None
) -> dict[str, Any]:
    """Run the chosen sections; `say` hears of each figure as it is there."""
    figures: list[Figure] = []
    for section in config.sections:
        for figure in import_module(f"dawin_ray.bench.{section}").figures(config):
            figures.append(figure)
            say(figure)
    return {
        "machine": machine(config.device),
        "config": asdict(config),
        "figures": [asdict(figure) for figure in figures],
    }


def write(result: Mapping[str, Any], path: Path) -> None:
    """Write the result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def line_of(figure: Figure) -> str:
    """A figure as a line of text."""
    ratio = "" if figure.ratio is None else f"{figure.ratio:6.2f} x {figure.against}"
    note = f"  ({figure.note})" if figure.note else ""
    return (
        f"{figure.section:8} {figure.name:44} {figure.value:12,.4g} {figure.unit:10} {ratio}{note}"
    )


def chosen_device(device: str) -> str:
    """`auto` is the GPU where there is one."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine(device: str) -> dict[str, Any]:
    """The machine and the libraries, in words."""
    import torch

    cpu = next(
        (
            line.split(":")[1].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    used = chosen_device(device)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if used == "cuda" else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def interleaved(
    functions: Mapping[str, Callable[[], Any]], rounds: int, wait: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each function in each round; one round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            wait()
            begin = time.perf_counter()
            function()
            wait()
            if round_:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
