"""Which samples a pilot takes: few, the same at every call, from all over each data set.

Those of a data set are cut into as many ranges as samples are wanted, and of each range one sample
is drawn, with a seed: even, and yet in step with nothing that the data may repeat.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.data import FORMATS, Shard, count_samples, read_samples
from dawin_ray.storage import filesystem, is_local

# Of all samples, and how many that is at least and at most.
SHARE, LEAST, MOST = 0.01, 500, 20_000

FLOOR = 64  # samples of a data set, of as many as it has

# Samples of a shard of many, at least, so that few are opened for a few: one on this machine is
# leapt through, one elsewhere has to be passed through whole.
OF_SHARD, OF_SHARD_ELSEWHERE = 16, 256

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many samples each of a data set's shards has, and whether that is known or estimated."""

    samples: tuple[int, ...]
    known: bool

    @property
    def total(self) -> int:
        """Of all shards."""
        return sum(self.samples)


def counted(shards: Sequence[Shard]) -> Counted:
    """Samples of each shard. Where headers do not tell, as of tars elsewhere, they are estimated.

    For that the first such shard is passed through, and the others go by its bytes a sample.

    Raises:
        UserError: the storage fails.
    """
    counts = [count_samples(shard) for shard in shards]
    unknown = next((i for i, count in enumerate(counts) if count is None), None)
    if unknown is None:
        return Counted(samples=tuple(count or 0 for count in counts), known=True)
    first = shards[unknown]
    passed = sum(not sample.broken for sample in read_samples(first, lambda _: False))
    each = first.bytes / max(passed, 1)
    samples = [
        max(1, round(shard.bytes / each)) if count is None else count
        for shard, count in zip(shards, counts, strict=True)
    ]
    samples[unknown] = passed
    return Counted(samples=tuple(samples), known=counts.count(None) == 1)


def quotas(totals: Mapping[str, int], samples: int | None = None) -> dict[str, int]:
    """Samples to take of each data set: in proportion to `totals`, FLOOR of each that has them.

    In all `samples`, or SHARE of them, LEAST to MOST.
    """
    there = sum(totals.values())
    wanted = max(LEAST, min(MOST, math.ceil(SHARE * there))) if samples is None else samples
    wanted = min(there, wanted)
    floor = min(FLOOR, wanted // max(len(totals), 1))
    return {
        name: min(total, max(floor, round(wanted * total / max(there, 1))))
        for name, total in totals.items()
    }


def picks(shards: Sequence[Shard], counts: Counted, wanted: int) -> dict[int, list[int]]:
    """By the place of a shard, the ordinals of the samples to take of it, sorted; empty shards not.

    Of shards of many samples so many are taken part of as give each of them OF_SHARD.
    """
    filled = [place for place, count in enumerate(counts.samples) if count]
    if not filled or not wanted:
        return {}
    chosen = _spread(filled, max(1, wanted // _of_shard(shards[filled[0]])))
    ends = list(itertools.accumulate(counts.samples[place] for place in chosen))
    found: dict[int, list[int]] = {}
    for sample in _one_of_each(ends[-1], min(wanted, ends[-1]), shards[filled[0]].dataset):
        at = int(np.searchsorted(ends, sample, side="right"))
        found.setdefault(chosen[at], []).append(sample - (ends[at - 1] if at else 0))
    return found


def _of_shard(shard: Shard) -> int:
    if FORMATS[shard.format].of_images:
        return 1  # each image is a file of its own
    return OF_SHARD if is_local(filesystem(shard.address)[0]) else OF_SHARD_ELSEWHERE


def _spread(places: Sequence[int], count: int) -> list[int]:
    """So many of them, evenly; all where there are no more."""
    if count >= len(places):
        return list(places)
    return [places[int((i + 0.5) * len(places) / count)] for i in range(count)]


def _one_of_each(total: int, count: int, key: str) -> list[int]:
    """One number of each of `count` equal ranges of 0..total - 1, sorted; all where they are all.

    Drawn by the key, which is the data set's name.
    """
    draw = np.random.default_rng([SEED, zlib.crc32(key.encode("utf-8", "surrogatepass"))])
    bounds = [total * i // count for i in range(count + 1)]
    return [int(draw.integers(low, high)) for low, high in itertools.pairwise(bounds)]
