"""How many model actors the stream keeps busy: actors that only sleep, readers that only allocate.

The share of the ideal is the time that the actors sleep over the time that they have: from when all
of them have begun, as what precedes is the start of processes, to the end of the last chunk. What
one machine of few cores can show is the driver's work: CPU seconds a chunk and a shard.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from dawin_ray.attempts import Tries
from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.data import Chunk, ReadChunks, Shard, Slice, chunk_name, tasks_of
from dawin_ray.engine import ComputeConfig, Engine, Resources, Wiring, engine_of, message_bytes
from dawin_ray.passes import Pass, ScoringSpec
from dawin_ray.runs import PassLedger, RunDirectory

ACTORS = (1, 2, 4, 8, 16)

READERS = 4


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is streamed: shards of chunks of crops, and how long an actor takes for a chunk."""

    name: str
    rows: int  # of a chunk
    side: int  # of a crop, pixels
    seconds: float  # an actor sleeps at a chunk
    shards: int
    chunks: int  # of a shard

    def of(self, actors: int, lasting: float) -> Load:
        """The same with as many shards as keep so many actors busy for so many seconds."""
        chunks = lasting * actors / self.seconds
        return replace(self, shards=max(1, round(chunks / self.chunks)))


TINY = Load(name="64 tiny rows", rows=64, side=8, seconds=0.05, shards=1, chunks=64)

CROPS = Load(name="512 crops of 224 pixels", rows=512, side=224, seconds=1.0, shards=1, chunks=8)

SHORT = Load(name="shards of one chunk", rows=64, side=8, seconds=0.0, shards=2_000, chunks=1)


@dataclass(frozen=True)
class _Reader:
    """Stands for `ReadChunks`."""

    load: Load

    def counted(self, tries: Tries) -> _Reader:
        return self

    def __call__(self, part: Slice, finished: Collection[str] = ()) -> Iterator[Chunk]:
        load, shard = self.load, part.shard
        for start in range(0, load.chunks * load.rows, load.rows):
            yield Chunk(
                name=chunk_name(shard, start),
                dataset=shard.dataset,
                shard=shard.name,
                shard_key=shard.key,
                sample_ids=[f"{shard.name}/{start + i:09d}" for i in range(load.rows)],
                labels=[None] * load.rows,
                images=np.zeros((load.rows, load.side, load.side, 3), np.uint8),
            )


class _Sleeper:
    """Stands for the models."""

    merges = 0

    def __init__(self, seconds: float):
        self.seconds, self.feed = seconds, SimpleNamespace(reached=None)

    def __call__(self, chunk: Chunk, read: object) -> dict[Any, Any]:
        time.sleep(self.seconds)
        return {}


@dataclass(frozen=True)
class _Spec:
    batch_size: int = 64
    precision: str = "float32"


def _none(shard: Shard) -> Collection[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What a stream took."""

    ideal: float  # share, of the actors' time
    chunks: float  # a second
    cpu: float  # seconds of the driver, a chunk

    @classmethod
    def of(cls, begun: np.ndarray, done: np.ndarray, told: np.ndarray, actors: int) -> Streamed:
        """Of chunks [n] that began and ended then (seconds since the epoch), by so many actors.

        `told` [n + 1, 2] has when the driver learnt of each, and of the end, and its CPU by then.
        """
        times = np.concatenate([done, begun])  # where one chunk follows another, it ends first
        order = np.argsort(times, kind="stable")
        at_work = np.cumsum(np.repeat([-1, 1], len(begun))[order])
        start = times[order][np.argmax(at_work >= min(actors, at_work.max()))]
        seconds = max(done.max() - start, 1e-9)
        asleep = np.clip(done - np.maximum(begun, start), 0, None).sum()
        first = min(np.searchsorted(told[:, 0], start), len(begun) - 1)
        return cls(
            ideal=float(asleep / actors / seconds),
            chunks=float((done > start).sum() / seconds),
            cpu=float((told[-1, 1] - told[first, 1]) / (len(begun) - first)),
        )


def stream(load: Load, on: Resources, engine: Engine) -> Streamed:
    """Run the load through the engine, and the ledger besides."""
    shards = [
        Shard(dataset="set", name=f"{i}.tar", address="", format="webdataset", bytes=1, key=f"{i}")
        for i in range(load.shards)
    ]
    make = cast("Any", partial(_Sleeper, load.seconds))
    stage = Pass(name="experts", spec=cast("ScoringSpec", _Spec()), tables=(), make=make)
    begun, done, told = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder)
        pixels = load.rows * load.side**2 * 3
        message = message_bytes(load.shards * load.chunks, pixels, on.actors)
        wiring = Wiring(
            read=cast("ReadChunks", _Reader(load)),
            finished=_none,
            run=run,
            on=on,
            message=message,
        )
        tasks = tasks_of(shards, on.readers)
        with PassLedger(run, ("experts",), shards) as ledger:
            for summary in engine.run(stage, tasks, wiring):
                ledger.add(summary)
                if summary.chunk:
                    begun.append(summary.begun)
                    done.append(summary.done)
                    told.append((time.time(), time.process_time()))
            ledger.check_complete()
        told.append((time.time(), time.process_time()))
    return Streamed.of(np.array(begun), np.array(done), np.array(told), on.actors)


def figures(config: BenchConfig) -> Iterator[Figure]:
    """The curves, and the driver's CPU."""
    engine = engine_of(ComputeConfig())
    with engine.session(lambda line: None) as here:
        on = replace(here, device="cpu", cpus=0.01, gpus=0, threads=1, readers=READERS)
        for load, lasting in ((TINY, 40.0), (CROPS, 20.0)):
            for actors in ACTORS:
                scaled = load.of(actors, lasting)
                found = stream(scaled, replace(on, actors=actors), engine)
                yield Figure(
                    section="scale_stream",
                    name=f"{load.name}: {actors} actors of {load.seconds:g} s a chunk",
                    value=100 * found.ideal,
                    unit="% of ideal",
                    note=f"{found.chunks:.1f} chunks/s, "
                    f"{1000 * found.cpu:.2f} ms driver CPU a chunk",
                )
        found = stream(SHORT, replace(on, actors=2), engine)
        yield Figure(
            section="scale_stream",
            name=f"{SHORT.shards:,} {SHORT.name}",
            value=1000 * found.cpu,
            unit="ms",
            note=f"driver CPU a shard; {found.chunks:.1f} shards/s",
        )
