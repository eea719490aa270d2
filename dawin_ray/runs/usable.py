"""TODO: runs.usable (of ledger)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dawin_ray.data import FORMATS, Shard
from dawin_ray.errors import UserError
from dawin_ray.runs.broken import COLUMNS, broken_shards, lost_at_least, words_of
from dawin_ray.runs.directory import Kind, RunDirectory

SHOWN_REASONS = 10  # of rejects, the most frequent first


class RowsLostError(RuntimeError):
    """Rows read are not rows predicted plus rows rejected: a fault of ours, never ignored."""


def sound_shards(run: RunDirectory, kinds: Sequence[Kind], dataset: str) -> set[str]:
    """Keys of the shards whose marks hold: every chunk that they name is there.

    Of others the marks go, and with them what there is of a chunk that has lost a file, so that it
    is made again.
    """
    there = {kind: run.all_chunks(kind, dataset) for kind in (*kinds, "rejects")}
    sound = set()
    for key in run.marks(kinds[-1], dataset):
        marks = [run.find_mark(kind, dataset, key) for kind in kinds]
        if whole := all(mark is not None and mark == marks[0] for mark in marks):
            for chunk, (_, rejected) in marks[0]["chunks"].items():
                needed = (*kinds, "rejects") if rejected else kinds
                if all(chunk in there[kind].get(key, ()) for kind in needed):
                    continue
                whole = False
                for kind in kinds:
                    run.remove_chunk(kind, dataset, key, chunk)
        if whole:
            sound.add(key)
            continue
        for kind in kinds:
            run.remove_mark(kind, dataset, key)
    return sound


def check_shard(run: RunDirectory, shard: Shard) -> tuple[int, int]:
    """Rows and rejects of a shard, the same in both passes, by chunk and with unique ids.

    Raises:
        RowsLostError: naming the shard and what differs.
    """
    where = (shard.dataset, shard.key)
    first, second = (run.read_mark(k, *where)["chunks"] for k in ("experts", "predictions"))
    names = f"shard '{shard.name}' of data set '{shard.dataset}' in {run.address}"
    if first.keys() != second.keys():
        raise RowsLostError(f"{names}: pass 2 has other chunks than pass 1")
    rows = rejects = 0
    ids: set[str] = set()
    for chunk, (scored, rejected) in first.items():
        rows, rejects = rows + scored, rejects + rejected
        found = run.read("predictions", *where, chunk, ["sample_id"])["sample_id"].to_pylist()
        refused = _ids_of_rejects(run, where, chunk) if rejected else []
        if (len(found), len(refused)) != (scored, rejected):
            raise RowsLostError(
                f"{names}: of chunk {chunk} {scored} samples were scored and {rejected} rejected, "
                f"but there are {len(found)} predictions and {len(refused)} rejects"
            )
        ids.update(found, refused)
    if len(ids) != rows + rejects:
        raise RowsLostError(f"{names}: {rows + rejects} samples have only {len(ids)} names")
    return rows, rejects


def _ids_of_rejects(run: RunDirectory, where: tuple[str, str], chunk: str) -> Iterable[str]:
    return run.read("rejects", *where, chunk, ["sample_id"])["sample_id"].to_pylist()


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
            for table in run.read_shard("rejects", dataset, shard.key):
                reasons.update(map(kind_of, table["reason"].to_pylist()))
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
) -> tuple[int, int, list[dict[str, Any]]]:
    """Rows and rejects of a data set, as its shards' marks have them, and its broken shards."""
    rows = rejected = 0

    def rejects() -> Iterator[pa.Table]:
        nonlocal rows, rejected
        for shard in shards:
            chunks = run.read_mark("experts", dataset, shard.key)["chunks"]
            for chunk, (scored, refused) in chunks.items():
                rows, rejected = rows + scored, rejected + refused
                if refused:
                    yield run.read("rejects", dataset, shard.key, chunk, COLUMNS)

    counted = any(FORMATS[shard.format].counts_losses for shard in shards)
    broken = broken_shards(rejects(), counted=counted)
    return rows, rejected, broken


def _check_broken(broken: Mapping[str, Sequence[Mapping[str, Any]]], limit: int) -> None:
    count = sum(map(len, broken.values()))
    if count <= limit:
        return
    lines = [line for dataset, shards in broken.items() for line in words_of(dataset, shards)]
    lost = sum(map(lost_at_least, broken.values()))
    raise UserError(
        f"{count:,} shard{'s are' if count > 1 else ' is'} broken, which is more than "
        f"max_broken_shards ({limit}), and at least {lost:,} "
        f"sample{'s are' if lost > 1 else ' is'} lost:"
        + "".join(f"\n  {line}" for line in lines)
        + "\nMend the data (fetch or write the shards again), or raise max_broken_shards in the "
        "job and run it again to go on without what is lost: the work done is kept."
    )


def kind_of(reason: str) -> str:
    """A reason without what is particular to a sample."""
    return re.sub(r"\d+", "#", reason)[:100]
