"""A pass on Ray Data: shards -> decode (tasks) -> model actors -> one file a chunk, and a summary.

A row of the stream is one chunk (`data.Chunk`), so that Ray never splits what belongs together. A
message to an actor is a block of as many as `Wiring.message` says: what Ray's driver does is by
block. Actors commit their chunks' output themselves, and take the next block meanwhile; the driver
sees only summaries, as many in a row as there were chunks in the block.

Ray runs again what died, without a bound; what readers and actors begin and end is counted besides
(`attempts.py`), so that an image, a chunk or a start that kills every process ends in a reject
or in a message.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import torch

from dawin_ray.attempts import UNCOUNTED, Attempts, Tries
from dawin_ray.data import ChunkSummary, Task, from_row, pack, slices_of, to_row, to_text, unpack
from dawin_ray.engine.compute import Chunks, ComputeConfig, Resources, Say, StorageOptions
from dawin_ray.engine.ray_cluster import publish_drift, ray_session
from dawin_ray.engine.ray_errors import encodable, told_plainly
from dawin_ray.engine.ray_metrics import RayMetrics
from dawin_ray.engine.ray_resources import TASK_CPUS, resources
from dawin_ray.engine.ray_tasks import map_tasks, on_each_node
from dawin_ray.engine.wiring import Wiring, chunks_of
from dawin_ray.engine.workers import Worker
from dawin_ray.errors import UserError
from dawin_ray.metrics import Sink
from dawin_ray.passes import Pass
from dawin_ray.runs import RunDirectory, sent_of, text_of
from dawin_ray.statistics import DriftReport
from dawin_ray.storage import configure

# Blocks at an actor: one that is scored, one that is committed, and others that hide the fetch and
# Ray's loop, which may look for what is done only every 100 ms.
TASKS_IN_FLIGHT = 4

# Blocks of a reader: one that it makes, and one that waits.
READ_AHEAD = 2

# Calls of an actor that overlap: of one the forwards, of another the last commits or first reads.
CALLS = 2

# Blocks at each actor, on average, with which a pool grows where it may: all but the one that is on
# its way.
ENOUGH = TASKS_IN_FLIGHT - 1

# Files that an actor reads and writes at once, besides forwards.
FILES = 8

Item = TypeVar("Item")
Result = TypeVar("Result")

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class RayEngine:
    """See `engine.Engine`. Joins the cluster that the job names, or starts a Ray of its own."""

    compute: ComputeConfig

    @property
    def starting(self) -> str:
        """What takes a while at first."""
        address = self.compute.address or os.environ.get("RAY_ADDRESS")
        return "starting Ray" if address is None else f"joining Ray at {address}"

    @contextmanager
    def session(self, say: Say, storage: StorageOptions | None = None) -> Iterator[Resources]:
        """See `ray_cluster.ray_session` and `ray_resources.resources`."""
        with ray_session(self.compute.address, say):
            yield replace(resources(self.compute, storage, say), tries=count_tries())

    def run(self, stage: Pass, tasks: Sequence[Task], wiring: Wiring) -> Chunks:
        """A pass over the tasks; a summary of each chunk as it is committed, in any order.

        Raises:
            UserError: a mistake of a person's that a worker found.
            RayLostError: Ray gave up.
        """
        yield from stream(stage, tasks, wiring, RayWorker)

    def map(
        self, task: Callable[[Item], Result], items: Sequence[Item], on: Resources
    ) -> Iterator[Result]:
        """What `task` makes of each item, in their order, as Ray tasks.

        Raises:
            UserError, RayLostError: as `run`.
        """
        return map_tasks(task, items, on)

    def sink(self) -> Sink | None:
        """Ray's metrics, which Prometheus finds at the driver's node."""
        return RayMetrics()

    def each_node(self, task: Callable[[], Result], on: Resources) -> dict[str, Result]:
        """What `task` returns on each node that has CPUs. Raises as `run`."""
        return on_each_node(task, on.storage)

    def publish(self, drift: Mapping[str, DriftReport], on: Resources) -> None:
        """See `ray_cluster.publish_drift`."""
        publish_drift(drift, on)


class RayWorker(Worker):
    """A worker as a Ray actor: chunks come as a table, their summaries go as a table of one row."""

    def __init__(self, stage: Pass, run: RunDirectory, on: Resources):
        """Makes its process fit for forwards first."""
        _settle(on)
        super().__init__(stage, run, on, FILES)
        if self.fault is not None and on.nodes > 1:  # such as a file that only the others have
            self.fault = UserError(f"On the node {socket.gethostname()}: {self.fault}")

    def __call__(self, packed: pa.Table) -> dict[str, list[str]]:
        """Score chunks, commit them, and say how it went."""
        # MKL keeps it by thread, calls come in several, and the last bits of a product go by it
        torch.set_num_threads(self.on.threads)
        with encodable():
            return to_row(self.score(unpack(packed)))


@dataclass(frozen=True)
class _Call:
    """Calls a method of the `Attempts` of a run, from any process of the cluster."""

    actor: Any
    wait: bool

    def __call__(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        import ray

        called = getattr(self.actor, method).remote(*arguments)
        return ray.get(called, timeout=timeout) if self.wait else None


def count_tries() -> Tries:
    """Start the counter of a run: on the driver's node, so that it lives as long as the run."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    actor = (
        ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True))
        .remote()
    )
    return Tries(_Call(actor, wait=True), _Call(actor, wait=False))


