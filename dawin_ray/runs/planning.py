"""From a file a chunk to the tables of a run: which parts there are, and of what chunks.

A part has whole shards while they are small, or a piece of a large one: consecutive chunks in the
order of shards and of names. A large shard begins a part, so that no part has pieces of two. Where
parts begin follows from how many chunks each shard has and from nothing else, so that a run that
was killed plans the same ones. Marks are read, and their chunks counted, in tasks; the driver has a
number of each shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dawin_ray.data import FORMATS, Shard
from dawin_ray.runs.directory import RunDirectory

# Rows of a part, if its chunks are full: some 60 MB a table, one PUT, and seconds of a task.
PART_ROWS = 1 << 19

COUNTED = 1 << 10  # shards whose marks a task reads


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Shards of a data set whose chunks one task counts."""

    dataset: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Chunks of a shard, from the `first` to before the `last` in the order of their names."""

    key: str  # the shard's
    shard: str  # its name
    first: int
    last: int
    of: int  # chunks that the shard has

    @property
    def is_whole(self) -> bool:
        """Whether the shard lies in this part alone."""
        return self.last - self.first == self.of


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """A part of a data set's tables, and of the rejects. Cheap to send to a worker."""

    dataset: str
    number: int  # among the data set's parts
    place: int  # among those of all data sets: the number of its rejects
    counted: bool  # the data set's format counts what a broken shard loses
    pieces: tuple[Piece, ...]


def plan_counting(shards: Mapping[str, Sequence[Shard]]) -> list[Uncounted]:
    """What `count_chunks` is to be asked, so that the answers are in the order of the shards."""
    return [
        Uncounted(
            dataset=dataset, keys=tuple(shard.key for shard in of_set[start : start + COUNTED])
        )
        for dataset, of_set in shards.items()
        for start in range(0, len(of_set), COUNTED)
    ]


def count_chunks(run: RunDirectory, uncounted: Uncounted) -> list[int]:
    """How many chunks each of these shards has, whose first pass has ended.

    Raises:
        UserError: the mark of a shard is lost.
    """
    marks = run.work.read_marks("experts", uncounted.dataset, uncounted.keys)
    return [len(mark.chunks) for mark in marks]


def plan_parts(
    shards: Mapping[str, Sequence[Shard]], counts: Iterable[int], chunk_size: int
) -> list[PartPlan]:
    """The parts of a run; each data set has one at least. `counts` are the chunks of each shard."""
    most, plans, left = max(1, PART_ROWS // chunk_size), list[PartPlan](), iter(counts)
    for dataset, of_set in shards.items():
        counted = any(FORMATS[shard.format].counts_losses for shard in of_set)
        with_counts = ((shard, next(left)) for shard in of_set)
        for number, pieces in enumerate(_cut(with_counts, most)):
            plans.append(
                PartPlan(
                    dataset=dataset,
                    number=number,
                    place=len(plans),
                    counted=counted,
                    pieces=pieces,
                )
            )
    return plans


def _cut(counts: Iterator[tuple[Shard, int]], most: int) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each part, of at most so many chunks; one part where there are none."""
    pending, held, cut = list[Piece](), 0, False
    for shard, count in counts:
        if pending and held + count > most:
            yield tuple(pending)
            pending, held, cut = [], 0, True
        for first in range(0, max(count, 1), most):
            last = min(first + most, count)
            pending.append(Piece(key=shard.key, shard=shard.name, first=first, last=last, of=count))
            held += last - first
            if last < count:
                yield tuple(pending)
                pending, held, cut = [], 0, True
    if pending or not cut:
        yield tuple(pending)
