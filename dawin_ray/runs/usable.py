"""Refuse data of which nothing, or too little, can be used: by their rejects and broken shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dawin_ray.errors import UserError
from dawin_ray.runs.broken import (
    BrokenShard,
    lost_at_least,
    merged,
    words_of_broken,
)
from dawin_ray.runs.part_records import ExpertsPart

SHOWN_REASONS = 10  # of rejects, the most frequent first


def check_usable(
    datasets: Mapping[str, Sequence[ExpertsPart]], limit: float, max_broken: int = 0
) -> None:
    """Refuse data of which nothing, or too little, can be used, by the parts of pass 1.

    `limit` is the share of a data set's samples that may be rejected or lost with broken shards;
    `max_broken` is how many shards of the run may be broken.

    Raises:
        UserError: with the reasons, and how often each occurred.
    """
    broken_in = {name: broken_of(parts) for name, parts in datasets.items()}
    _check_broken(broken_in, max_broken)
    for dataset, parts in datasets.items():
        broken = broken_in[dataset]
        rows = sum(shard.rows for part in parts for shard in part.shards)
        rejected = sum(shard.rejects for part in parts for shard in part.shards)
        lost = lost_at_least(broken) - len(broken)  # beyond a reject for each
        if rows and rejected + lost <= limit * (rows + rejected + lost):
            continue
        reasons = sum((Counter(part.reasons) for part in parts), Counter[str]())
        told = "".join(
            f"\n  {count:,} x {why}" for why, count in reasons.most_common(SHOWN_REASONS)
        )
        first = next((part.first for part in parts if part.first is not None), None)
        example = f"\nThe first: {first[0]}: {first[1]}" if first else ""
        if not rows:
            raise UserError(
                f"Data set '{dataset}' has no usable image: {rejected:,} samples were read and all "
                f"rejected:{told}{example}"
            )
        with_shards = f", {lost + len(broken):,} of them lost with broken shards"
        raise UserError(
            f"Data set '{dataset}': {rejected + lost:,} of {rows + rejected + lost:,} samples were "
            f"rejected{with_shards if broken else ''}, "
            f"which is more than max_reject_fraction ({limit:g}):{told}{example}\nMend the data, "
            "or raise max_reject_fraction in the job and run it again: the work done is kept."
        )


def broken_of(parts: Sequence[ExpertsPart]) -> list[BrokenShard]:
    """The broken shards of a data set."""
    return merged(shard for part in parts for shard in part.broken)


def _check_broken(broken: Mapping[str, Sequence[BrokenShard]], limit: int) -> None:
    count = sum(map(len, broken.values()))
    if count <= limit:
        return
    lines = [
        line for dataset, shards in broken.items() for line in words_of_broken(dataset, shards)
    ]
    lost = sum(map(lost_at_least, broken.values()))
    raise UserError(
        f"{count:,} shard{'s are' if count > 1 else ' is'} broken, which is more than "
        f"max_broken_shards ({limit}), and at least {lost:,} "
        f"sample{'s are' if lost > 1 else ' is'} lost:"
        + "".join(f"\n  {line}" for line in lines)
        + "\nMend the data (fetch or write the shards again), or raise max_broken_shards in the "
        "job and run it again to go on without what is lost: the work done is kept."
    )


def kind_of_reason(reason: str) -> str:
    """A reason without what is particular to a sample."""
    return re.sub(r"\d+", "#", reason)[:100]
