"""A saved fit applied in one pass, against the two passes that made it, on the same images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dawin_ray.bench import BenchConfig, Figure, median_ratio
from dawin_ray.bench.job import CHUNK, SIDE, Quiet, job_of, write_experts, write_images
from dawin_ray.bench.models import CLUSTERS, make_experts
from dawin_ray.config import Job
from dawin_ray.job import prepare, score
from dawin_ray.runs import RunDirectory

ROUNDS = 2  # of both in turn, so that a slow minute of the machine shows


def figures(config: BenchConfig) -> Iterator[Figure]:
    """Images a second of both, whole and in the models alone, and whether they predict the same."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images", config.images, SIDE)
        paths = write_experts(folder / "experts", make_experts(config))
        compute = {
            "precision": config.precisions[0], "batch_size": config.batch, "chunk_size": CHUNK
        }  # fmt: skip
        common: dict[str, Any] = {"mixture": {"clusters": CLUSTERS}, "compute": compute}
        walls: dict[str, list[float]] = {"two passes": [], "one pass": []}
        models: dict[str, list[float]] = {"two passes": [], "one pass": []}
        for turn in range(ROUNDS):
            two = job_of(folder, f"two-{turn}", config, paths, **common)
            fit = {"from": two.run_dir, "dataset": "images"}
            one = job_of(folder, f"one-{turn}", config, paths, fit=fit, **common)
            for name, job in (("two passes", two), ("one pass", one)):
                begin = time.perf_counter()
                report = score(prepare(job), Quiet())
                walls[name].append(time.perf_counter() - begin)
                models[name].append(sum(p.model_seconds for p in report.passes.values()))
        ratio = {
            "two passes": None,
            "one pass": median_ratio(walls["one pass"], walls["two passes"]),
        }
        for name, seconds in walls.items():
            rates = ", ".join(f"{config.images / s:.2f}" for s in seconds)
            inside = ", ".join(f"{config.images / s:.2f}" for s in models[name])
            yield Figure(
                section="saved", name=name, value=config.images / min(seconds), unit="images/s",
                ratio=ratio[name], against="time of two passes" if ratio[name] else "",
                note=f"{config.images} images; whole runs {rates}; in the models {inside}",
            )  # fmt: skip
        yield _agreement(two, one)


def _agreement(two: Job, one: Job) -> Figure:
    rows = [
        pa.concat_tables(RunDirectory(job.run_dir).parts.read("predictions", "dataset=images"))
        for job in (two, one)
    ]
    coefficients = [np.stack(table["coefficient"].to_pylist()).astype(float) for table in rows]
    equal = np.mean(rows[0]["prediction"].to_numpy() == rows[1]["prediction"].to_numpy())
    apart = np.abs(coefficients[0] - coefficients[1]).max()
    return Figure(
        section="saved", name="equal predictions",
        value=100 * float(equal), unit="%",
        note=f"coefficients differ by {apart:.1g} at most",
    )  # fmt: skip
