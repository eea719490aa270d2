"""Does a run take as long, and get as much right, as `dawin-ray advise` says?

    python jobs/studies/advice.py /tmp/advice --engine local
    python jobs/studies/advice.py /tmp/advice --engine ray

Two random experts near each other and JPEGs of noisy prototypes, so that both are right on some of
them. The pilot runs in a process of its own, as the command does, and writes the job of each mode;
then each of them is run by the command. The answer is in README.md; the folder is yours to remove.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from dawin_ray.advice import advise, parts_of, write_job
from dawin_ray.bench import BenchConfig
from dawin_ray.bench.job import write_experts
from dawin_ray.bench.models import make_experts, prototypes
from dawin_ray.config import read_values
from dawin_ray.job import ConsoleProgress
from dawin_ray.models import Preprocessing
from dawin_ray.records import to_json
from dawin_ray.report import read_predictions
from dawin_ray.terminal import show

NOISE = 0.5  # of an image, in standard deviations of a prototype's pixels
SIDE = 256  # pixels
SHARDS = 4
BATCH, CHUNK = 64, 256


def write_images(folder: Path, count: int, preprocessing: Preprocessing) -> None:
    """Tars of `count` JPEGs, each of a prototype with noise, with its class."""
    folder.mkdir(parents=True)
    coarse, draw = prototypes(preprocessing).numpy(), np.random.default_rng(0)
    crop = preprocessing.config
    mean, std = (np.array(values)[:, None, None] for values in (crop.mean, crop.std))
    for shard, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
        with tarfile.open(folder / f"images-{shard:06d}.tar", "w") as tar:
            for row in rows:
                label = int(draw.integers(len(coarse)))
                pixels = coarse[label] + NOISE * draw.standard_normal(coarse[label].shape)
                values = ((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                image = Image.fromarray(values.transpose(1, 2, 0))
                image.resize((SIDE, SIDE)).save(buffer, format="JPEG", quality=90)
                for suffix, data in (("jpg", buffer.getvalue()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{row:08d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def write_inputs(folder: Path, images: int, architecture: str, engine: str) -> Path:
    """The job file, with all that it needs."""
    if not (folder / "data").exists():
        experts = make_experts(BenchConfig(architecture=architecture))
        write_experts(folder / "experts", experts)
        write_images(folder / "data", images, experts.preprocessing)
    job = {
        "run_dir": str(folder / engine / "run"),
        "model": {"architecture": architecture},
        "experts": [
            {"name": f"e{i}", "checkpoint": str(folder / "experts" / f"expert_{i}.safetensors")}
            for i in range(2)
        ],
        "datasets": [{"name": "images", "path": str(folder / "data")}],
        "compute": {"engine": engine, "batch_size": BATCH, "chunk_size": CHUNK},
    }
    (folder / engine).mkdir()
    path = folder / engine / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def pilot(path: Path, samples: int | None) -> None:
    """What the command does, and the job of each mode beside `path`."""
    values = read_values(str(path))
    advised = advise(values, ConsoleProgress().say, samples)
    show(*parts_of(advised.advice))
    (path.parent / "advice.json").write_text(json.dumps(to_json(advised.advice)))
    for mode in advised.options:
        write_job(advised, str(path), values, str(path.parent / f"{mode}.yaml"), mode)


def run(path: Path, mode: str) -> tuple[float, float]:
    """Seconds of the command that runs a mode's job, and the share of right answers."""
    run_dir = path.parent / f"run-{mode}"
    job = str(path.parent / f"{mode}.yaml")
    began = time.perf_counter()
    with open(path.parent / f"{mode}.log", "w") as log:
        subprocess.run(
            [sys.executable, "-m", "dawin_ray", "run", job, f"run_dir={run_dir}"],
            check=True, stdout=log, stderr=log,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    rows = read_predictions(str(run_dir))
    return seconds, float((rows.prediction == rows.label).mean())


def main() -> None:
    """Print, for each mode, forecast against run, in time and accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="local", choices=("local", "ray"))
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--modes", nargs="+", default=["plain", "static", "clustered", "exact"])
    parser.add_argument("--samples", type=int, help="of the pilot; as the command's")
    parser.add_argument("--pilot", type=Path, help="only the pilot of this job file")
    args = parser.parse_args()
    if args.pilot:
        pilot(args.pilot, args.samples)
        return
    path = write_inputs(args.folder, args.images, args.architecture, args.engine)
    began = time.perf_counter()
    command = [sys.executable, __file__, str(args.folder), "--pilot", str(path)]
    asked = [] if args.samples is None else ["--samples", str(args.samples)]
    subprocess.run([*command, *asked], check=True)
    print(f"pilot: {time.perf_counter() - began:.0f} s", flush=True)
    advice = json.loads((path.parent / "advice.json").read_text())
    for mode in advice["modes"]:
        if mode["mode"] not in args.modes or mode["unavailable"]:
            continue
        seconds, right = run(path, mode["mode"])
        told, said = mode["seconds"], mode["accuracy"]
        inside = said["low"] <= right <= said["high"]
        mark = " (recommended)" if mode["mode"] == advice["mode"] else ""
        print(
            f"{mode['mode']:10} time: forecast {told['seconds']:.1f} s "
            f"[{told['low']:.1f}, {told['high']:.1f}], run {seconds:.1f} s, "
            f"ratio {told['seconds'] / seconds:.3f}; accuracy: pilot {100 * said['value']:.1f} "
            f"[{100 * said['low']:.1f}, {100 * said['high']:.1f}], run {100 * right:.1f} "
            f"{'inside' if inside else 'OUTSIDE'}{mark}",
            flush=True,
        )


if __name__ == "__main__":
    main()
