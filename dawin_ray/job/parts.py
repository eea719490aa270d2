"""Behind each pass, the parts of its tables: made in tasks of the engine.

The driver has a plan and a record of each part, and of no row.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from posixpath import basename

import numpy as np

from dawin_ray.data import Shard
from dawin_ray.job.progress import step
from dawin_ray.job.running import Passes
from dawin_ray.runs import (
    Compared,
    ExpertsPart,
    Part,
    PartPlan,
    PredictionsPart,
    RowsLostError,
    Spread,
    count_chunks,
    make_experts,
    make_predictions,
    merge_summaries,
    part_name,
    plan_counting,
    plan_merging,
    plan_parts,
    plan_spreads,
    read_summary,
    repeated_names,
)
from dawin_ray.statistics import Summary

FirstParts = dict[str, list[tuple[PartPlan, ExpertsPart]]]  # by data set


def experts_parts(passes: Passes, shards: Mapping[str, Sequence[Shard]]) -> FirstParts:
    """The parts of pass 1, and of the rejects; those that are there stay.

    Raises:
        UserError: a file of the work is lost or damaged.
        RowsLostError: rows that were read are not there, or two samples of a shard have one name.
    """
    run, parts = passes.run, FirstParts()
    with step(passes.progress.say, "tables of pass 1") as found:
        uncounted = plan_counting(shards)
        counted = passes.engine.map(partial(count_chunks, run), uncounted, passes.on)
        counts = itertools.chain.from_iterable(counted)
        plans = plan_parts(shards, counts, passes.chunk_size)
        made = passes.engine.map(partial(make_experts, run), plans, passes.on)
        for plan, part in zip(plans, made, strict=True):
            parts.setdefault(plan.dataset, []).append((plan, part))
        _check_names(passes, parts)
        found(_told(len(plans)))
    if passes.state == "unfinished":
        for dataset, of_set in parts.items():
            for kind in ("experts", "predictions"):
                names = {part_name(plan.number) for plan, _ in of_set}
                run.parts.keep_only((kind, f"dataset={dataset}"), names)
        records = [record for of_set in parts.values() for _, record in of_set]
        kept = {basename(r.rejects.path) for r in records if r.rejects is not None}
        run.parts.keep_only(("rejects",), kept)
    return parts


def predictions_parts(
    passes: Passes, compared: Compared, first: FirstParts
) -> list[PredictionsPart]:
    """The parts of pass 2, which hold the same samples as those of pass 1. Raises as the others."""
    items = [item for of_set in first.values() for item in of_set]
    task = partial(make_predictions, passes.run, compared)
    with step(passes.progress.say, "tables of predictions") as found:
        made = list(passes.engine.map(task, items, passes.on))
        found(_told(len(items)))
    return made


def summaries_of(
    passes: Passes, first: FirstParts, second: Sequence[PredictionsPart]
) -> dict[str, Summary]:
    """The summary of each data set's rows: those of its parts, merged in a tree of tasks.

    Raises:
        UserError: a summary is lost or damaged.
        RowsLostError: a merged one is not of the samples of pass 1.
    """
    run, parts = passes.run, iter(second)
    trees = {name: [next(parts).summary for _ in of_set] for name, of_set in first.items()}
    level = 1
    while any(len(files) > 1 for files in trees.values()):
        plans = {
            name: plan_merging(name, level, files) for name, files in trees.items() if files[1:]
        }
        items = [merging for of_set in plans.values() for merging in of_set]
        merged = passes.engine.map(partial(merge_summaries, run), items, passes.on)
        trees |= {name: [next(merged) for _ in of_set] for name, of_set in plans.items()}
        level += 1
    merged_of = {name: read_summary(run, files[0]) for name, files in trees.items()}
    for name, summary in merged_of.items():
        _check_ids(run.address, name, summary, [record for _, record in first[name]])
    return merged_of


def records_of(first: FirstParts) -> dict[str, list[ExpertsPart]]:
    """What was noted of the parts of pass 1, by data set."""
    return {dataset: [record for _, record in of_set] for dataset, of_set in first.items()}


def files_of_parts(first: FirstParts, second: Iterable[PredictionsPart]) -> list[Part]:
    """All files of the tables, as a manifest lists them."""
    files = [part for of_set in first.values() for _, record in of_set for part in record.outputs]
    return [*files, *(part for record in second for part in record.outputs)]


def counts_of_shards(
    first: FirstParts, shards: Mapping[str, Sequence[Shard]]
) -> dict[str, list[tuple[int, int]]]:
    """Rows and rejects of each shard of a data set, in the order of its shards."""
    counts: dict[str, list[tuple[int, int]]] = {}
    for dataset, of_set in shards.items():
        rows, rejects = Counter[str](), Counter[str]()
        for _, record in first[dataset]:
            for shard in record.shards:
                rows[shard.key] += shard.rows
                rejects[shard.key] += shard.rejects
        counts[dataset] = [(rows[shard.key], rejects[shard.key]) for shard in of_set]
    return counts


def _check_names(passes: Passes, parts: FirstParts) -> None:
    """Of shards that are in several parts, by tasks; the others' names were compared already."""
    run, repeated = passes.run, Counter[Spread]()
    spreads = plan_spreads(item for of_set in parts.values() for item in of_set)
    found = passes.engine.map(partial(repeated_names, run), spreads, passes.on)
    for spread, count in zip(spreads, found, strict=True):
        repeated[replace(spread, share=0)] += count
    for spread, count in repeated.items():
        if count:
            raise RowsLostError(
                f"shard '{spread.shard}' of data set '{spread.dataset}' in {run.address}: "
                f"{spread.count} samples have only {spread.count - count} names"
            )


def _check_ids(address: str, dataset: str, summary: Summary, parts: Sequence[ExpertsPart]) -> None:
    rows, ids = sum(part.experts.rows for part in parts), np.array([part.ids for part in parts])
    if summary.rows != rows or (summary.counts.ids != ids.sum(axis=0)).any():
        raise RowsLostError(
            f"data set '{dataset}' in {address}: {rows} samples were scored in pass 1, and the "
            f"summary of the predictions is of {summary.rows}, or of others"
        )


def _told(count: int) -> str:
    return f"{count:,} part{'' if count == 1 else 's'}"
