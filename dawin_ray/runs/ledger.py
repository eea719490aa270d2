"""Which shards a pass has finished, and that no row of them was lost.

A shard is finished in a pass when all its slices are read to their ends and all its chunks are
committed.
The ledger learns of both from the summaries of the stream, in any order, writes the shard's mark,
and remembers only the shards that are under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dawin_ray.data import ChunkSummary, Shard
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.work import Mark
from dawin_ray.tables import Kind


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
        datasets = dict.fromkeys(shard.dataset for shard in shards)
        self.marked = {(d, key) for d in datasets for key in _sound_shards(run, kinds, d)}
        self.remaining = [s for s in shards if (s.dataset, s.key) not in self.marked]
        self.open: dict[tuple[str, str], _Open] = {}

    def add(self, summary: ChunkSummary) -> None:
        """Take note of a chunk's summary, and mark its shard if it was the last.

        Raises:
            RowsLostError: a chunk has other rows than were read for it.
            UserError: the run has lost its directory to another one.
        """
        self.run.guard()
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
            if sum(shard.done[chunk]) != read:
                raise RowsLostError(
                    f"chunk {chunk} of data set '{where[0]}': {read} samples were read, but "
                    f"{shard.done[chunk][0]} scored and {shard.done[chunk][1]} rejected"
                )
        for chunk in (
            shard.before - shard.done.keys()
        ):  # of an earlier try, whose counts are in its files
            shard.done[chunk] = (
                self.run.work.count(self.kinds[-1], *where, chunk),
                self.run.work.count("rejects", *where, chunk),
            )
        mark = Mark(chunks={**dict(sorted(shard.done.items()))})
        for kind in self.kinds:
            self.run.work.mark(kind, *where, mark)
        self.marked.add(where)
        del self.open[where]

    def check_complete(self) -> None:
        """All shards are marked.

        Raises:
            RowsLostError: one is not, though its stream has ended.
        """
        if missing := [shard for shard in self.shards if shard not in self.marked]:
            raise RowsLostError(
                f"the pass ended, but {len(missing)} shards of {self.run.address} did not, such as "
                f"{missing[0]}"
            )


def _sound_shards(run: RunDirectory, kinds: Sequence[Kind], dataset: str) -> set[str]:
    """Keys of the shards whose marks hold: every chunk that they name is there.

    Of others the marks go, and with them what there is of a chunk that has lost a file, so that it
    is made again.
    """
    work = run.work
    with_rejects: tuple[Kind, ...] = (*kinds, "rejects")
    there = {kind: work.all_chunks(kind, dataset) for kind in with_rejects}

    def is_whole(key: str) -> bool:
        first, *others = (work.find_mark(kind, dataset, key) for kind in kinds)
        if first is None or any(mark != first for mark in others):
            return False
        spoilt = [
            chunk
            for chunk, counts in first.chunks.items()
            for needed in [with_rejects if counts is not None and counts[1] else kinds]
            if not all(chunk in there[kind].get(key, ()) for kind in needed)
        ]
        for chunk in spoilt:
            for kind in kinds:
                work.remove_chunk(kind, dataset, key, chunk)
        return not spoilt

    marked = work.marks(kinds[-1], dataset)
    sound = set(filter(is_whole, marked))
    for key in marked - sound:
        for kind in kinds:
            work.remove_mark(kind, dataset, key)
    return sound
