"""From a file a chunk to the tables of a run: what is to be made, and how one table is made.

Tables do not depend on each other, so whoever has the plan may make them in any order, or at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dawin_ray.data import Shard
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Part
from dawin_ray.tables import OF_DATASETS, TABLES, Kind


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """A table that is to be made of the chunks of some shards, in their order."""

    kind: Kind
    folder: tuple[str, ...]
    shards: tuple[tuple[str, str], ...]  # data set and key of each

    def make(self, run: RunDirectory) -> list[Part]:
        """Write the table's parts; made again, they are the same."""
        return run.parts.write(self.folder, TABLES[self.kind], self._chunks(run))

    def _chunks(self, run: RunDirectory) -> Iterator[pa.Table]:
        for dataset, key in self.shards:
            yield from run.work.read_shard(self.kind, dataset, key)


def plan_compaction(shards: Mapping[str, Sequence[Shard]]) -> list[Compaction]:
    """The tables of a run over these shards: those of each data set, and the rejects of all."""
    keys = {name: tuple((s.dataset, s.key) for s in of_set) for name, of_set in shards.items()}
    plan = [
        Compaction(kind=kind, folder=(kind, f"dataset={name}"), shards=of_set)
        for name, of_set in keys.items()
        for kind in OF_DATASETS
    ]
    everything = tuple(key for of_set in keys.values() for key in of_set)
    return [*plan, Compaction(kind="rejects", folder=("rejects",), shards=everything)]


def compact(run: RunDirectory, shards: Mapping[str, Sequence[Shard]]) -> list[Part]:
    """Make all tables of a run; what was written."""
    return [part for compaction in plan_compaction(shards) for part in compaction.make(run)]
