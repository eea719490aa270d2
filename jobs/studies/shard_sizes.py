"""Does it matter how samples are cut into tars? One large, some, or very many.

    python jobs/studies/shard_sizes.py 100000 2

The arguments are samples and readers. The same images lie in one tar, in tars of 1,000 and in tars
of 5; each layout is planned, indexed and decoded as in a run, by as many processes as readers, and
no model. Printed: tasks, wall and CPU seconds (of all processes, by what they are for), and each
over that of tars of 1,000. Needs 6 kB of disk a sample, in a folder that is removed.
"""

from __future__ import annotations

import io
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from dawin_ray.attempts import UNCOUNTED
from dawin_ray.data import (
    CountChunks,
    DatasetClasses,
    DatasetConfig,
    DecodeImages,
    Indexes,
    Shard,
    Task,
    large_above,
    list_files,
    make_shards,
    tasks_of,
)
from dawin_ray.models import Preprocessing

SIDE, IMAGES = 128, 64  # pixels of an image; how many different ones there are
CHUNK = 512
PER_TAR = {"one tar": sys.maxsize, "tars of 1,000": 1_000, "tars of 5": 5}


def images() -> list[bytes]:
    """JPEGs of noise that was blown up."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(IMAGES):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(buffer, format="JPEG")
        made.append(buffer.getvalue())
    return made


def write(folder: Path, samples: int, each: int, encoded: list[bytes]) -> None:
    """The samples in tars of so many."""
    folder.mkdir()
    for start in range(0, samples, each):
        with tarfile.open(folder / f"{start:09d}.tar", "w") as tar:
            for i in range(start, min(samples, start + each)):
                for suffix, data in (("jpg", encoded[i % IMAGES]), ("cls", b"0")):
                    info = tarfile.TarInfo(f"{i:09d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def read(job: tuple[DecodeImages, Task]) -> int:
    """Samples of a task."""
    decode, task = job
    return sum(len(chunk.sample_ids) for part in task for chunk in decode.of(part))


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(of.ru_utime + of.ru_stime for of in used)


def measure(folder: Path, shards: list[Shard], readers: int) -> tuple[int, int, list[float]]:
    """Samples, tasks; wall and CPU seconds of finding the chunks and of decoding them."""
    above = large_above(shards, readers)
    indexes = Indexes(root=str(folder / "index"), chunk_size=CHUNK, above=above)
    preprocessing = Preprocessing.of({"size": 64})
    decode = DecodeImages(preprocessing, CHUNK, {"set": DatasetClasses(count=1)}, indexes)
    times = [time.perf_counter(), cpu()]
    with ProcessPoolExecutor(readers) as pool:
        count = CountChunks(indexes, UNCOUNTED)
        tasks = tasks_of(shards, readers, above, lambda large: pool.map(count, large))
    times += [time.perf_counter(), cpu()]
    with ProcessPoolExecutor(readers) as pool:
        samples = sum(pool.map(read, [(decode, task) for task in tasks]))
    times += [time.perf_counter(), cpu()]
    return samples, len(tasks), [times[i + 2] - times[i] for i in range(4)]


def rows(samples: int, readers: int) -> Iterator[tuple[str, int, list[float]]]:
    """Of each layout: its name, tasks and seconds."""
    with tempfile.TemporaryDirectory() as root:
        for number, (name, each) in enumerate(PER_TAR.items()):
            folder = Path(root, str(number))
            write(folder, samples, min(each, samples), images())
            config = DatasetConfig(name="set", path=str(folder))
            shards = make_shards(config, list_files(config))
            found, tasks, seconds = measure(Path(root, f"of {number}"), shards, readers)
            assert found == samples, "every sample is read once"
            yield name, tasks, seconds


def main() -> None:
    """Print the table."""
    samples, readers = int(sys.argv[1]), int(sys.argv[2])
    found = list(rows(samples, readers))
    base = next(seconds for name, _, seconds in found if name == "tars of 1,000")
    print("layout         tasks | wall s: index  decode   ratio | CPU s: index  decode   ratio")
    for name, tasks, (index, index_cpu, decode, decode_cpu) in found:
        wall, work = ((index + decode) / (base[0] + base[2]),
                      (index_cpu + decode_cpu) / (base[1] + base[3]))  # fmt: skip
        print(
            f"{name:<14} {tasks:>5,} | {index:>13.2f} {decode:>7.1f} {wall:>7.2f} | "
            f"{index_cpu:>12.2f} {decode_cpu:>7.1f} {work:>7.2f}"
        )


if __name__ == "__main__":
    main()
