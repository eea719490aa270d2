"""The two passes on Ray Data; the only file that imports it.

    shards -> decode (tasks) -> model actors -> one file a chunk, and one small row to the driver

A row of the stream is one chunk (`stages.Chunk`), so that Ray never splits or merges what belongs
together. Actors commit their chunk's output themselves; the driver sees only counts.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import pyarrow as pa
import torch
from pydantic import Field, field_validator

from dawin_ray import tables
from dawin_ray.cache import ReadChunks
from dawin_ray.chunks import Chunk, end_of, pack, unpack
from dawin_ray.datasets import Shard
from dawin_ray.errors import StageError, UserError
from dawin_ray.fitting import Fit
from dawin_ray.models import load_experts
from dawin_ray.names import shown
from dawin_ray.precision import Precision
from dawin_ray.runs import RunDirectory
from dawin_ray.settings import Settings
from dawin_ray.stages import PredictExact, PredictMerged, ScoreExperts, ScoringSpec
from dawin_ray.storage import configure

# Chunks are larger than this, so every chunk becomes a block of its own and leaves at once.
TARGET_BLOCK_BYTES = 32 << 20
# Chunks that wait at an actor while it works: enough to hide the fetch, few enough for memory.
TASKS_IN_FLIGHT = 3
# More threads than this on one forward gain little on a CPU; several actors do.
MAX_THREADS = 8

# Ray collects metrics every 10 s; as long again for whoever reads them there.
METRICS_SECONDS = 20.0

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

# Names of a shard's chunks that are committed already.
Finished = Callable[[Shard], Collection[str]]


class ComputeConfig(Settings):
    """Where and how fast.

    `address` joins a Ray cluster (`auto` finds the one of this machine; RAY_ADDRESS is heeded);
    without one a local Ray is started that listens on loopback alone. `batch_size` is a forward's,
    `chunk_size` an output file's. `precision` is the towers': auto is bfloat16 on a GPU and float32
    on a CPU. `cache` keeps pass 1's crops for pass 2: in a folder that all nodes share, or (auto)
    on this machine's disk where Ray has no other node and there is room; `keep_cache` leaves them
    there for the next run.
    """

    batch_size: int = Field(default=256, ge=1)
    chunk_size: int = Field(default=512, ge=1)
    precision: Literal["auto"] | Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    cache: str = "auto"
    keep_cache: bool = False
    address: str | None = None

    @field_validator("cache")
    @classmethod
    def _check_cache(cls, cache: str) -> str:
        if "://" in cache:
            raise ValueError("expected auto, off or a folder: crops are mapped from a file system")
        return cache


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each model actor gets, and how many there are."""

    device: str
    actors: int
    cpus: float  # reserved for each actor
    gpus: int  # reserved for each actor
    threads: int  # of PyTorch in each actor
    readers: int  # tasks that read and decode at once, in the whole cluster
    nodes: int = 1  # of the cluster
    joined: bool = False  # the cluster was there before this run
    storage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # fsspec's options


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Join a cluster, or start a local Ray that nothing outside this machine can reach.

    A Ray that the process has joined already is used, and left as it is.

    Raises:
        UserError: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call an outside server
    # its C++ side writes warnings of no use to a person straight to the terminal
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        # binds every port of the new Ray to 127.0.0.1; read when Ray is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray
    import ray.data

    # Ray Data announces every execution, and every exception that it raises besides
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    try:
        with _without_stderr():  # on which Ray says that it heeds RAY_BACKEND_LOG_LEVEL
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UserError(
            f"Cannot reach a Ray cluster at {address!r}: {error}. Check the address and the "
            "cluster's authentication (RAY_AUTH_MODE=token and its token), start one (see "
            "cluster/), or leave compute.address out to run on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drops what C++ code of this process writes to stderr; exceptions pass as always."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def resources(
    compute: ComputeConfig, storage: Mapping[str, Mapping[str, Any]] | None = None
) -> Resources:
    """Fit the job to the cluster; `storage` are its options of file systems.

    Raises:
        UserError: the cluster has less than the job asks for; the message says what is missing.
            (Ray itself would wait forever.)
    """
    import ray

    total = ray.cluster_resources()
    cpus, gpus = total.get("CPU", 0), int(total.get("GPU", 0))
    device = compute.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda":
        actors = max(gpus, 1) if compute.actors == "auto" else compute.actors
        if actors > gpus:
            raise UserError(
                f"The job asks for {actors} GPU actors, one GPU each, but the cluster has {gpus} "
                "GPUs. Lower compute.actors, use device: cpu, or add GPU nodes."
            )
        reserved, threads = 1.0, 1
    else:
        nodes = [n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]]
        threads = int(max(1, min(MAX_THREADS, *nodes, max(nodes))))
        fitting = int(sum(n // threads for n in nodes))
        actors = max(fitting, 1) if compute.actors == "auto" else compute.actors
        # Half of an actor's threads stay unreserved: the decoding tasks run there, and should a
        # node be lost, another one of its size can take its actors.
        reserved = min(threads / 2, cpus / actors)
        threads = int(max(1, min(threads, cpus // actors)))
    if device == "cuda" and actors * reserved > cpus:
        raise UserError(
            f"{actors} GPU actors need a CPU each, but the cluster has {cpus:g}. Lower "
            "compute.actors or add CPUs."
        )
    return Resources(
        device=device,
        actors=actors,
        cpus=reserved,
        gpus=int(device == "cuda"),
        threads=threads,
        readers=int(max(1, cpus - actors * reserved)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        joined=bool(compute.address or os.environ.get("RAY_ADDRESS")),
        storage=storage or {},
    )


def score_experts(
    shards: Sequence[Shard], read: ReadChunks, finished: Finished, spec: ScoringSpec, on: Resources,
    run: RunDirectory,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Pass 1 over the shards; yields a summary of each chunk as it is committed."""
    return _stream(shards, read, finished, on, run, ScoreExpertsActor, {"spec": spec})


def predict(
    shards: Sequence[Shard], read: ReadChunks, finished: Finished, spec: ScoringSpec, on: Resources,
    run: RunDirectory, fits: Mapping[str, Fit],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Pass 2 over the shards; yields a summary of each chunk as it is committed."""
    return _stream(shards, read, finished, on, run, PredictActor, {"spec": spec, "fits": fits})


def score_at_once(
    shards: Sequence[Shard], read: ReadChunks, finished: Finished, spec: ScoringSpec, on: Resources,
    run: RunDirectory, fits: Mapping[str, Fit],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Both passes in one, where the coefficients depend on the sample alone."""
    return _stream(shards, read, finished, on, run, ScoreAtOnceActor, {"spec": spec, "fits": fits})


def publish_drift(drift: Mapping[str, Mapping[str, Any]], on: Resources) -> None:
    """Show drift as Ray metrics of this driver: value, threshold and alarm of each statistic.

    Tags: data set, kind, quantity, of (an expert). A driver's gauges go with it, so on a cluster
    that was joined they are held for METRICS_SECONDS.
    """
    from ray.util.metrics import Gauge

    tags = ("dataset", "kind", "quantity", "of")
    gauges = {
        key: Gauge(f"dawin_ray_drift_{key}", description=text, tag_keys=tags)
        for key, text in (
            ("value", "A drift statistic of the last batch."),
            ("threshold", "Above it, the statistic is an alarm."),
            ("alarm", "1 where the statistic is an alarm, else 0."),
        )
    }
    for dataset, found in drift.items():
        for statistic in found["statistics"]:
            names = {key: statistic[key] or "" for key in tags[1:]}
            for key, gauge in gauges.items():
                gauge.set(float(statistic[key]), tags={"dataset": dataset, **names})
    if on.joined:
        time.sleep(METRICS_SECONDS)


class ScoreExpertsActor:
    """A model actor of pass 1."""

    def __init__(self, run: RunDirectory, on: Resources, spec: ScoringSpec):
        """Loads the experts on this worker, once."""
        _settle(on)
        self.run, self.score = run, ScoreExperts(spec)

    def __call__(self, packed: pa.Table) -> dict[str, list]:
        """Score a chunk, commit it, and say how it went."""
        chunk, begin = unpack(packed), time.time()
        if chunk.end is None:
            with _named("pass 1", chunk):
                _commit_experts(self.run, chunk, self.score(chunk))
        return _summary(chunk, begin)


class PredictActor:
    """A model actor of pass 2."""

    def __init__(
        self, run: RunDirectory, on: Resources, spec: ScoringSpec, fits: Mapping[str, Fit]
    ):
        """Loads the experts on this worker, once; merges happen at a data set's first chunk."""
        _settle(on)
        self.run, self.predict = run, (PredictExact if spec.exact else PredictMerged)(spec, fits)

    def __call__(self, packed: pa.Table) -> dict[str, list]:
        """Predict a chunk, commit it, and say how it went."""
        chunk, begin, merges = unpack(packed), time.time(), self.predict.merges
        if chunk.end is None:
            where = (chunk.dataset, chunk.shard_key, chunk.name)
            with _named("pass 2", chunk):
                experts = self.run.read("experts", *where)
                self.run.commit("predictions", *where, self.predict(chunk, experts))
        return _summary(chunk, begin) | {"merges": [self.predict.merges - merges]}


class ScoreAtOnceActor:
    """A model actor of both passes in one."""

    def __init__(
        self, run: RunDirectory, on: Resources, spec: ScoringSpec, fits: Mapping[str, Fit]
    ):
        """Loads the experts on this worker, once, for both of its models."""
        _settle(on)
        experts = load_experts(spec.model)
        self.run = run
        self.score = ScoreExperts(spec, experts)
        self.predict = (PredictExact if spec.exact else PredictMerged)(spec, fits, experts)

    def __call__(self, packed: pa.Table) -> dict[str, list]:
        """Score and predict a chunk, commit both, and say how it went."""
        chunk, begin, merges = unpack(packed), time.time(), self.predict.merges
        if chunk.end is None:
            where = (chunk.dataset, chunk.shard_key, chunk.name)
            with _named("both passes", chunk):
                experts = self.score(chunk)
                predictions = self.predict(chunk, experts)
                _commit_experts(self.run, chunk, experts)
                self.run.commit("predictions", *where, predictions)
        return _summary(chunk, begin) | {"merges": [self.predict.merges - merges]}


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


@contextmanager
def _named(stage: str, chunk: Chunk) -> Iterator[None]:
    """Says of an error that is ours where it happened; a person's mistakes pass as they are."""
    try:
        yield
    except UserError:
        raise
    except FloatingPointError as error:  # of a model that overflows; it says which, and what to do
        raise UserError(str(error)) from error
    except Exception as error:
        ids = chunk.sample_ids or ["none"]
        raise StageError(
            f"{stage} of chunk {chunk.name} of data set '{chunk.dataset}', samples '{ids[0]}' to "
            f"'{ids[-1]}': {type(error).__name__}: {error}"
        ) from error


def _commit_experts(run: RunDirectory, chunk: Chunk, scored: pa.Table) -> None:
    where = (chunk.dataset, chunk.shard_key, chunk.name)
    if chunk.rejects:
        columns = {
            "dataset": [chunk.dataset] * len(chunk.rejects),
            "shard": [shown(chunk.shard)] * len(chunk.rejects),
            "sample_id": [reject.sample_id for reject in chunk.rejects],
            "offset": [reject.offset for reject in chunk.rejects],
            "reason": [reject.reason for reject in chunk.rejects],
            "sha256": [reject.sha256 for reject in chunk.rejects],
            "broken": [reject.broken for reject in chunk.rejects],
            "lost": [reject.lost for reject in chunk.rejects],
        }
        run.commit("rejects", *where, tables.table(tables.REJECTS, columns))
    run.commit("experts", *where, scored)


def _summary(chunk: Chunk, begin: float) -> dict[str, list]:
    return {
        "dataset": [chunk.dataset],
        "shard": [chunk.shard_key],
        "chunk": [chunk.name],
        "end": [json.dumps(chunk.end)],
        "rows": [len(chunk.sample_ids)],
        "rejects": [len(chunk.rejects)],
        "bytes": [chunk.bytes],
        "begun": [begin],
        "done": [time.time()],
    }


def _stream(
    shards: Sequence[Shard], read: ReadChunks, finished: Finished, on: Resources,
    run: RunDirectory, actor: type, arguments: dict[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    if not shards:
        return
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = TARGET_BLOCK_BYTES
    context.raise_original_map_exception = True  # or a person's mistake is lost on its way here
    stream = (
        ray.data.from_items(
            [{"shard": shard.to_json()} for shard in shards],
            override_num_blocks=len(shards),
        )
        # flat_map, as Ray does not fuse it into the next operator when that one takes batches:
        # decoding inside a model actor would make the model wait
        # No CPU is reserved for reading: where actors of a lost node move to the last free CPUs,
        # readers that had to wait for one would wait forever. Their number is bounded instead.
        .flat_map(
            partial(_read_shard, read, finished, on),
            num_cpus=0,
            compute=TaskPoolStrategy(size=on.readers),
        )
        .map_batches(
            actor,
            fn_constructor_kwargs={"run": run, "on": on, **arguments},
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=on.cpus,
            num_gpus=on.gpus,
            compute=ActorPoolStrategy(
                size=on.actors, max_tasks_in_flight_per_actor=TASKS_IN_FLIGHT
            ),
        )
    )
    try:
        yield from stream.iter_rows()
    except Exception as error:
        if (ours := _user_error(error)) is not None:
            raise UserError(str(ours)) from error
        raise


def _read_shard(
    read: ReadChunks, finished: Finished, on: Resources, row: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    configure(on.storage)
    shard, counts = Shard.from_json(row["shard"]), {}
    before = finished(shard)
    for chunk in read(shard, before):
        counts[chunk.name] = len(chunk.sample_ids) + len(chunk.rejects)
        yield pack(chunk)
    yield pack(end_of(shard, counts, before))


def _user_error(error: BaseException | None) -> UserError | None:
    """The mistake of a person's that a worker found, out of Ray's wrappings."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if type(current) is UserError:  # Ray's wrapping is a subclass, with the traceback in it
            return current
        todo += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
