"""Shards that broke: which, why, and how many samples are lost with them.

A reject stands for a sample, but where a shard broke it stands for all that was not read of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

BROKEN_COLUMNS = ["shard", "reason", "broken", "lost"]  # of the rejects

SHOWN_BROKEN = 10  # shards that are named where a person reads


@dataclass(frozen=True, kw_only=True)
class BrokenShard:
    """A shard that could not be read to its end.

    `lost`: samples; None where nothing tells. They are counted where a file's footer has its rows
    (Parquet), and estimated from bytes else.
    """

    shard: str
    reason: str
    lost: int | None
    estimated: bool


def broken_shards(rejects: Iterable[pa.Table], *, counted: bool) -> list[BrokenShard]:
    """The broken shards among a data set's rejects; whether their samples are counted."""
    reasons: dict[str, str] = {}
    losses: dict[str, list[int | None]] = {}
    for table in rejects:
        for row in table.select(BROKEN_COLUMNS).filter(table["broken"]).to_pylist():
            reasons.setdefault(row["shard"], row["reason"])
            losses.setdefault(row["shard"], []).append(row["lost"])
    return [
        BrokenShard(shard=shard, reason=reason, lost=_sum(losses[shard]), estimated=not counted)
        for shard, reason in reasons.items()
    ]


def merged(shards: Iterable[BrokenShard]) -> list[BrokenShard]:
    """The same, each shard once: pieces of one may have broken in several places."""
    pieces: dict[str, list[BrokenShard]] = {}
    for shard in shards:
        pieces.setdefault(shard.shard, []).append(shard)
    return [
        replace(first, lost=_sum([piece.lost for piece in (first, *others)]))
        for first, *others in pieces.values()
    ]


def _sum(lost: Sequence[int | None]) -> int | None:
    """None if one of them is unknown."""
    known = [n for n in lost if n is not None]
    return sum(known) if len(known) == len(lost) else None


def lost_at_least(shards: Sequence[BrokenShard]) -> int:
    """Samples lost with broken shards; one for each that nothing is known of."""
    return sum(max(shard.lost or 0, 1) for shard in shards)


def words_of_broken(dataset: str, shards: Sequence[BrokenShard]) -> list[str]:
    """The broken shards of a data set, a line each, the first SHOWN_BROKEN of them."""
    lines = [
        f"{dataset}: {shard.shard}: {words_of_loss(shard)} lost: {shard.reason}"
        for shard in shards[:SHOWN_BROKEN]
    ]
    if left := shards[SHOWN_BROKEN:]:
        lines.append(f"{dataset}: and {len(left):,} more broken shards")
    return lines


def words_of_loss(shard: BrokenShard) -> str:
    """How many samples a broken shard lost."""
    lost = shard.lost
    if lost is None:
        return "an unknown number of samples"
    samples = f"{lost:,} sample{'' if lost == 1 else 's'}"
    return f"about {samples} (estimated)" if shard.estimated else samples
