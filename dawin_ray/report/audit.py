"""The audit of a run: what was gained over each baseline, where, and whether it is real.

Everything comes from the run's Parquet files, `mixture.json` and `job.yaml`; no model is needed.
One data set is held at a time, as a summary: memory does not grow with samples.

Shapes: M experts, Q methods, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dawin_ray.method import DAWIN, Method, Mixture
from dawin_ray.report.action import actions_of
from dawin_ray.report.by_class import ByClass
from dawin_ray.report.doctor import doubts_of, examine, unjudged
from dawin_ray.report.figures import (
    ALPHA,
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
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.meanings import meaning_of
from dawin_ray.report.patient import Patient
from dawin_ray.report.tasks import costs_of, normalised_of, tasks_of
from dawin_ray.report.words import answer_of, words_of
from dawin_ray.statistics import Sketch, Summary, distance, estimates_of, floats_of, scores

HISTOGRAM_BINS = 40

SHOWN_CLASSES = 5  # the largest gains and losses

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """An audit, and what is too much for it: the figures of each class, of the labelled sets."""

    audit: Audit
    by_class: Mapping[str, ByClass]


def audit(finished: FinishedRun) -> Audit:
    """All figures of a run's page but those by class. See `audited`."""
    return audited(finished).audit


def audited(finished: FinishedRun) -> Audited:
    """All figures of a run's page.

    Differences are DaWin minus the other, over the samples with a label. Their p-values are exact
    McNemar's, adjusted by Holm in two families: all data sets and the methods that the question is
    about (the incumbent, or every expert), and all data sets and the other methods. More baselines
    thus never hide what was found of the experts. Methods that are bounds are not tested.
    """
    origin = finished.in_distribution or finished.datasets[0]
    reference = finished.summary(origin)
    found, examined, fine, by_class = [], [], {}, {}
    families = families_of(finished)
    names = [*(m.name for m in finished.methods if not m.uses_labels), DAWIN]
    asked = [reference.methods.index(name) for name in names]
    for name in finished.datasets:
        summary = reference if name == origin else finished.summary(name)
        examined.append(
            examine(
                Patient(
                    dataset=name,
                    summary=summary,
                    count=finished.class_counts.get(name),
                    names=finished.class_names[name],
                    own=finished.tasks.get(name),
                )
            )
        )
        fine[name] = summary.counts.fine[:, asked]
        found.append(audit_dataset(finished, name, summary, _away(origin, reference, summary)))
        if summary.labelled:
            by_class[name] = ByClass.of(
                summary,
                finished.class_names[name],
                finished.class_counts.get(name),
                families[0],
            )
    datasets = _adjusted(found, families)
    suite = suite_of(datasets, finished.methods, families, finished.in_distribution)
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
                meaning=meaning_of(m),
            )
            for m in finished.methods
        ),
        in_distribution=finished.in_distribution,
        datasets=datasets,
        suite=suite,
        tasks=tasks_of(datasets),
        costs=costs_of(finished),
        incumbent=finished.incumbent,
        estimates=estimates_of(fine, names),
        doubts=doubts_of(examined),
        unjudged=unjudged(examined),
    )
    result = replace(result, replace_it=answer_of(result))
    result = replace(result, words=(" ".join(actions_of(result)), *words_of(result)))
    return Audited(audit=result, by_class=by_class)


def families_of(finished: FinishedRun) -> tuple[tuple[str, ...], ...]:
    """The methods that are tested together: those that the question is about, and the others."""
    rivals = [method.name for method in finished.methods if not method.is_bound]
    primary = finished.experts if finished.incumbent is None else (finished.incumbent,)
    return primary, tuple(name for name in rivals if name not in primary)


