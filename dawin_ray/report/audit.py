"""The audit of a run: what was gained over each baseline, where, and whether it is real.

Everything comes from the run's Parquet files, `mixture.json` and `job.yaml`; no model is needed.
One data set is held at a time, in columns of a few bytes a sample.

Shapes: N samples, M experts, Q compared methods, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dawin_ray.method import Method
from dawin_ray.report.figures import (
    ALPHA,
    DAWIN,
    Agreement,
    Audit,
    Away,
    Bin,
    Cell,
    ClassGain,
    ClassGains,
    ClusterAudit,
    CoefficientSpread,
    ComparedMethod,
    Components,
    DatasetAudit,
    Difference,
    MeanDifference,
    Risk,
    Scores,
    Spread,
    Suite,
    verdict,
)
from dawin_ray.report.finished import Columns, FinishedRun
from dawin_ray.report.tasks import costs_of, normalised_of, tasks_of
from dawin_ray.report.words import words_of
from dawin_ray.statistics import scores

HISTOGRAM_BINS = 40

SHOWN_CLASSES = 5  # the largest gains and losses

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def audit(finished: FinishedRun) -> Audit:
    """All figures of a run's page.

    Differences are DaWin minus the other, over the samples with a label. Their p-values are exact
    McNemar's, adjusted by Holm over all data sets and methods that are no bounds.
    """
    origin = finished.in_distribution or finished.datasets[0]
    reference = finished.columns(origin).of_experts()
    found = []
    for name in finished.datasets:
        columns = finished.columns(name)
        away = _away(origin, reference, columns.of_experts(), finished.experts)
        found.append(audit_dataset(finished, name, columns, away))
    datasets = _adjusted(found)
    result = Audit(
        level=scores.LEVEL,
        experts=finished.experts,
        methods=tuple(
            ComparedMethod(
                name=m.name,
                kind=m.kind,
                weight=m.weight,
                uses_labels=m.uses_labels,
                uses_task=m.uses_task,
            )
            for m in finished.methods
        ),
        in_distribution=finished.in_distribution,
        datasets=datasets,
        suite=suite_of(datasets, finished.methods, finished.in_distribution),
        tasks=tasks_of(datasets),
        costs=costs_of(finished),
    )
    return replace(result, words=tuple(words_of(result)))


def audit_dataset(
    finished: FinishedRun, dataset: str, columns: Columns, away: Away
) -> DatasetAudit:
    """The figures of one data set; those that need labels are None or empty without any."""
    experts, known = finished.experts, columns.known
    names = [*(m.name for m in finished.methods), DAWIN]
    mixture, own = finished.mixtures[dataset], finished.tasks.get(dataset)
    found = DatasetAudit(
        dataset=dataset,
        rejects=finished.rejects[dataset],
        away=away,
        rows=len(columns.label),
        labelled=int(known.sum()),
        coefficient=_coefficients(columns.coefficient, experts),
        mixture=None if mixture is None else Components.of(mixture),
        entropy={name: _spread(columns.entropy[:, i]) for i, name in enumerate(experts)},
        agreement=_agreement(columns, experts),
        clusters=_clusters(columns),
        confidence={
            name: float(np.mean(columns.confidence[name], dtype=np.float64)) if len(known) else None
            for name in names
        },
        methods={},
        differences={},
        expert=own,
    )
    if not found.labelled:
        return found
    right = {name: columns.right(name) for name in names}
    best = max(experts, key=lambda name: right[name].sum())
    class_names = finished.class_names[dataset]
    return replace(
        found,
        methods={
            name: _scores(
                right[name], columns.confidence[name][known], columns.nll[name][known],
                columns.brier[name][known],
            )
            for name in names
        },
        differences={
            m.name: _difference(right[DAWIN], right[m.name], m.is_bound)
            for m in finished.methods
        },
        best_expert=best,
        classes=_classes(columns.label[known], right[DAWIN], right[best], class_names),
        cells=_cells(right, experts),
        entropy_against_loss={
            name: scores.rank_correlation(columns.entropy[known, i], columns.nll[name][known])
            for i, name in enumerate(experts)
        },
        normalised=normalised_of(right, own) if own else {},
    )  # fmt: skip


def suite_of(
    found: Sequence[DatasetAudit], methods: Sequence[Method], in_distribution: str | None
) -> Suite | None:
    """Means over the labelled data sets but the in-distribution one; None with fewer than two.

    The intervals of differences hold together at LEVEL: each is at 1 - ALPHA / Q (Bonferroni).
    """
    rows = [row for row in found if row.labelled and row.dataset != in_distribution]
    if len(rows) < 2:
        return None
    rivals = [m.name for m in methods if not m.is_bound]
    accuracies = {}
    for name in [*(m.name for m in methods), DAWIN]:
        right = [round(row.methods[name].accuracy.value * row.labelled) for row in rows]
        counts = [(r, row.labelled) for r, row in zip(right, rows, strict=True)]
        accuracies[name] = scores.macro_accuracy(counts)
    differences = {}
    for name in rivals:
        paired = [(row.differences[name], row.labelled) for row in rows]
        mean = scores.paired_differences(
            [(d.better, d.worse, n) for d, n in paired], level=1 - ALPHA / len(rivals)
        )
        says = verdict(mean.value, mean.low > 0 or mean.high < 0)
        differences[name] = MeanDifference(
            value=mean.value, low=mean.low, high=mean.high, n=mean.n, says=says
        )
    return Suite(
        datasets=tuple(row.dataset for row in rows), accuracy=accuracies, differences=differences
    )


def _scores(
    right: np.ndarray, confidence: np.ndarray, nll: np.ndarray, brier: np.ndarray
) -> Scores:
    error, reliability = scores.calibration(*scores.calibration_bins(confidence, right))
    aurc, at, curve = scores.selective(confidence, right)
    return Scores(
        accuracy=scores.accuracy(int(right.sum()), len(right)),
        nll=scores.mean(nll),
        brier=scores.mean(brier),
        ece=error,
        aurc=aurc,
        accuracy_at_coverage=at,
        reliability=tuple(
            Bin(confidence=b["confidence"], accuracy=b["accuracy"], n=int(b["n"]))
            for b in reliability
        ),
        risk_coverage=tuple(Risk(coverage=b["coverage"], risk=b["risk"]) for b in curve),
    )


def _difference(ours: np.ndarray, theirs: np.ndarray, of_bound: bool) -> Difference:
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    found = scores.paired_differences([(better, worse, len(ours))])
    p = None if of_bound else scores.mcnemar(better, worse)
    return Difference(
        value=found.value, low=found.low, high=found.high, n=found.n, better=better, worse=worse,
        p=p,
    )  # fmt: skip


def _adjusted(found: Sequence[DatasetAudit]) -> tuple[DatasetAudit, ...]:
    """The same with the p-values of all tests adjusted by Holm, and what may be said of each."""
    tests = {
        (row.dataset, name): difference.p
        for row in found
        for name, difference in row.differences.items()
        if difference.p is not None
    }
    adjusted = dict(zip(tests, scores.holm(list(tests.values())), strict=True))

    def judged(row: DatasetAudit, name: str, difference: Difference) -> Difference:
        p = adjusted.get((row.dataset, name))
        if p is None:
            return difference
        return replace(difference, p_holm=p, says=verdict(difference.value, p < ALPHA))

    return tuple(
        replace(
            row,
            differences={
                name: judged(row, name, difference) for name, difference in row.differences.items()
            },
        )
        for row in found
    )


def _away(
    origin: str,
    there: tuple[np.ndarray, np.ndarray],
    here: tuple[np.ndarray, np.ndarray],
    experts: Sequence[str],
) -> Away:
    """Distances of each expert's entropies and coefficients from those of the origin."""
    entropy, coefficient = (
        {name: scores.distance(a[:, i], b[:, i]) for i, name in enumerate(experts)}
        for a, b in zip(here, there, strict=True)
    )
    return Away(origin=origin, entropy=entropy, coefficient=coefficient)


