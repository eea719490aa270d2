"""Refuse data of which nothing, or too little, can be used: by their rejects and broken shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from dawin_ray.data import FORMATS, Shard
from dawin_ray.errors import UserError
from dawin_ray.runs.broken import (
    BROKEN_COLUMNS,
    BrokenShard,
    broken_shards,
    lost_at_least,
    words_of_broken,
)  # fmt: skip
from dawin_ray.runs.directory import RunDirectory

SHOWN_REASONS = 10  # of rejects, the most frequent first


def check_usable(
    run: RunDirectory,
    datasets: Mapping[str, Sequence[Shard]],
    limit: float,
    max_broken: int = 0,
) -> None:
    """Refuse data of which nothing, or too little, can be used.

    `limit` is the share of a data set's samples that may be rejected or lost with broken shards;
    `max_broken` is how many shards of the run may be broken.

    Raises:
        UserError: with the reasons, and how often each occurred.
    """
    counted = {name: _counted(run, name, shards) for name, shards in datasets.items()}
    _check_broken({name: broken for name, (_, _, broken) in counted.items()}, max_broken)
    for dataset, shards in datasets.items():
        rows, rejected, broken = counted[dataset]
        lost = lost_at_least(broken) - len(broken)  # beyond a reject for each
        if rows and rejected + lost <= limit * (rows + rejected + lost):
            continue
        reasons: Counter[str] = Counter()
        first = None
        for shard in shards:
            for table in run.work.read_shard("rejects", dataset, shard.key):
                reasons.update(map(kind_of_reason, table["reason"].to_pylist()))
                first = first or table.slice(0, 1).to_pylist()[0]
        told = "".join(
            f"\n  {count:,} x {why}" for why, count in reasons.most_common(SHOWN_REASONS)
        )
        example = f"\nThe first: {first['sample_id']}: {first['reason']}" if first else ""
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


def _counted(
    run: RunDirectory, dataset: str, shards: Sequence[Shard]
) -> tuple[int, int, list[BrokenShard]]:
    """Rows and rejects of a data set, as its shards' marks have them, and its broken shards."""
    rows = rejected = 0

    def rejects() -> Iterator[pa.Table]:
        nonlocal rows, rejected
        for shard in shards:
            chunks = run.work.read_mark("experts", dataset, shard.key).chunks
            for chunk, counts in chunks.items():
                scored, refused = counts or run.work.counts(dataset, shard.key, chunk)
                rows, rejected = rows + scored, rejected + refused
                if refused:
                    yield run.work.read("rejects", dataset, shard.key, chunk, BROKEN_COLUMNS)

    counted = any(FORMATS[shard.format].counts_losses for shard in shards)
    broken = broken_shards(rejects(), counted=counted)
    return rows, rejected, broken


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