def audit_dataset(
    finished: FinishedRun, dataset: str, summary: Summary, away: Away
) -> DatasetAudit:
    """The figures of one data set; those that need labels are None or empty without any."""
    experts, names = finished.experts, summary.methods
    mixture, own = finished.mixtures[dataset], finished.tasks.get(dataset)
    confidence = floats_of(summary.counts.confidence)
    found = DatasetAudit(
        dataset=dataset,
        rejects=finished.rejects[dataset],
        away=away,
        rows=summary.rows,
        labelled=summary.labelled,
        coefficient=_coefficients(summary),
        mixture=None if mixture is None else Components.of(mixture),
        entropy={
            name: _spread(values) for name, values in zip(experts, summary.entropy, strict=True)
        },
        agreement=_agreement(summary),
        clusters=_clusters(summary, mixture),
        confidence={
            name: float(total / summary.rows) if summary.rows else None
            for name, total in zip(names, confidence, strict=True)
        },
        methods={},
        differences={},
        expert=own,
    )
    if not found.labelled:
        return found
    best = max(experts, key=summary.right)
    losses = summary.sample
    return replace(
        found,
        methods={name: _scores(summary, q) for q, name in enumerate(names)},
        differences={m.name: _difference(summary, m) for m in finished.methods},
        best_expert=best,
        classes=_classes(summary, best, finished.class_names[dataset]),
        cells=_cells(summary),
        entropy_against_loss={
            name: scores.rank_correlation(losses.entropy[:, i], losses.loss[:, i])
            for i, name in enumerate(experts)
        },
        normalised=normalised_of(summary, own) if own else {},
    )


def suite_of(
    found: Sequence[DatasetAudit],
    methods: Sequence[Method],
    families: Sequence[Sequence[str]],
    in_distribution: str | None,
) -> Suite | None:
    """Means over the labelled data sets but the in-distribution one; None with fewer than two.

    The intervals of a family's differences hold together at LEVEL: each is at 1 - ALPHA / its
    methods (Bonferroni).
    """
    rows = [row for row in found if row.labelled and row.dataset != in_distribution]
    if len(rows) < 2:
        return None
    together = {name: len(family) for family in families for name in family}
    accuracies = {}
    for name in [*(m.name for m in methods), DAWIN]:
        right = [round(row.methods[name].accuracy.value * row.labelled) for row in rows]
        counts = [(r, row.labelled) for r, row in zip(right, rows, strict=True)]
        accuracies[name] = scores.macro_accuracy(counts)
    differences = {}
    for name in (m.name for m in methods if m.name in together):
        paired = [(row.differences[name], row.labelled) for row in rows]
        mean = scores.paired_differences(
            [(d.better, d.worse, n) for d, n in paired], level=1 - ALPHA / together[name]
        )
        says = verdict(mean.value, mean.low > 0 or mean.high < 0)
        differences[name] = MeanDifference(
            value=mean.value, low=mean.low, high=mean.high, n=mean.n, says=says
        )
    return Suite(
        datasets=tuple(row.dataset for row in rows), accuracy=accuracies, differences=differences
    )


def _scores(summary: Summary, q: int) -> Scores:
    """Those of a method, the q-th."""
    counts = summary.counts
    n_B, right_B = counts.bins[:, q]
    error, reliability = scores.calibration(n_B, floats_of(counts.bin_confidence[q]), right_B)
    aurc, at, curve = summary.confidence[q].selective()
    nll, brier = (
        scores.mean(int(n), *map(float, floats_of(sums)))
        for n, sums in zip(counts.finite[:, q], counts.losses[:, :, q], strict=True)
    )
    return Scores(
        accuracy=scores.accuracy(int(right_B.sum()), summary.labelled),
        nll=nll,
        brier=brier,
        ece=error,
        aurc=aurc,
        accuracy_at_coverage=at,
        reliability=tuple(
            Bin(confidence=b["confidence"], accuracy=b["accuracy"], n=int(b["n"]))
            for b in reliability
        ),
        risk_coverage=tuple(Risk(coverage=b["coverage"], risk=b["risk"]) for b in curve),
    )


