"""The two passes on Ray Data; this and `ray_cluster` are the only files that import Ray.

    shards -> decode (tasks) -> model actors -> one file a chunk, and one small row to the driver

A row of the stream is one chunk (`stages.Chunk`), so that Ray never splits or merges what belongs
together. Actors commit their chunk's output themselves; the driver sees only counts.

Ray runs again what died, without a bound; what readers and actors begin and end is counted besides
(`attempts`), so that an image, a chunk or a start that kills every process ends in a reject or in a
message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dawin_ray.data import UNCOUNTED, Attempts, ReadChunks, Shard, Tries, end_of, pack
from dawin_ray.engine.compute import Resources
from dawin_ray.engine.workers import PredictActor, ScoreAtOnceActor, ScoreExpertsActor, encodable
from dawin_ray.errors import RayLostError, UserError
from dawin_ray.method import Fit
from dawin_ray.names import first_line
from dawin_ray.passes import ScoringSpec
from dawin_ray.runs import RunDirectory
from dawin_ray.storage import configure

# Chunks are larger than this, so every chunk becomes a block of its own and leaves at once.
TARGET_BLOCK_BYTES = 32 << 20

# Chunks that wait at an actor while it works: enough to hide the fetch, few enough for memory.
TASKS_IN_FLIGHT = 3

# What Ray Data puts behind the message of an exception: how often it tried, and its own settings.
RAYS_WORDS = re.compile(r"\nFailed to [^\n]+ attempts \(total backoff ")

# Names of a shard's chunks that are committed already.
Finished = Callable[[Shard], Collection[str]]


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


def _stream(
    shards: Sequence[Shard], read: ReadChunks, finished: Finished, on: Resources,
    run: RunDirectory, actor: type, arguments: dict[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    if not shards:
        return
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    if on.tries is UNCOUNTED:
        on = replace(on, tries=count_tries())
    if isinstance(read, ReadChunks):
        read = read.counted(on.tries)
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
            raise UserError(RAYS_WORDS.split(str(ours))[0]) from error
        if (words := _words_of_ray(error)) is not None:
            raise RayLostError(
                f"Ray gave the run up: {words}. As a rule a machine was lost, or ran out of memory "
                "or disk; Ray's logs say more. The same command goes on where the run stopped."
            ) from error
        raise


def _read_shard(
    read: ReadChunks, finished: Finished, on: Resources, row: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    configure(on.storage)
    shard, counts = Shard.from_json(row["shard"]), {}
    with encodable():
        before = finished(shard)
        for chunk in read(shard, before):
            counts[chunk.name] = len(chunk.sample_ids) + len(chunk.rejects)
            yield pack(chunk)
        yield pack(end_of(shard, counts, before))


def _words_of_ray(error: BaseException | None) -> str | None:
    """What Ray says where its own parts failed, and not what they ran."""
    from ray import exceptions

    of_ray = (
        exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.LocalRayletDiedError,
        exceptions.NodeDiedError, exceptions.OutOfMemoryError, exceptions.OutOfDiskError,
        exceptions.ObjectStoreFullError, exceptions.ObjectLostError, exceptions.RaySystemError,
    )  # fmt: skip
    while error is not None:
        if isinstance(error, of_ray):
            return f"{first_line(error)}"
        error = error.__cause__
    return None


def _user_error(error: BaseException | None) -> UserError | None:
    """The mistake of a person's that a worker found, out of Ray's wrappings."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's wrapping is a subclass of its own, with the traceback in it
        if isinstance(current, UserError) and type(current).__module__ == UserError.__module__:
            return current
        todo += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
