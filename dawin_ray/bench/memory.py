"""Peak memory of the driver and of the actors over few and over many images.

With a tiny tower, so that what grows with the number of images would show.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.bench.job import Quiet, job_of, write_experts, write_images
from dawin_ray.bench.models import make_experts

COUNTS = (5_000, 20_000)
SIDE = 48  # pixels of an image
SAMPLING_SECONDS = 0.2
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
}


def figures(config: BenchConfig) -> Iterator[Figure]:
    """Peak resident memory at each count, ratio to that of the smallest."""
    first: dict[str, float] = {}
    for count in COUNTS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks = pool.apply(_run, (count,))
        for who, peak in peaks.items():
            first.setdefault(who, peak)
            yield Figure(
                section="memory",
                name=f"{who}, {count:,} images",
                value=peak / 1e6,
                unit="MB",
                ratio=peak / first[who],
                against=f"{COUNTS[0]:,} images",
            )


def _run(count: int) -> dict[str, float]:
    """Peak resident bytes of the driver and of the largest actor of each pass."""
    from dawin_ray.job import prepare, score

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        architecture = folder / "tiny.json"
        architecture.write_text(json.dumps(TINY))
        config = BenchConfig(architecture=str(architecture))
        write_images(folder / "images", count, SIDE)
        paths = write_experts(folder / "experts", make_experts(config))
        prepared = prepare(job_of(folder, "run", config, paths))
        peaks: dict[str, float] = defaultdict(float)
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(peaks, done))
        watcher.start()
        try:
            report = score(prepared, Quiet())
        finally:
            done.set()
            watcher.join()
        assert report.datasets[0].rows == count
    return dict(peaks)


def _watch(peaks: dict[str, float], done: threading.Event) -> None:
    driver = psutil.Process()
    while not done.wait(SAMPLING_SECONDS):
        peaks["driver"] = max(peaks["driver"], _own_memory(driver))
        for process in driver.children(recursive=True):
            try:
                title = process.cmdline()[:1]
                if title and "Actor" in title[0]:
                    name = "actor of pass 1" if "ScoreExperts" in title[0] else "actor of pass 2"
                    peaks[name] = max(peaks[name], _own_memory(process))
            except psutil.Error:
                continue  # it ended meanwhile


def _own_memory(process: psutil.Process) -> float:
    """Resident bytes without the shared object store, which has a size of its own."""
    memory = process.memory_info()
    return float(memory.rss - memory.shared)