def _difference(summary: Summary, method: Method) -> Difference:
    both = summary.both(DAWIN, method.name)
    better, worse = summary.right(DAWIN) - both, summary.right(method.name) - both
    found = scores.paired_differences([(better, worse, summary.labelled)])
    p = None if method.is_bound else scores.mcnemar(better, worse)
    return Difference(
        value=found.value, low=found.low, high=found.high, n=found.n, better=better, worse=worse,
        p=p,
    )  # fmt: skip


def _adjusted(
    found: Sequence[DatasetAudit], families: Sequence[Sequence[str]]
) -> tuple[DatasetAudit, ...]:
    """The same with the p-values of each family adjusted by Holm, and what may be said of each."""
    adjusted: dict[tuple[str, str], float] = {}
    for family in families:
        tests = {
            (row.dataset, name): difference.p
            for row in found
            for name, difference in row.differences.items()
            if name in family and difference.p is not None
        }
        adjusted |= dict(zip(tests, scores.holm(list(tests.values())), strict=True))

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


def _away(origin: str, there: Summary, here: Summary) -> Away:
    """Distances of each expert's entropies and coefficients from those of the origin."""
    entropy, coefficient = (
        {name: distance(a, b) for name, a, b in zip(here.experts, ours, theirs, strict=True)}
        for ours, theirs in ((here.entropy, there.entropy), (here.coefficient, there.coefficient))
    )
    return Away(origin=origin, entropy=entropy, coefficient=coefficient)


def _spread(values: Sketch) -> Spread:
    if not values.count:
        return Spread(mean=None, quantiles=())
    return Spread(mean=values.mean, quantiles=tuple(values.quantiles(QUANTILES).tolist()))


def _coefficients(summary: Summary) -> dict[str, CoefficientSpread]:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    found = {}
    for name, values in zip(summary.experts, summary.coefficient, strict=True):
        spread = _spread(values)
        found[name] = CoefficientSpread(
            mean=spread.mean,
            quantiles=spread.quantiles,
            histogram=tuple(values.histogram(edges).tolist()),
        )
    return found


def _agreement(summary: Summary) -> Agreement:
    """Where the experts agree and with whom DaWin does; no label is needed."""
    if not summary.rows:
        return Agreement(all_agree=1.0, dawin_with={}, dawin_with_none=0.0)
    all_agree, *with_each, with_none = (summary.counts.agreement / summary.rows).tolist()
    return Agreement(
        all_agree=all_agree,
        dawin_with=dict(zip(summary.experts, with_each, strict=True)),
        dawin_with_none=with_none,
    )


def _clusters(summary: Summary, mixture: Mixture | None) -> tuple[ClusterAudit, ...]:
    weights_KM = floats_of(summary.counts.cluster_weights)
    merged_KM = [] if mixture is None else mixture.means.tolist()
    found = []
    for k, (size, labelled, right) in enumerate(summary.counts.clusters.T):
        mean_M = tuple((weights_KM[k] / size).tolist()) if size else None
        accuracy = scores.accuracy(right, labelled) if labelled else None
        found.append(
            ClusterAudit(
                cluster=k, size=int(size), mean_coefficient=mean_M, accuracy=accuracy,
                weights=tuple(merged_KM[k]) if k < len(merged_KM) else None,
            )
        )  # fmt: skip
    return tuple(found)


def _cells(summary: Summary) -> tuple[Cell, ...]:
    """By which experts are right: how many samples, and on how many of them DaWin is."""
    alone = [f"only {name} right" for name in summary.experts]
    names = ["all experts right", "no expert right", *alone, "several, not all right"]
    if len(summary.experts) == 2:
        del names[-1]
    return tuple(
        Cell(cell=name, n=int(n), dawin_right=int(right))
        for name, (n, right) in zip(names, summary.counts.cells.T, strict=False)
    )


def _classes(summary: Summary, best: str, names: Sequence[str] | None) -> ClassGains:
    """Classes with the largest gains and losses over the best expert, by shrunk accuracies."""
    n = summary.counts.class_n
    right, other = (summary.counts.class_right[summary.methods.index(m)] for m in (DAWIN, best))
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
