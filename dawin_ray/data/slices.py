"""What one reader reads: a slice of a shard, and the tasks that many slices share.

A slice is a run of consecutive chunks of a shard, by their ordinals: chunk i holds the samples from
`i * chunk_size` on. Chunks keep their names, rows and bytes however a shard is sliced, so that a
run that is resumed may slice it differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from dawin_ray.data.datasets import Shard


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Chunks `first` to `last` of a shard, both included; `last` None is to the shard's end."""

    shard: Shard
    first: int = 0
    last: int | None = None
    index: int = 0  # of this slice among the `count` that the shard was cut into
    count: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its shard."""
        return self.first == 0 and self.last is None

    def holds(self, ordinal: int) -> bool:
        """Whether it has the shard's chunk of this ordinal."""
        return self.first <= ordinal and (self.last is None or ordinal <= self.last)


Task = tuple[Slice, ...]  # what one reader reads, one slice after the other


def to_text(task: Task) -> str:
    """A task as text, for the way to a worker; `slices_of` is its inverse."""
    cuts = [[part.first, part.last, part.index, part.count] for part in task]
    return json.dumps([[part.shard.to_json(), *cut] for part, cut in zip(task, cuts, strict=True)])


def slices_of(text: str) -> Iterator[Slice]:
    """The slices of a task that `to_text` wrote."""
    for shard, first, last, index, count in json.loads(text):
        yield Slice(shard=Shard.from_json(shard), first=first, last=last, index=index, count=count)