def _spread(values_N: np.ndarray) -> Spread:
    if not len(values_N):
        return Spread(mean=None, quantiles=())
    values_N = values_N.astype(np.float64)
    quantiles = tuple(np.quantile(values_N, QUANTILES).tolist())
    return Spread(mean=float(values_N.mean()), quantiles=quantiles)


def _coefficients(
    coefficient_NM: np.ndarray, experts: Sequence[str]
) -> dict[str, CoefficientSpread]:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    found = {}
    for i, name in enumerate(experts):
        spread = _spread(coefficient_NM[:, i])
        counts = np.histogram(coefficient_NM[:, i].clip(0, 1), edges)[0]
        found[name] = CoefficientSpread(
            mean=spread.mean, quantiles=spread.quantiles, histogram=tuple(counts.tolist())
        )
    return found


def _agreement(columns: Columns, experts: Sequence[str]) -> Agreement:
    """Where the experts agree and with whom DaWin does; no label is needed."""
    if not len(columns.label):
        return Agreement(all_agree=1.0, dawin_with={}, dawin_with_none=0.0)
    ours, theirs_NM = columns.prediction[DAWIN], columns.expert_prediction
    same_NM = theirs_NM == ours[:, None]
    return Agreement(
        all_agree=float((theirs_NM == theirs_NM[:, :1]).all(axis=1).mean()),
        dawin_with={name: float(same_NM[:, i].mean()) for i, name in enumerate(experts)},
        dawin_with_none=float((~same_NM.any(axis=1)).mean()),
    )


