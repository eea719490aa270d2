"""Shards that broke: which, why, and how many samples are lost with them.

A reject stands for a sample, but where a shard broke it stands for all that was not read of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

BROKEN_COLUMNS = ["shard", "reason", "broken", "lost"]  # of the rejects

SHOWN_BROKEN = 10  # shards that are named where a person reads


def broken_shards(rejects: Iterable[pa.Table], *, counted: bool) -> list[dict[str, Any]]:
    """The broken shards among a data set's rejects: [{shard, reason, lost, estimated}].

    `lost` is None where nothing tells. It is `counted` where a file's footer has its rows (Parquet)
    and estimated from bytes else.
    """
    found: dict[str, dict[str, Any]] = {}
    for table in rejects:
        for row in table.select(BROKEN_COLUMNS).filter(table["broken"]).to_pylist():
            known = found.setdefault(
                row["shard"], {"shard": row["shard"], "reason": row["reason"], "lost": 0}
            )
            lost = (known["lost"], row["lost"])
            known["lost"] = None if None in lost else sum(lost)
    return [{**shard, "estimated": not counted} for shard in found.values()]


def lost_at_least(shards: Sequence[Mapping[str, Any]]) -> int:
    """Samples lost with broken shards; one for each that nothing is known of."""
    return sum(max(shard["lost"] or 0, 1) for shard in shards)


def words_of_broken(dataset: str, shards: Sequence[Mapping[str, Any]]) -> list[str]:
    """The broken shards of a data set, a line each, the first SHOWN_BROKEN of them."""
    lines = [
        f"{dataset}: {shard['shard']}: {words_of_loss(shard)} lost: {shard['reason']}"
        for shard in shards[:SHOWN_BROKEN]
    ]
    if left := shards[SHOWN_BROKEN:]:
        lines.append(f"{dataset}: and {len(left):,} more broken shards")
    return lines


def words_of_loss(shard: Mapping[str, Any]) -> str:
    """How many samples a broken shard lost."""
    lost = shard["lost"]
    if lost is None:
        return "an unknown number of samples"
    samples = f"{lost:,} sample{'' if lost == 1 else 's'}"
    return f"about {samples} (estimated)" if shard["estimated"] else samples
