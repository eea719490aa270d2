"""One measured job: the whole of `score`, in which only models and images are stubs.

Tasks run in processes of their own, so that the driver's CPU and memory are the driver's alone.
Ray's own handling of tasks is not in it: `scale_stream` has that.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from dawin_ray.bench import BenchConfig
from dawin_ray.bench.data import jpegs
from dawin_ray.bench.job import Quiet, job_of, write_experts
from dawin_ray.bench.memory import TINY
from dawin_ray.bench.models import make_experts
from dawin_ray.bench.scale_meter import Meter, peak_memory, reset_peak
from dawin_ray.bench.scale_proxy import DOORS, KINDS, CountingProxy, Counts, counting
from dawin_ray.bench.scale_stubs import CLUSTERS, Shape, StubReader, stub_of
from dawin_ray.config import Job
from dawin_ray.data import ChunkSummary, Task
from dawin_ray.engine import Chunks, Engine, Resources, Say, StorageOptions, Wiring, engine_of
from dawin_ray.job import prepare, score
from dawin_ray.metrics import Sink
from dawin_ray.passes import Pass
from dawin_ray.statistics import DriftReport
from dawin_ray.storage import configure

Item = TypeVar("Item")
Result = TypeVar("Result")

SIDE = 32  # pixels of the one image that each tar has for whoever looks into it

WARM_SECONDS = 0.5

STARTING = "starting and ending processes"

NO_COUNTS: Counts = {who: dict.fromkeys(KINDS, 0) for who in DOORS}


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where the run directory is: below an address, at a latency a request."""

    address: str  # of a folder, such as s3://bucket/bench
    endpoint: str  # http://host:port of its server
    latency: float = 0.025  # seconds


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one job cost."""

    shape: Shape
    phases: Mapping[str, Mapping[str, Any]]  # see `Meter.rows`, in the order of their beginnings
    start: float  # resident bytes of the driver when its data were listed
    peak: float  # of the driver from there to the end


class Processes:
    """An engine that runs passes and tasks in processes of this machine, and counts what they cost.

    See `engine.Engine`. Within a process, the product's local engine runs a pass.
    """

    starting = "starting processes"

    def __init__(self, meter: Meter, shape: Shape, job: Job, options: StorageOptions, count: int):
        """`options` are the tasks' of their storage; `count` processes."""
        self.meter, self.reader, self.options, self.count = meter, StubReader(shape), options, count
        self.local = engine_of(job.compute.model_copy(update={"engine": "local"}))
        self.pool: ProcessPoolExecutor | None = None
        self.stub: Callable[[Pass], Pass] = lambda stage: stage

    @contextmanager
    def session(self, say: Say, storage: StorageOptions | None = None) -> Iterator[Resources]:
        """Starts the processes, and ends them."""
        with _pool(self.count) as pool:
            self.meter.between(STARTING)
            for started in [pool.submit(_warm) for _ in range(self.count)]:
                started.result()
            self.pool = pool
            yield Resources(
                device="cpu", actors=self.count, cpus=1, gpus=0, threads=1, readers=self.count,
                storage=self.options,
            )  # fmt: skip
            self.meter.between(STARTING)

    def run(self, stage: Pass, tasks: Sequence[Task], wiring: Wiring) -> Chunks:
        """The pass with stubs."""
        self.meter.between(f"pass {stage.name}")
        work = _Score(self.local, self.stub(stage), replace(wiring, read=self.reader))
        for summaries in self.map(work, tasks, wiring.on):
            yield from summaries

    def map(
        self, task: Callable[[Item], Result], items: Sequence[Item], on: Resources
    ) -> Iterator[Result]:
        """Tasks in their order, a bounded number at a time."""
        assert self.pool is not None, "within a session"
        waiting: deque[Future[tuple[Result, float, float]]] = deque()
        for item in [*items, *[None] * (2 * self.count)]:
            if item is not None:
                waiting.append(self.pool.submit(_call, task, item, on.storage))
            if waiting and (item is None or len(waiting) > 2 * self.count):
                begin = time.perf_counter()
                result, cpu, peak = waiting.popleft().result()
                self.meter.add_task(cpu, peak, time.perf_counter() - begin)
                yield result

    def sink(self) -> Sink | None:
        """There are no metrics here."""
        return None

    def each_node(self, task: Callable[[], Result], on: Resources) -> dict[str, Result]:
        """There is this machine alone."""
        return {"this machine": task()}

    def publish(self, drift: Mapping[str, DriftReport], on: Resources) -> None:
        """There are no metrics here."""


