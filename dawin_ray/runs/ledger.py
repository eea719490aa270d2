"""Which shards a pass has finished, and that no row of them was lost.

A shard is finished in a pass when all its slices are read to their ends and all its chunks are
committed.
The ledger learns of both from the summaries of the stream, in any order, writes the shard's mark,
and remembers only the shards that are under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dawin_ray.data import ChunkSummary, Shard
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.work import Mark
from dawin_ray.tables import Kind

# Threads that write marks, and marks that wait for them.
WRITERS, WAITING = 8, 64


class RowsLostError(RuntimeError):
    """Rows read are not rows predicted plus rows rejected: a fault of ours, never ignored."""


@dataclass
class _Open:
    """A shard under way: rows and rejects of its committed chunks, and the ends of its slices."""

    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)  # samples of each chunk
    before: set[str] = field(default_factory=set)  # chunks of an earlier try
    missing: set[int] | None = None  # slices that are not read to their ends; None before the first

    def end(self, told: dict[str, Any]) -> None:
        """A slice is read."""
        if self.missing is None:
            self.missing = set(range(told["of"]))
        self.missing.discard(told["slice"])
        self.read |= told["read"]
        self.before.update(told["before"])

    @property
    def is_over(self) -> bool:
        """Whether all is read, and committed."""
        return self.missing == set() and not self.read.keys() - self.done.keys()


class PassLedger:
    """One pass over the shards of a run."""

    def __init__(self, run: RunDirectory, kinds: Sequence[Kind], shards: Sequence[Shard]):
        """Reads which shards are marked; the pass commits all of `kinds`, the last one last."""
        self.run, self.kinds = run, kinds
        self.shards = [(shard.dataset, shard.key) for shard in shards]
        self.marked: set[tuple[str, str]] = set()
        self.chunks: dict[tuple[str, str], set[str]] = {}  # committed, of shards that remain
        for dataset in dict.fromkeys(shard.dataset for shard in shards):
            sound, begun = _found(run, kinds, dataset)
            self.marked |= {(dataset, key) for key in sound}
            self.chunks |= {(dataset, key): names for key, names in begun.items()}
        self.remaining = [s for s in shards if (s.dataset, s.key) not in self.marked]
        self.open: dict[tuple[str, str], _Open] = {}
        self.writing: deque[Future[None]] = deque()
        self.writers = ThreadPoolExecutor(WRITERS, "marks")

    def __enter__(self) -> PassLedger:
        """The ledger itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for marks that are being written: no write may outlast the run's lock."""
        self.writers.shutdown()

    def add(self, summary: ChunkSummary) -> None:
        """Take note of a chunk's summary, and mark its shard if it was the last.

        Marks are written by threads, and the next calls tell where that failed.

        Raises:
            RowsLostError: a chunk has other rows than were read for it.
            UserError: the run has lost its directory to another one, or cannot write to it.
        """
        self.run.guard()
        self._settle(WAITING)
        where = (summary.dataset, summary.shard)
        if where in self.marked:  # a task that Ray ran twice
            return
        shard = self.open.setdefault(where, _Open())
        if summary.end is None:
            shard.done[summary.chunk] = (summary.rows, summary.rejects)
        else:
            shard.end(summary.end)
        if not shard.is_over:
            return
        for chunk, read in shard.read.items():
            counts = shard.done[chunk]
            if sum(counts) != read:
                raise RowsLostError(
                    f"chunk {chunk} of data set '{where[0]}': {read} samples were read, but "
                    f"{counts[0]} scored and {counts[1]} rejected"
                )
        earlier = dict.fromkeys(shard.before - shard.done.keys())  # their files have the counts
        mark = Mark(chunks=dict(sorted({**shard.done, **earlier}.items())))
        self.writing.append(self.writers.submit(self._mark, where, mark))
        self.marked.add(where)
        del self.open[where]

    def _mark(self, where: tuple[str, str], mark: Mark) -> None:
        for kind in self.kinds:
            self.run.work.mark(kind, *where, mark)

    def _settle(self, most: int) -> None:
        """Wait until no more marks than `most` are being written, and raise what went wrong."""
        while self.writing and (len(self.writing) > most or self.writing[0].done()):
            self.writing.popleft().result()

    def check_complete(self) -> None:
        """All shards are marked.

        Raises:
            RowsLostError: one is not, though its stream has ended.
            UserError: as `add`.
        """
        self._settle(0)
        if missing := [shard for shard in self.shards if shard not in self.marked]:
            raise RowsLostError(
                f"the pass ended, but {len(missing)} shards of {self.run.address} did not, such as "
                f"{missing[0]}"
            )


def _found(
    run: RunDirectory, kinds: Sequence[Kind], dataset: str
) -> tuple[set[str], dict[str, set[str]]]:
    """Keys of the shards whose marks hold, and the whole chunks of the others.

    A mark holds where every chunk that it names is there. Others go, and with them what there is of
    a chunk that has lost a file, so that it is made again.
    """
    work = run.work
    with_rejects: tuple[Kind, ...] = (*kinds, "rejects")
    there = {kind: work.all_chunks(kind, dataset) for kind in with_rejects}

    def names_of(key: str) -> dict[Kind, set[str]]:
        return {kind: set(filter(None, there[kind].pop(key, "").split("/"))) for kind in there}

    sound, begun = set[str](), dict[str, set[str]]()
    keys = sorted(work.marks(kinds[-1], dataset))
    marks = zip(*(work.find_marks(kind, dataset, keys) for kind in kinds), strict=True)
    for key, of_kinds in zip(keys, marks, strict=True):
        names = names_of(key)
        spoilt = _spoilt(of_kinds, kinds, names)
        if spoilt == []:
            sound.add(key)
            continue
        for kind in kinds:
            work.remove_mark(kind, dataset, key)
            for chunk in spoilt or ():
                work.remove_chunk(kind, dataset, key, chunk)
                names[kind].discard(chunk)
        begun[key] = set.intersection(*(names[kind] for kind in kinds))
    for key in list(there[kinds[-1]]):
        names = names_of(key)
        begun[key] = set.intersection(*(names[kind] for kind in kinds))
    return sound, begun


def _spoilt(
    marks: Sequence[Mark | None], kinds: Sequence[Kind], there: Mapping[Kind, set[str]]
) -> list[str] | None:
    """Chunks of a shard's mark that have lost a file; None where the passes' marks are not one."""
    first, *others = marks
    if first is None or any(mark != first for mark in others):
        return None
    return [
        chunk
        for chunk, counts in first.chunks.items()
        for needed in [list(there) if counts is not None and counts[1] else kinds]
        if not all(chunk in there[kind] for kind in needed)
    ]