def _clusters(columns: Columns) -> tuple[ClusterAudit, ...]:
    cluster_N = columns.cluster
    if cluster_N is None or not len(cluster_N):
        return ()
    count = int(cluster_N.max()) + 1
    sizes = np.bincount(cluster_N, minlength=count)
    n_K, right_K = scores.by_group(cluster_N[columns.known], columns.right(DAWIN), count)

    def mean(k: int) -> tuple[float, ...]:
        mean_M = columns.coefficient[cluster_N == k].mean(axis=0, dtype=np.float64)
        return tuple(mean_M.tolist())

    return tuple(
        ClusterAudit(
            cluster=k,
            size=int(sizes[k]),
            mean_coefficient=mean(k) if sizes[k] else None,
            accuracy=scores.accuracy(right_K[k], n_K[k]) if n_K[k] else None,
        )
        for k in range(count)
    )


def _cells(right: Mapping[str, np.ndarray], experts: Sequence[str]) -> tuple[Cell, ...]:
    """By which experts are right: how many samples, and on how many of them DaWin is."""
    rights_NM = np.stack([right[name] for name in experts], axis=1)
    how_many = rights_NM.sum(axis=1)
    cells = [("all experts right", how_many == len(experts)), ("no expert right", how_many == 0)]
    cells += [
        (f"only {name} right", (how_many == 1) & rights_NM[:, i])
        for i, name in enumerate(experts)
    ]  # fmt: skip
    if len(experts) > 2:
        cells.append(("several, not all right", (how_many > 1) & (how_many < len(experts))))
    return tuple(
        Cell(cell=name, n=int(mask.sum()), dawin_right=int(right[DAWIN][mask].sum()))
        for name, mask in cells
    )


def _classes(
    labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, names: Sequence[str] | None
) -> ClassGains:
    """Classes with the largest gains and losses over the best expert, by shrunk accuracies."""
    count = int(labels.max()) + 1
    n, right = scores.by_group(labels, ours, count)
    _, other = scores.by_group(labels, theirs, count)
    gain = scores.shrunk(right, n) - scores.shrunk(other, n)
    order = [int(c) for c in np.argsort(-gain, kind="stable") if n[c]]

    def row(c: int) -> ClassGain:
        return ClassGain(
            index=c, name=names[c] if names else None, n=int(n[c]),
            accuracy=float(right[c] / n[c]), best_expert=float(other[c] / n[c]),
            shrunk_gain=float(gain[c]),
        )  # fmt: skip

    return ClassGains(
        present=len(order),
        gains=tuple(row(c) for c in order if gain[c] > 0)[:SHOWN_CLASSES],
        losses=tuple(row(c) for c in reversed(order) if gain[c] < 0)[:SHOWN_CLASSES],
    )
