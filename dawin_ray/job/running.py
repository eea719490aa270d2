"""One pass of a run: what is left of it goes through the engine, and no row of it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from dawin_ray.data import (
    FORMATS,
    ChunkSummary,
    CountChunks,
    Indexes,
    ReadChunks,
    Shard,
    Task,
    chunk_name,
    count_samples,
    tasks_of,
)
from dawin_ray.engine import Engine, Resources, Say, Timing, Wiring, message_bytes
from dawin_ray.job.progress import step, told
from dawin_ray.passes import Pass
from dawin_ray.runs import PassLedger, RunDirectory, State
from dawin_ray.tables import Kind

COUNT_SECONDS = 10.0  # that may pass before a run begins, to count its samples for the forecast

IMAGE_BYTES = 100_000  # of an encoded image, about, where samples are not counted

Counts = dict[tuple[str, str], int]  # data set and key of a shard -> its samples

Advance = Callable[[ChunkSummary], object]


class Progress(Protocol):
    """Who is told how a run goes."""

    def phase(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """A context manager whose value takes each chunk's summary.

        `total` is the sum of the summaries' `work`: images where they are counted, else bytes.
        """

    def say(self, message: str) -> None:
        """One line for a person."""


@dataclass(kw_only=True)
class Passes:
    """Runs passes over the same shards, one after the other."""

    engine: Engine
    run: RunDirectory
    state: State  # of the run, when it was opened
    shards: Sequence[Shard]
    read: ReadChunks
    indexes: Indexes
    on: Resources
    chunk_size: int
    progress: Progress
    counts: Counts | None  # None where not all could be counted soon
    timings: dict[str, Timing] = field(default_factory=dict)  # by the names of passes

    def __call__(self, stage: Pass) -> None:
        """Run a pass over the shards that it has not finished.

        Raises:
            RowsLostError: rows were read and not committed.
        """
        ledger = PassLedger(self.run, stage.tables, self.shards)
        if skipped := len(self.shards) - len(ledger.remaining):
            self.progress.say(
                f"{stage.label}: {skipped} of {len(self.shards)} shards are there already"
            )
        finished = _Finished(self.run, self.state, stage.tables)
        total = work_left(ledger.remaining, ledger.chunks, self.counts, self.chunk_size)
        wiring = Wiring(
            read=self.read,
            finished=finished,
            run=self.run,
            on=self.on,
            message=self._message(ledger.remaining),
        )
        tasks = self._tasks(ledger.remaining)
        if tasks:
            self.progress.say(f"{stage.label}: starting {self.on.pool}")
        with (
            ledger,
            closing(self.engine.run(stage, tasks, wiring)) as chunks,
            self.progress.phase(stage.name, total) as advance,
            Timing.of(self.timings, stage.name) as timing,
            told(self.on, self.progress.say, stage.label, stage.stage) as first_is_there,
        ):
            for chunk in chunks:
                first_is_there()
                ledger.add(chunk)
                timing.add(chunk)
                work = chunk.bytes if self.counts is None else chunk.rows + chunk.rejects
                advance(replace(chunk, work=work))
            ledger.check_complete()

    def _message(self, shards: Sequence[Shard]) -> int:
        """See `engine.message_bytes`; where samples are not counted, they are guessed."""
        if self.counts is None:
            samples = [max(1, shard.bytes // IMAGE_BYTES) for shard in shards]
        else:
            samples = [self.counts[shard.dataset, shard.key] for shard in shards]
        chunks = max(1, sum(-(-count // self.chunk_size) for count in samples))
        height, width = self.read.decode.preprocessing.size
        pixels = sum(samples) * height * width * 3
        return message_bytes(chunks, max(1, pixels // chunks), self.on.most)

    def _tasks(self, shards: Sequence[Shard]) -> list[Task]:
        """What readers do. Where the chunks of large shards begin is found in tasks."""
        count = CountChunks(self.indexes, self.on.tries)

        def counts(large: Sequence[Shard]) -> list[int | None]:
            with step(self.progress.say, f"finding the chunks of {len(large):,} large shards"):
                return list(self.engine.map(count, large, self.on))

        return tasks_of(shards, self.on.readers, self.indexes.above, counts)


@dataclass(frozen=True)
class _Finished:
    """Names of a shard's chunks that are committed in all tables of a pass."""

    run: RunDirectory
    state: State
    kinds: Sequence[Kind]

    def __call__(self, shard: Shard) -> Collection[str]:
        if self.state == "new":
            return ()
        found = [self.run.work.chunks(kind, shard.dataset, shard.key) for kind in self.kinds]
        return set(found[0]).intersection(*found)


def counts_of(shards: Sequence[Shard], say: Say) -> Counts | None:
    """Samples of each shard where all tell it soon, for forecasts; None where not."""
    counts: Counts = {}
    deadline = time.monotonic() + COUNT_SECONDS
    if not all(FORMATS[shard.format].of_images for shard in shards):
        with step(say, "counting samples for the forecast") as found:
            for shard in shards:
                count = count_samples(shard) if time.monotonic() < deadline else None
                if count is None:
                    found("not all can be counted soon: it goes by bytes")
                    return None
                counts[shard.dataset, shard.key] = count
            found(f"{sum(counts.values()):,}")
        return counts
    return {(shard.dataset, shard.key): len(shard.images) for shard in shards}


def work_left(
    shards: Sequence[Shard],
    finished: Mapping[tuple[str, str], Collection[str]],
    counts: Counts | None,
    chunk_size: int,
) -> int:
    """What a pass has to do, without the chunks that are there: images, or bytes without counts.

    `finished` are the names of those by data set and key of their shards.
    """
    if counts is None:
        return sum(shard.bytes for shard in shards)
    total = 0
    for shard in shards:
        where = (shard.dataset, shard.key)
        count, there = counts[where], finished.get(where, ())
        total += sum(
            min(chunk_size, count - start)
            for start in range(0, count, chunk_size)
            if not there or chunk_name(shard, start) not in there
        )
    return total
