"""The whole job on synthetic JPEGs, against a plain loop in one process.

The loop decodes each image once, keeps its crop, and makes the same forwards in the same batches:
what no scheduling, no commit and no other process could be faster than.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.bench.data import jpegs
from dawin_ray.bench.models import make_experts
from dawin_ray.config import make_job
from dawin_ray.decoding import DecodeImages
from dawin_ray.models import CHECKPOINT_HEAD, HEAD, Experts, load_experts
from dawin_ray.precision import resolve
from dawin_ray.prepare import Prepared, prepare
from dawin_ray.scoring import score
from dawin_ray.stages import PredictExact, PredictMerged, ScoreExperts, ScoringSpec

SHARDS = 4
LOOP_IMAGES = 512  # of the plain loop: its time grows with N, and nothing else of it does


class Quiet:
    """Progress for nobody, that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        """Keep a line."""
        self.said.append(message)

    def phase(self, name: str, total_bytes: int):
        """Counts nothing."""
        from contextlib import nullcontext

        return nullcontext(lambda chunk: None)


def write_images(folder: Path, count: int, side: int, distinct: int = 256) -> None:
    """WebDataset shards of `count` JPEGs, of which `distinct` differ."""
    folder.mkdir(parents=True)
    encoded = jpegs(min(count, distinct), side)
    for shard, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
        with tarfile.open(folder / f"images-{shard:06d}.tar", "w") as tar:
            for row in rows:
                member = tarfile.TarInfo(f"{row:08d}.jpg")
                data = encoded[row % len(encoded)]
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


def job_of(folder: Path, run: str, config: BenchConfig, paths: Sequence[str], **sections: Any):
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
    """The clustered job in each precision and the exact one: wall time, model share, loop."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images", config.images, 256)
        paths = write_experts(folder / "experts", make_experts(config))
        clustered: dict[str, float] = {}
        for clusters in (3, "exact"):
            for precision in config.precisions if clusters == 3 else config.precisions[:1]:
                name = f"{precision} {'clustered' if clusters == 3 else 'exact'} job"
                compute = {"precision": precision, "batch_size": config.batch, "chunk_size": 256}
                job = job_of(folder, name.replace(" ", "-"), config, paths,
                             mixture={"clusters": clusters}, compute=compute)  # fmt: skip
                prepared = prepare(job)
                begin = time.perf_counter()
                report = score(prepared, Quiet())
                wall = time.perf_counter() - begin
                loop, forward = plain_loop(prepared, report["compute"], Path(job.run_dir))
                each = 1e3 / config.images
                count = len(paths) + 1
                yield Figure(
                    section="job", name=name, value=wall * each, unit="ms/image",
                    ratio=wall / config.images / loop, against="plain loop",
                    note=f"{config.images} images in {wall:.1f} s, loop {1e3 * loop:.1f} ms/image "
                    f"over {LOOP_IMAGES}",
                )  # fmt: skip
                yield Figure(
                    section="job", name=f"{name}: against {count} bare forwards",
                    value=wall * each, unit="ms/image",
                    ratio=wall / config.images / (count * forward),
                    against=f"{count} forwards", note=f"one forward {1e3 * forward:.1f} ms/image",
                )  # fmt: skip
                for pass_name, p in report["passes"].items():
                    yield Figure(
                        section="job", name=f"{name}: {pass_name}, model share",
                        value=100 * p["model_share"], unit="%",
                        note=f"{p['model_seconds']:.1f} s in the models, pass {p['wall_seconds']:.1f}"
                        " s with its start",
                    )  # fmt: skip
                agreement = report["datasets"][0]["float32_agreement"]
                if agreement["rows"]:
                    yield Figure(
                        section="job", name=f"{name}: agrees with float32",
                        value=100 * agreement["equal"] / agreement["rows"], unit="%",
                        note=f"{agreement['equal']} of {agreement['rows']} sampled rows",
                    )  # fmt: skip
                if clusters == 3:
                    clustered[precision] = wall
                    if precision != config.precisions[0]:
                        first = clustered[config.precisions[0]]
                        yield Figure(
                            section="job", name=f"{name}: times as fast", value=first / wall,
                            unit="x", note=f"as {config.precisions[0]}",
                        )  # fmt: skip


@torch.inference_mode()
def plain_loop(prepared: Prepared, compute: dict, run_dir: Path) -> tuple[float, float]:
    """Seconds for each image of the plain loop, and of one bare forward, over LOOP_IMAGES."""
    from dataclasses import replace

    from dawin_ray.fitting import Fit

    job = prepared.job
    torch.set_num_threads(compute["threads_per_actor"])
    spec: ScoringSpec = replace(
        prepared.spec, precision=resolve(job.compute.precision, "cpu"), device="cpu"
    )
    fits = {"images": Fit()}
    if not job.exact:
        import json

        written = json.loads((run_dir / "mixture.json").read_text())["fits"]["images"]
        fits = {"images": Fit.from_dict(written)}
    experts = load_experts(spec.model)
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    score_experts = ScoreExperts(spec, experts)
    predict = (PredictExact if job.exact else PredictMerged)(spec, fits, experts)
    predict.agreement = None
    shard = prepared.shards["images"][0]
    rows, begin, kept = 0, time.perf_counter(), []
    for chunk in decode(shard):
        kept.append((chunk, score_experts(chunk)))
        rows += len(chunk.sample_ids)
        if rows >= LOOP_IMAGES:
            break
    for chunk, table in kept:
        with io.BytesIO() as sink:
            pq.write_table(predict(chunk, table), sink)
    loop = (time.perf_counter() - begin) / rows
    feed, model = score_experts.feed, score_experts.models[0]
    begin = time.perf_counter()
    for chunk, _ in kept:
        parts = [
            slice(i, i + spec.batch_size) for i in range(0, len(chunk.images), spec.batch_size)
        ]
        for pixels in feed(chunk.images, parts):
            model(pixels)
    return loop, (time.perf_counter() - begin) / rows
