"""Which shards are read in parts, and which share a task: so that no reader is idle long.

Decided by bytes, for so many readers, in one place. Chunks are the same in any case (`slices`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dawin_ray.data.datasets import Shard
from dawin_ray.data.shard_index import may_split
from dawin_ray.data.slices import Slice, Task

# Tasks for each reader, as far as shards give them: so many that none is idle long at the end.
TASKS_PER_READER = 16

# A shard of more than a reader's share over this would keep one busy when the others are done.
LARGE = 4

# Below, a shard is read in some seconds by one reader: an index and more tasks would not pay.
MIN_SPLIT_BYTES = 8 << 20

# Encoded images that tiny shards may bring together in a task: some seconds of decoding.
TASK_BYTES = 64 << 20

# Chunks of shards, by their indexes; None of a shard that is read in one go.
Counts = Callable[[Sequence[Shard]], Iterable[int | None]]


def large_above(shards: Sequence[Shard], readers: int) -> int:
    """Bytes above which a shard is large enough for several readers."""
    total = sum(shard.bytes for shard in shards)
    return max(MIN_SPLIT_BYTES, total // (readers * LARGE)) if readers > 1 else total


def unsplit(large: Sequence[Shard]) -> list[int | None]:
    """No shard has an index."""
    return [None] * len(large)


def tasks_of(
    shards: Sequence[Shard], readers: int, above: int = 0, counts: Counts = unsplit
) -> list[Task]:
    """What readers do, in the order of shards: parts of large ones, tiny neighbours together.

    `above` as of `large_above`, of all shards of the run. `counts` is asked once, for those that
    would be split: the chunks of each, in order.
    """
    share = sum(shard.bytes for shard in shards) // (readers * TASKS_PER_READER)
    large = [shard for shard in shards if shard.bytes > above and may_split(shard)]
    chunks = dict(zip(map(_key, large), counts(large) if large else (), strict=True))
    parts = (part for shard in shards for part in _parts(shard, chunks.get(_key(shard)), share))
    return list(_grouped(parts, min(share, TASK_BYTES)))


def _key(shard: Shard) -> tuple[str, str]:
    return shard.dataset, shard.key


def _parts(shard: Shard, chunks: int | None, share: int) -> Iterator[Slice]:
    """The slices of a shard: about a share each, as equal as whole chunks make them."""
    count = min(chunks or 1, -(-shard.bytes // max(1, share)))
    if count <= 1 or chunks is None:
        yield Slice(shard=shard)
        return
    bounds = [chunks * i // count for i in range(count + 1)]
    for i in range(count):
        last = None if i + 1 == count else bounds[i + 1] - 1
        yield Slice(shard=shard, first=bounds[i], last=last, index=i, count=count)


def _grouped(parts: Iterable[Slice], most: int) -> Iterator[Task]:
    """Whole neighbours together, as long as they have no more bytes than `most`."""
    group: list[Slice] = []
    size = 0
    for part in parts:
        if group and (size + part.shard.bytes > most or not part.is_whole):
            yield tuple(group)
            group, size = [], 0
        group.append(part)
        size += part.shard.bytes
    if group:
        yield tuple(group)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How shards would be read, before any is."""

    split: int  # shards that several readers would share
    above: int  # bytes of the smallest shard that is one of them
    tiny: int  # shards that share a task
    tasks: int  # of those

    def __str__(self) -> str:
        """In words."""
        words = []
        if self.split:
            words.append(
                f"{self.split:,} shards of more than {self.above / 1e6:,.0f} MB in parts by "
                "several readers (compressed ones, and ones elsewhere at first, by one each)"
            )
        if self.tiny:
            words.append(f"{self.tiny:,} small shards together, in {self.tasks:,} tasks")
        return "; ".join(words) or "each shard by one reader"


def forecast(shards: Sequence[Shard], readers: int) -> Forecast:
    """How so many readers would read the shards."""
    above = large_above(shards, readers)
    split = [shard for shard in shards if shard.bytes > above and may_split(shard)]
    shared = [task for task in tasks_of(shards, readers) if len(task) > 1]
    return Forecast(split=len(split), above=above, tiny=sum(map(len, shared)), tasks=len(shared))