@dataclass(frozen=True)
class _Score:
    """What a reader reads through a pass, on a worker."""

    engine: Engine
    stage: Pass
    wiring: Wiring

    def __call__(self, task: Task) -> list[ChunkSummary]:
        return list(self.engine.run(self.stage, [task], self.wiring))


def _pool(count: int) -> ProcessPoolExecutor:
    """Processes are copies of one that has imported everything and has done nothing yet."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # that one has the environment of the time when it began
    return ProcessPoolExecutor(
        count, mp_context=context, initializer=_settle, initargs=(dict(os.environ),)
    )


def _settle(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)


def _warm() -> None:
    """Holds a process, so that the others start as well; all that tasks import is there then."""
    time.sleep(WARM_SECONDS)


def _call(
    task: Callable[[Item], Result], item: Item, storage: StorageOptions
) -> tuple[Result, float, float]:
    """A task's result, its seconds of CPU, and the peak of its process's memory in bytes."""
    configure(storage)
    reset_peak()
    begin = time.process_time()
    result = task(item)
    return result, time.process_time() - begin, peak_memory()


def measured(shape: Shape, store: Store | None = None, processes: int = 2) -> Measured:
    """A job of this shape, in a process of its own; local, or with its run directory in a store."""
    with _pool(1) as pool:
        return pool.submit(_measured, shape, store, processes).result()


def _measured(shape: Shape, store: Store | None, processes: int) -> Measured:
    proxied = nullcontext() if store is None else counting(store.endpoint, store.latency)
    with tempfile.TemporaryDirectory() as temporary, proxied as proxy:
        return _run(shape, Path(temporary), store, proxy, processes)


def _run(
    shape: Shape, folder: Path, store: Store | None, proxy: CountingProxy | None, processes: int
) -> Measured:
    _write_shards(folder / "images", shape.shards)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    config = BenchConfig(architecture=str(folder / "tiny.json"))
    paths = write_experts(folder / "experts", make_experts(config))
    doors = {} if proxy is None else {
        who: {"s3": {"endpoint_url": door}} for who, door in proxy.doors.items()
    }  # fmt: skip
    sections: dict[str, Any] = {
        "mixture": {"clusters": CLUSTERS},
        "baselines": {},
        "compute": {"chunk_size": shape.rows, "cache": "off", "precision": "float32"},
        "storage_options": doors.get("driver", {}),
    }
    if store is not None:
        sections["run_dir"] = f"{store.address}/{os.getpid()}-{time.time_ns()}"
    job = job_of(folder, "run", config, paths, **sections)
    meter = Meter(lambda: NO_COUNTS if proxy is None else proxy.seen())
    engine = Processes(meter, shape, job, doors.get("tasks", {}), processes)
    prepared = meter.watched(prepare, "prepare")(job, lambda line: None)
    engine.stub = _Stubs(prepared.preprocessing)
    meter.watch("dawin_ray.job.score")
    reset_peak()
    start = peak_memory()
    with meter.memory():
        report = score(prepared, Quiet(), engine=engine)
    peak = peak_memory()
    phases = meter.rows()
    assert [row.rows for row in report.datasets] == [shape.all_rows], "no row was lost"
    return Measured(shape=shape, phases=phases, start=start, peak=peak)


@dataclass(frozen=True)
class _Stubs:
    """Puts stubs in the place of a pass's models."""

    preprocessing: Any

    def __call__(self, stage: Pass) -> Pass:
        return stub_of(stage, self.preprocessing)


def _write_shards(folder: Path, count: int) -> None:
    """Tars of one image; the first is written, and the others are copies of it."""
    folder.mkdir(parents=True)
    first = folder / f"images-{0:06d}.tar"
    with tarfile.open(first, "w") as tar:
        for suffix, data in (("jpg", jpegs(1, SIDE)[0]), ("cls", b"0")):
            member = tarfile.TarInfo(f"0.{suffix}")
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    for shard in range(1, count):
        shutil.copyfile(first, folder / f"images-{shard:06d}.tar")
