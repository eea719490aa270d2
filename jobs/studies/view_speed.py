"""How fast are the pages of `dawin-ray view` over many rows?

    dawin-ray demo --out /tmp/demo
    python jobs/studies/view_speed.py /tmp/demo/run /tmp/grown --rows 1e7    # some 5 minutes

The rows of a finished run are drawn again and again, with noise in every figure and ids of shards
of 10,000, into tables of the same schema: a run as large as asked for, over images that there are
not. Then each page is asked for over HTTP, of a server that has not answered it before: the middle
and the least of some tries, and the seconds of all cores. The answer is in
dawin_ray/view/README.md; the folder is yours to remove.
"""

import argparse
import http.client
import os
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import uvicorn

from dawin_ray import tables
from dawin_ray.bench import machine
from dawin_ray.runs import Manifest, Part, RunDirectory
from dawin_ray.storage import is_local
from dawin_ray.view import make_app, open_runs

PART_ROWS = 500_000
BLOCK = 1 << 16  # rows, a row group
SHARD_ROWS = 10_000
NOISE = 0.02  # of a figure; what is drawn twice would be stored once
COPIED = ("job.yaml", "classes.json", "fingerprint.json", "mixture.json", "fit.json")
TOKEN = "speed"

PAGES = {
    "first page, the suite": "/",
    "all samples": "/look",
    "a data set": "/look?dataset={dataset}",
    "merged wrong, one expert right": "/look?merged=wrong&experts=one",
    "the same, page 100": "/look?merged=wrong&experts=one&page=100",
    "the same of a data set, least confident first": (
        "/look?dataset={dataset}&merged=wrong&experts=one&sort=unsure"
    ),
    "merged wrong, most confident first": "/look?merged=wrong&sort=sure",
    "a class taken for another": "/look?label=9&prediction=8",
    "cluster and coefficient": "/look?cluster=1&weight_from=0.6",
    "confidence from 0.3 to 0.35": "/look?confidence_from=0.3&confidence_to=0.35",
    "a part of an id": "/look?id=000777",
    "shuffled": "/look?sort=shuffled",
    "confusions": "/confusions",
    "the 1,000th sample of a choice": "/sample?merged=wrong&experts=one&at=1000",
    "a sample by its id": "/sample?dataset={dataset}&sample={sample}",
}


def grow(source: RunDirectory, target: RunDirectory, rows: int) -> None:
    """Write a run of so many rows, drawn of those of a finished one."""
    manifest = Manifest.read(source)
    each = rows // len(manifest.rows)
    parts: list[Part] = []
    for dataset in manifest.rows:
        for kind in tables.OF_DATASETS:
            folder = (kind, f"dataset={dataset}")
            few = pa.concat_tables(source.parts.read(*folder))
            for number, first in enumerate(range(0, each, PART_ROWS)):
                last = min(first + PART_ROWS, each)
                drawn = blocks(few, dataset, first, last)
                parts.append(target.parts.write(folder, few.schema, drawn, number))
    parts.append(target.parts.write(("rejects",), tables.REJECTS, []))
    for name in COPIED:
        target.write(target.path(name), source.read_bytes(name))
    report = source.read_json("report.json")
    for row in report["datasets"]:
        row["labelled"] = row["labelled"] * each // row["rows"]
        row["rows"] = each
    target.write_json("report.json", report)
    replace(manifest, outputs=tuple(parts)).write(target)


def blocks(few: pa.Table, dataset: str, first: int, last: int) -> Iterator[pa.Table]:
    """The rows from `first` to `last`, drawn of a few; the same for the same numbers."""
    draw = np.random.default_rng([first, last])
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        block = few.take(draw.integers(0, len(few), count)).combine_chunks()
        ids = pa.array(
            [
                f"{dataset}-{i // SHARD_ROWS:06d}.tar/{dataset}-{i % SHARD_ROWS:06d}"
                for i in range(start, start + count)
            ]
        )
        columns = {name: noisy(block[name].combine_chunks(), draw) for name in block.column_names}
        yield pa.table(columns | {"sample_id": ids}, schema=few.schema)


def noisy(column: pa.Array, draw: np.random.Generator) -> pa.Array:
    """A column whose figures, if it has some, are all a little different."""
    kind = column.type
    if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type) and not column.null_count:
        return pa.ListArray.from_arrays(column.offsets, noisy(column.values, draw))
    if not pa.types.is_floating(kind) or column.null_count:
        return column
    values = column.to_numpy(zero_copy_only=False)
    factor = 1 - NOISE * draw.random(len(values), dtype=np.float32)
    return pa.array((values * factor).astype(values.dtype))


def measure(run_dir: str, tries: int) -> None:
    """Print what each page takes."""
    opened = time.perf_counter()
    runs = open_runs([run_dir])
    seconds: dict[str, list[float]] = {name: [] for name in PAGES}
    cores: dict[str, list[float]] = {name: [] for name in PAGES}
    dataset = runs[0].datasets[-1]
    for attempt in range(tries):
        app = make_app(runs, TOKEN, 0)
        if not attempt:
            print(f"opened in {time.perf_counter() - opened:.2f} s, {runs[0].rows:,} rows")
        config = uvicorn.Config(app, port=0, log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        cookie = ask(port, f"/?token={TOKEN}", "")[1]
        for name, path in PAGES.items():
            sample = f"{dataset}-000003.tar/{dataset}-000777"
            began, used = time.perf_counter(), time.process_time()
            status, _ = ask(port, path.format(dataset=dataset, sample=sample), cookie)
            assert status == 200, (name, status)
            seconds[name].append(time.perf_counter() - began)
            cores[name].append(time.process_time() - used)
        server.should_exit = True
        thread.join()
    for name in PAGES:
        wall, cpu = statistics.median(seconds[name]), statistics.median(cores[name])
        least = min(seconds[name])
        print(
            f"{name:48} {wall:6.2f} s, at least {least:5.2f} s; {cpu:5.2f} s of cores", flush=True
        )


def ask(port: int, path: str, cookie: str) -> tuple[int, str]:
    """Status of a page, and the cookie that came with it."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"cookie": cookie} if cookie else {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, (answer.getheader("set-cookie") or "").partition(";")[0]


def main() -> None:
    """Grow the run unless it is there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a finished run on this machine, without batches")
    parser.add_argument("grown", type=Path)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--tries", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.grown.exists():
        source = RunDirectory.at(arguments.run)
        assert is_local(source.path()[0])
        grow(source, RunDirectory(str(arguments.grown)), int(arguments.rows))
    size = sum(f.stat().st_size for f in arguments.grown.rglob("*.parquet"))
    print(f"machine  {machine('cpu')}, {os.cpu_count()} cores; {size / 1e9:.2f} GB of Parquet")
    measure(str(arguments.grown), arguments.tries)


if __name__ == "__main__":
    main()
