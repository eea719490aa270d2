"""Runs against each other, sample by sample: two fine-tunings, two dates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from dawin_ray.method import DAWIN, named_weights
from dawin_ray.report.figures import ALPHA, Says, verdict
from dawin_ray.report.finished import Columns, FinishedRun
from dawin_ray.report.words import shown_p, shown_percent, shown_points
from dawin_ray.runs import RunDirectory
from dawin_ray.statistics import Interval, accuracy, holm, mcnemar, paired_differences


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """DaWin of a run against the first run's, on a data set; what does not apply is None.

    `rows` samples are in both, of which `changed` is the share with another prediction, and the
    weights are each run's mean coefficients by expert. From `first` on it is over the samples that
    both have the same label of.
    """

    dataset: str
    run: str
    rows: int | None = None
    changed: float | None = None
    first_weights: Mapping[str, float] | None = None
    weights: Mapping[str, float] | None = None
    first: Interval | None = None
    this: Interval | None = None
    difference: Interval | None = None
    better: int | None = None
    worse: int | None = None
    p: float | None = None
    p_holm: float | None = None
    says: Says | str | None = None  # a verdict, or why there is none


def compare_runs(runs: Sequence[RunDirectory]) -> list[Comparison]:
    """DaWin of each run against the first one's, on the data sets that have the same samples.

    Raises:
        UserError: a run is not finished.
    """
    first, *others = map(FinishedRun.of, runs)
    rows = [row for dataset in first.datasets for row in _on_dataset(dataset, first, others)]
    rows += [
        Comparison(dataset=dataset, run=other.address, says=f"not in {first.address}")
        for other in others
        for dataset in other.datasets
        if dataset not in first.datasets
    ]
    adjusted = iter(holm([row.p for row in rows if row.p is not None]))
    return [row if row.p is None else _judged(row, next(adjusted)) for row in rows]


def _on_dataset(
    dataset: str, first: FinishedRun, others: Sequence[FinishedRun]
) -> Iterator[Comparison]:
    base = first.columns(dataset)
    for other in others:
        row = Comparison(dataset=dataset, run=other.address)
        if dataset not in other.datasets:
            yield replace(row, says=f"not in {other.address}")
            continue
        columns = other.columns(dataset)
        if not base.sample_id.equals(columns.sample_id):
            yield replace(row, says="other samples: not comparable pair by pair")
            continue
        row = replace(
            row,
            rows=len(base.label),
            changed=float((base.prediction[DAWIN] != columns.prediction[DAWIN]).mean()),
            first_weights=_mean_weights(base, first.experts),
            weights=_mean_weights(columns, other.experts),
        )
        yield _paired(row, base, columns)


def _paired(row: Comparison, first: Columns, other: Columns) -> Comparison:
    """The same with figures over the samples that have one label in both."""
    known = first.known & (first.label == other.label)
    n = int(known.sum())
    if not n:
        return row
    a, b = (c.prediction[DAWIN][known] == c.label[known] for c in (first, other))
    better, worse = int((b & ~a).sum()), int((a & ~b).sum())
    return replace(
        row,
        first=accuracy(int(a.sum()), n),
        this=accuracy(int(b.sum()), n),
        difference=paired_differences([(better, worse, n)]),
        better=better,
        worse=worse,
        p=mcnemar(better, worse),
    )


def _judged(row: Comparison, adjusted: float) -> Comparison:
    assert row.difference is not None
    return replace(row, p_holm=adjusted, says=verdict(row.difference.value, adjusted < ALPHA))


def _mean_weights(columns: Columns, experts: Sequence[str]) -> dict[str, float]:
    if not len(columns.label):
        return {}
    means_M = columns.coefficient.mean(axis=0, dtype=np.float64).tolist()
    return dict(zip(experts, means_M, strict=True))


def comparison_lines(rows: Sequence[Comparison], first: str) -> str:
    """A comparison of runs as text."""
    lines = [f"DaWin against the run in {first} (p: exact McNemar, Holm over all lines)"]
    for row in rows:
        line = f"  {row.dataset}, {row.run}: "
        if row.difference is not None:
            line += (
                f"{shown_percent(row.this)} % against {shown_percent(row.first)} %, "
                f"{shown_points(row.difference)} points, {row.better} gained and "
                f"{row.worse} lost of {row.rows:,}, "
                f"p = {shown_p(row.p_holm)}: {row.says}"
            )
        elif row.changed is not None:
            line += f"no labels; {100 * row.changed:.1f} % of the predictions changed"
        else:
            line += f"{row.says}"
        if row.weights and row.first_weights:
            line += f"; mean weights {_shown(row.weights)} against {_shown(row.first_weights)}"
        lines.append(line)
    return "\n".join(lines)


def _shown(weights: Mapping[str, float]) -> str:
    return named_weights(tuple(weights), tuple(weights.values()), digits=3)


def comparison_json(rows: Sequence[Comparison]) -> str:
    """A comparison of runs for another program: what does not apply is left out."""
    found = [{k: v for k, v in asdict(row).items() if v is not None} for row in rows]
    return json.dumps(found, indent=1) + "\n"
