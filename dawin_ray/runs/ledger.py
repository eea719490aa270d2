"""Which shards a pass has finished, and that no row of them was lost.

A shard is finished in a pass when its reader has come to its end and all its chunks are committed.
The ledger learns of both from the summaries of the stream, in any order, writes the shard's mark,
and remembers only the shards that are under way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dawin_ray.data import Shard
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import Kind
from dawin_ray.runs.usable import RowsLostError, sound_shards
from dawin_ray.runs.work import Mark


@dataclass
class _Open:
    """A shard under way: rows and rejects of its committed chunks, and its end once it is read."""

    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    end: dict[str, Any] | None = None


class PassLedger:
    """One pass over the shards of a run."""

    def __init__(self, run: RunDirectory, kinds: Sequence[Kind], shards: Sequence[Shard]):
        """Reads which shards are marked; the pass commits all of `kinds`, the last one last."""
        self.run, self.kinds = run, kinds
        self.shards = [(shard.dataset, shard.key) for shard in shards]
        datasets = dict.fromkeys(shard.dataset for shard in shards)
        self.marked = {(d, key) for d in datasets for key in sound_shards(run, kinds, d)}
        self.remaining = [s for s in shards if (s.dataset, s.key) not in self.marked]
        self.open: dict[tuple[str, str], _Open] = {}

    def add(self, summary: Mapping[str, Any]) -> None:
        """Take note of a chunk's summary, and mark its shard if it was the last.

        Raises:
            RowsLostError: a chunk has other rows than were read for it.
            UserError: the run has lost its directory to another one.
        """
        self.run.guard()
        where = (summary["dataset"], summary["shard"])
        if where in self.marked:  # a task that Ray ran twice
            return
        shard, end = self.open.setdefault(where, _Open()), json.loads(summary["end"])
        if end is None:
            shard.done[summary["chunk"]] = (int(summary["rows"]), int(summary["rejects"]))
        else:
            shard.end = end
        if shard.end is None or shard.end["read"].keys() - shard.done.keys():
            return
        for chunk, read in shard.end["read"].items():
            if sum(shard.done[chunk]) != read:
                raise RowsLostError(
                    f"chunk {chunk} of data set '{where[0]}': {read} samples were read, but "
                    f"{shard.done[chunk][0]} scored and {shard.done[chunk][1]} rejected"
                )
        for chunk in shard.end["before"]:  # of an earlier try, whose counts are in its files
            shard.done[chunk] = (
                self.run.work.count(self.kinds[-1], *where, chunk),
                self.run.work.count("rejects", *where, chunk),
            )
        mark = Mark(chunks=dict(sorted(shard.done.items())))
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