def stream(
    stage: Pass, tasks: Sequence[Task], wiring: Wiring, actor: type[RayWorker]
) -> Iterator[ChunkSummary]:
    """The pass over the tasks, by actors of this class."""
    if not tasks:
        return
    import ray
    from ray.data import DataContext, TaskPoolStrategy

    if wiring.on.tries is UNCOUNTED:
        wiring = replace(wiring, on=replace(wiring.on, tries=count_tries()))
    on = wiring.on
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # a block leaves as soon as it has more
    context.target_max_block_size = min(wiring.message, _room(on))
    context.autoscaling_config.actor_pool_util_upscaling_threshold = ENOUGH / CALLS
    context.raise_original_map_exception = True  # or a person's mistake is lost on its way here
    sent = sent_of(wiring.run, stage.name, map(to_text, tasks))
    rows = (
        ray.data.from_items(
            [{"task": task} for task in sent],
            override_num_blocks=len(tasks),
        )
        # Next to no CPU is reserved for reading: where actors of a lost node move to the last free
        # CPUs, readers that had to wait for one would wait forever. Their number is bounded
        # instead. A byte of memory is, as Ray fuses operators of equal resources: decoding inside
        # a model actor would make the model wait.
        .map_batches(
            partial(_read, wiring),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=TASK_CPUS,
            memory=1,
            compute=TaskPoolStrategy(size=on.readers),
        )
        .map_batches(
            actor,
            fn_constructor_kwargs={"stage": stage, "run": wiring.run, "on": on},
            batch_size=None,  # a block
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=on.cpus,
            num_gpus=on.gpus,
            **_pool(on),
        )
    )
    with told_plainly():
        # Without prefetching, which summaries do not need: its threads outlive the iterator, and
        # one that asks a Ray that was shut down meanwhile ends this process without a word.
        tables: Any = rows.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow")
        for told in tables:
            for row in told.to_pylist():
                yield from from_row(row)


def _room(on: Resources) -> int:
    """Bytes of a block, so that those at actors and readers fill half of the object store."""
    import ray

    blocks = on.most * TASKS_IN_FLIGHT + on.readers * READ_AHEAD
    return max(1, int(ray.cluster_resources().get("object_store_memory", 0) / 2 / blocks))


def _pool(on: Resources) -> dict[str, Any]:
    """Of `map_batches`: how many actors there are, and how many calls wait and run at each.

    Ray Data lets a pool grow where its actors have enough to do and there is room, and shrink where
    they have not: only actors without a call are ended. Those of a node that is lost start again
    where there is room, or where others were ended that had nothing left to do, and do their calls
    then.
    """
    from ray.data import ActorPoolStrategy

    size = {"size": on.actors}
    if on.bounds is not None:
        size = {
            "min_size": on.bounds.min, "max_size": on.bounds.max, "initial_size": on.actors,
        }  # fmt: skip
    strategy: Any = partial(
        ActorPoolStrategy,
        **size,
        max_tasks_in_flight_per_actor=TASKS_IN_FLIGHT,
        enable_true_multi_threading=True,  # a worker's forwards follow each other all the same
    )
    if "max_concurrent_calls_per_actor" in inspect.signature(ActorPoolStrategy).parameters:
        return {"compute": strategy(max_concurrent_calls_per_actor=CALLS)}
    return {"compute": strategy(), "max_concurrency": CALLS}  # before Ray 2.60


def _read(wiring: Wiring, sent: pa.Table) -> Iterator[pa.Table]:
    """Tables, as rows would be copied twice on their way to the object store."""
    configure(wiring.on.storage)
    with encodable():
        for task in sent["task"].to_pylist():
            for part in slices_of(text_of(wiring.run, task)):
                yield from map(pack, chunks_of(part, wiring))


def _settle(on: Resources) -> None:
    """Make this worker's process fit for forwards.

    Activations are tens of MB, which glibc returns to the system when they are freed and takes
    again, page by page, for the next layer. Kept, a ViT-B/32 forward of 64 images in float32 took
    51 ms instead of 58 ms an image on two cores.
    """
    configure(on.storage)
    torch.set_num_threads(on.threads)
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, with habits of its own
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
