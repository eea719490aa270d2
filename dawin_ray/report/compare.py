"""Runs against each other, sample by sample: two fine-tunings, two dates.

Their rows are read in step, a block at a time. M experts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest

import numpy as np
import pyarrow as pa

from dawin_ray import tables
from dawin_ray.method import named_weights
from dawin_ray.report.figures import ALPHA, Says, verdict
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.words import shown_p, shown_percent, shown_points
from dawin_ray.runs import RunDirectory, table_in_blocks
from dawin_ray.statistics import Interval, accuracy, holm, mcnemar, paired_differences

COLUMNS = ("sample_id", "label", "prediction", "coefficient")  # that are read


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
    for other in others:
        row = Comparison(dataset=dataset, run=other.address)
        if dataset not in other.datasets:
            yield replace(row, says=f"not in {other.address}")
        elif (found := _counted(dataset, first, other)) is None:
            yield replace(row, says="other samples: not comparable pair by pair")
        elif not found.rows:
            yield replace(row, rows=0, says="no samples")
        else:
            yield found.told(row, first.experts, other.experts)


@dataclass
class _Counts:
    """What is counted of two runs' predictions, block by block."""

    rows: int = 0
    changed: int = 0
    known: int = 0  # with the same label in both
    right: tuple[int, int] = (0, 0)  # of these, by run
    better: int = 0
    worse: int = 0
    # of coefficients, added row after row, so that any blocks give the same bits [M]
    weights: tuple[np.ndarray | None, np.ndarray | None] = (None, None)

    def add(self, first: pa.Table, other: pa.Table) -> None:
        """A block of the same samples."""
        label, theirs = (t["label"].fill_null(-1).to_numpy() for t in (first, other))
        a, b = (t["prediction"].to_numpy() for t in (first, other))
        known = (label >= 0) & (label == theirs)
        right, other_right = (a == label)[known], (b == label)[known]
        self.rows += len(label)
        self.changed += int((a != b).sum())
        self.known += int(known.sum())
        self.right = (self.right[0] + int(right.sum()), self.right[1] + int(other_right.sum()))
        self.better += int((other_right & ~right).sum())
        self.worse += int((right & ~other_right).sum())
        self.weights = (_added(self.weights[0], first), _added(self.weights[1], other))

    def told(self, row: Comparison, first: Sequence[str], other: Sequence[str]) -> Comparison:
        """The row with its figures; experts' names by run."""
        means = [
            dict(zip(experts, (total / self.rows).tolist(), strict=True))
            for experts, total in zip((first, other), self.weights, strict=True)
            if total is not None
        ]
        row = replace(
            row,
            rows=self.rows,
            changed=self.changed / self.rows,
            first_weights=means[0],
            weights=means[1],
        )
        if not self.known:
            return row
        return replace(
            row,
            first=accuracy(self.right[0], self.known),
            this=accuracy(self.right[1], self.known),
            difference=paired_differences([(self.better, self.worse, self.known)]),
            better=self.better,
            worse=self.worse,
            p=mcnemar(self.better, self.worse),
        )


def _counted(dataset: str, first: FinishedRun, other: FinishedRun) -> _Counts | None:
    """Of two runs' rows, read in step; None where they are of other samples."""
    found = _Counts()
    blocks = [
        table_in_blocks(of.run, "predictions", dataset, list(COLUMNS)) for of in (first, other)
    ]
    for ours, theirs in zip_longest(*blocks):
        if ours is None or theirs is None or not ours["sample_id"].equals(theirs["sample_id"]):
            return None
        found.add(ours, theirs)
    return found


def _added(total: np.ndarray | None, block: pa.Table) -> np.ndarray:
    column = block["coefficient"]
    rows_NM = tables.rows_of(column, len(column[0])).astype(np.float64)
    if total is not None:
        rows_NM = np.concatenate([total[None], rows_NM])
    added: np.ndarray = np.add.reduce(rows_NM, axis=0)
    return added


def _judged(row: Comparison, adjusted: float) -> Comparison:
    assert row.difference is not None
    return replace(row, p_holm=adjusted, says=verdict(row.difference.value, adjusted < ALPHA))


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
