"""The whole job on synthetic JPEGs, against a plain loop in one process.

The loop decodes each image once, keeps its crop, and makes the same forwards in the same batches:
what no scheduling, no commit and no other process could be faster than.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.bench.data import jpegs
from dawin_ray.bench.models import CLUSTERS, make_experts
from dawin_ray.config import Job, make_job
from dawin_ray.data import DecodeImages
from dawin_ray.job import Prepared, prepare, score
from dawin_ray.method import Fit
from dawin_ray.models import CHECKPOINT_HEAD, HEAD, Experts, load_experts
from dawin_ray.passes import Predict, ScoreExperts, equal_parts
from dawin_ray.report import ComputeReport, Report

SHARDS = 4
SIDE = 256  # pixels of an image
CHUNK = 256  # images of an output file
LOOP_IMAGES = 512  # of the plain loop: its time grows with N, and nothing else of it does


class Quiet:
    """Progress for nobody."""

    def say(self, message: str) -> None:
        """Says nothing."""

    def phase(self, name: str, total_bytes: int) -> AbstractContextManager[Callable[[Any], None]]:
        """Shows nothing."""
        return nullcontext(lambda chunk: None)


def write_images(folder: Path, count: int, side: int, distinct: int = 256) -> None:
    """WebDataset shards of `count` JPEGs, of which `distinct` differ."""
    folder.mkdir(parents=True)
    encoded = jpegs(min(count, distinct), side)
    for shard, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
        with tarfile.open(folder / f"images-{shard:06d}.tar", "w") as tar:
            for row in rows:
                member, data = tarfile.TarInfo(f"{row:08d}.jpg"), encoded[row % len(encoded)]
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def write_experts(folder: Path, experts: Experts) -> list[str]:
    """Checkpoints of the experts; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, state in enumerate(experts.states):
        prefix = f"heads.{CHECKPOINT_HEAD}."
        named = {k.replace(prefix, f"{HEAD}."): v.contiguous() for k, v in state.items()}
        paths.append(str(folder / f"expert_{i}.safetensors"))
        save_file(named, paths[-1])
    return paths


def job_of(
    folder: Path, run: str, config: BenchConfig, paths: Sequence[str], **sections: Any
) -> Job:
    """A job of these checkpoints over the images in the folder, without the even interpolation."""
    return make_job(
        {
            "run_dir": str(folder / run),
            "model": {"architecture": config.architecture},
            "experts": [{"name": f"e{i}", "checkpoint": p} for i, p in enumerate(paths)],
            "datasets": [{"name": "images", "path": str(folder / "images")}],
            "baselines": {"even_interpolation": False},
        }
        | sections
    )


def figures(config: BenchConfig) -> Iterator[Figure]:
    """The clustered job in each precision, and the exact one in the first."""
    jobs: list[tuple[int | str, str]] = [(CLUSTERS, precision) for precision in config.precisions]
    jobs.append(("exact", config.precisions[0]))
    first = None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images", config.images, SIDE)
        paths = write_experts(folder / "experts", make_experts(config))
        for clusters, precision in jobs:
            name = f"{precision} {'exact' if clusters == 'exact' else 'clustered'} job"
            compute = {"precision": precision, "batch_size": config.batch, "chunk_size": CHUNK}
            job = job_of(
                folder, name.replace(" ", "-"), config, paths,
                mixture={"clusters": clusters}, compute=compute,
            )  # fmt: skip
            prepared = prepare(job)
            begin = time.perf_counter()
            report = score(prepared, Quiet())
            wall = time.perf_counter() - begin
            first = first or wall
            yield from _of_run(name, config, prepared, report, wall)
            if precision != config.precisions[0]:
                yield Figure(
                    section="job", name=f"{name}: times as fast", value=first / wall, unit="x",
                    note=f"as {config.precisions[0]}",
                )  # fmt: skip


def _of_run(
    name: str, config: BenchConfig, prepared: Prepared, report: Report, wall: float
) -> Iterator[Figure]:
    """What one run shows: against the plain loop and bare forwards; share of the models."""
    start, loop, forward = plain_loop(prepared, report.compute)
    each, forwards = wall / config.images, len(prepared.job.experts) + 1
    loop_wall = start + config.images * loop

    def figure(what: str, value: float, unit: str, note: str, **ratio: Any) -> Figure:
        return Figure(section="job", name=name + what, value=value, unit=unit, note=note, **ratio)

    yield figure(
        "", 1e3 * each, "ms/image",
        f"{config.images} images in {wall:.1f} s; loop {loop_wall:.1f} s, {start:.1f} s of them to "
        "load its models",
        ratio=wall / loop_wall, against="plain loop",
    )  # fmt: skip
    yield figure(
        f": against {forwards} bare forwards", 1e3 * each, "ms/image",
        f"one forward {1e3 * forward:.1f} ms/image",
        ratio=each / (forwards * forward), against=f"{forwards} forwards",
    )  # fmt: skip
    for pass_name, timing in report.passes.items():
        times = f"{timing.model_seconds:.1f} s in models, {timing.wall_seconds:.1f} s with start"
        if timing.model_share is not None:
            yield figure(f": {pass_name}, model share", 100 * timing.model_share, "%", times)
    agreement = report.datasets[0].float32_agreement
    if agreement.rows:
        share = 100 * agreement.equal / agreement.rows
        of_rows = f"{agreement.equal} of {agreement.rows} sampled rows"
        yield figure(": agrees with float32", share, "%", of_rows)


@torch.inference_mode()
def plain_loop(prepared: Prepared, compute: ComputeReport) -> tuple[float, float, float]:
    """Seconds to load the models, and for each of LOOP_IMAGES of the loop and of a bare forward."""
    job = prepared.job
    torch.set_num_threads(compute.threads_per_actor)
    spec = replace(prepared.spec, precision=compute.precision, device=compute.device)
    written = json.loads(Path(job.run_dir, "mixture.json").read_text())["fits"]["images"]
    shard = prepared.shards["images"][0]
    begin = time.perf_counter()
    experts = load_experts(spec.model)
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    score_experts = ScoreExperts(spec, experts)
    predict = Predict(spec, {"images": Fit.from_dict(written)}, experts)
    predict.agreement = None  # a check of the job's, not a part of the method
    few = next(decode(shard)).select(slice(8))
    predict(few, score_experts(few))  # merges the models
    start, begin, kept, rows = time.perf_counter() - begin, time.perf_counter(), [], 0
    for chunk in decode(shard):
        kept.append((chunk, score_experts(chunk)))
        rows += len(chunk.sample_ids)
        if rows >= LOOP_IMAGES:
            break
    for chunk, table in kept:
        pq.write_table(predict(chunk, table), io.BytesIO())
    loop = (time.perf_counter() - begin) / rows
    feed, model = score_experts.feed, score_experts.models[0]
    begin = time.perf_counter()
    for chunk, _ in kept:
        for pixels in feed(chunk.images, equal_parts(len(chunk.images), spec.batch_size)):
            model(pixels)
    return start, loop, (time.perf_counter() - begin) / rows
