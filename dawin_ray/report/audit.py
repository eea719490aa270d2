"""The audit of a run: what was gained over each baseline, where, and whether it is real.

Everything comes from the run's Parquet files, `mixture.json` and `job.yaml`; no model is needed.
One data set is held at a time, in columns of a few bytes a sample.

Shapes: N samples, M experts, Q compared methods, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dawin_ray.method import Method
from dawin_ray.report.finished import ALPHA, DAWIN, Columns
from dawin_ray.report.words import words_of
from dawin_ray.runs import RunDirectory
from dawin_ray.statistics import scores

HISTOGRAM_BINS = 40

SHOWN_CLASSES = 5  # the largest gains and losses

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def audit(
    run: RunDirectory,
    datasets: Sequence[str],
    methods: Sequence[Method],
    experts: Sequence[str],
    rejects: Mapping[str, int],
    *,
    in_distribution: str | None = None,
    class_names: Mapping[str, Sequence[str] | None] | None = None,
    mixtures: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> dict[str, Any]:
    """All figures of the report, as plain JSON types.

    Differences are DaWin minus the other, over the samples with a label. Their p-values are exact
    McNemar's, adjusted by Holm over all data sets and methods that use no labels.
    """
    found = []
    origin = in_distribution or datasets[0]
    reference = Columns.read(run, origin, methods, len(experts)).of_experts()
    for name in datasets:
        columns = Columns.read(run, name, methods, len(experts))
        found.append(
            {"dataset": name, "rejects": int(rejects.get(name, 0))}
            | {"away": {"from": origin} | _away(columns.of_experts(), reference, experts)}
            | audit_dataset(
                columns, methods, experts, (class_names or {}).get(name),
                (mixtures or {}).get(name),
            )
        )  # fmt: skip
    _adjust(found, methods)
    suite = suite_of(found, methods, in_distribution)
    result = {
        "level": scores.LEVEL,
        "experts": list(experts),
        "methods": [
            {"name": m.name, "kind": m.kind, "weight": m.weight, "uses_labels": m.uses_labels}
            for m in methods
        ],
        "in_distribution": in_distribution,
        "datasets": found,
        "suite": suite,
    }
    return result | {"words": words_of(result)}


def audit_dataset(
    columns: Columns,
    methods: Sequence[Method],
    experts: Sequence[str],
    class_names: Sequence[str] | None = None,
    mixture: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The figures of one data set; those that need labels are None or absent without any."""
    known = columns.label >= 0
    labelled = int(known.sum())
    right = {
        name: (predicted == columns.label)[known] for name, predicted in columns.prediction.items()
    }
    names = [*(m.name for m in methods), DAWIN]
    result: dict[str, Any] = {
        "rows": len(columns.label),
        "labelled": labelled,
        "coefficient": _coefficients(columns.coefficient, experts),
        "mixture": mixture,
        "entropy": {
            name: _moments(columns.entropy[:, i]) for i, name in enumerate(experts)
        },
        "agreement": _agreement(columns, experts),
        "clusters": _clusters(columns, right.get(DAWIN), known),
        "confidence": {
            name: float(np.mean(columns.confidence[name], dtype=np.float64)) if len(known) else None
            for name in names
        },
    }  # fmt: skip
    if not labelled:
        return result | {"methods": {}, "differences": {}}
    result["methods"] = {
        name: _scores(
            right[name], columns.confidence[name][known], columns.nll[name][known],
            columns.brier[name][known],
        )
        for name in names
    }  # fmt: skip
    result["differences"] = {
        m.name: _difference(right[DAWIN], right[m.name], m.uses_labels) for m in methods
    }
    best = max(experts, key=lambda name: right[name].sum())
    labels = columns.label[known]
    result["best_expert"] = best
    result["classes"] = _classes(labels, right[DAWIN], right[best], class_names)
    result["cells"] = _cells(right, experts)
    result["entropy_against_loss"] = {
        name: scores.rank_correlation(columns.entropy[known, i], columns.nll[name][known])
        for i, name in enumerate(experts)
    }
    return result


def _scores(
    right: np.ndarray, confidence: np.ndarray, nll: np.ndarray, brier: np.ndarray
) -> dict[str, Any]:
    error, reliability = scores.calibration(confidence, right)
    aurc, at, curve = scores.selective(confidence, right)
    return {
        "accuracy": scores.accuracy(int(right.sum()), len(right)).to_dict(),
        "nll": scores.mean(nll).to_dict(),
        "brier": scores.mean(brier).to_dict(),
        "ece": error,
        "aurc": aurc,
        "accuracy_at_coverage": at,
        "reliability": reliability,
        "risk_coverage": curve,
    }


def _difference(ours: np.ndarray, theirs: np.ndarray, uses_labels: bool) -> dict[str, Any]:
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return {
        **scores.paired_differences([(better, worse, len(ours))]).to_dict(),
        "better": better,
        "worse": worse,
        # a bound that saw the labels is no rival to be tested against
        "p": None if uses_labels else scores.mcnemar(better, worse),
    }


def _adjust(found: Sequence[dict], methods: Sequence[Method]) -> None:
    """Holm-adjusted p-values of all differences, and what may be said of each."""
    tested = [
        row["differences"][m.name]
        for row in found if row["differences"] for m in methods if not m.uses_labels
    ]  # fmt: skip
    for difference, adjusted in zip(
        tested, scores.holm([d["p"] for d in tested]), strict=True
    ):  # fmt: skip
        difference["p_holm"] = adjusted
        significant = adjusted < ALPHA
        difference["says"] = (
            "no significant difference" if not significant
            else "better" if difference["value"] > 0 else "worse"
        )  # fmt: skip


def suite_of(
    found: Sequence[Mapping[str, Any]], methods: Sequence[Method], in_distribution: str | None
) -> dict[str, Any] | None:
    """Means over the labelled data sets but the in-distribution one; None with fewer than two.

    The intervals of differences hold together at LEVEL: each is at 1 - ALPHA / Q (Bonferroni).
    """
    rows = [r for r in found if r["labelled"] and r["dataset"] != in_distribution]
    if len(rows) < 2:
        return None
    rivals = [m.name for m in methods if not m.uses_labels]
    accuracies, differences = {}, {}
    for name in [*(m.name for m in methods), DAWIN]:
        counts = [
            (round(r["methods"][name]["accuracy"]["value"] * r["labelled"]), r["labelled"])
            for r in rows
        ]
        accuracies[name] = scores.macro_accuracy(counts).to_dict()
    for name in rivals:
        d = [(r["differences"][name], r["labelled"]) for r in rows]
        difference = scores.paired_differences(
            [(x["better"], x["worse"], n) for x, n in d], level=1 - ALPHA / len(rivals)
        )
        significant = difference.low > 0 or difference.high < 0
        differences[name] = difference.to_dict() | {
            "says": "no significant difference" if not significant
            else "better" if difference.value > 0 else "worse"
        }  # fmt: skip
    return {
        "datasets": [r["dataset"] for r in rows],
        "accuracy": accuracies,
        "differences": differences,
    }


def _coefficients(coefficient_NM: np.ndarray, experts: Sequence[str]) -> dict[str, Any]:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return {
        name: _moments(coefficient_NM[:, i])
        | {"histogram": np.histogram(coefficient_NM[:, i].clip(0, 1), edges)[0].tolist()}
        for i, name in enumerate(experts)
    }


def _away(
    here: tuple[np.ndarray, np.ndarray],
    there: tuple[np.ndarray, np.ndarray],
    experts: Sequence[str],
) -> dict[str, Any]:
    """Distances of entropies (nats) and of the last coefficient from another data set's."""
    return {
        "entropy": {
            name: scores.distance(here[0][:, i], there[0][:, i]) for i, name in enumerate(experts)
        },
        "coefficient": scores.distance(here[1][:, -1], there[1][:, -1]),
    }


def _moments(values_N: np.ndarray) -> dict[str, Any]:
    if not len(values_N):
        return {"mean": None, "quantiles": []}
    values_N = values_N.astype(np.float64)
    return {
        "mean": float(values_N.mean()),
        "quantiles": np.quantile(values_N, QUANTILES).tolist(),
    }


def _agreement(columns: Columns, experts: Sequence[str]) -> dict[str, Any]:
    """Where the experts agree and with whom DaWin does; no label is needed."""
    if not len(columns.label):
        return {"all_agree": 1.0, "dawin_with": {}, "dawin_with_none": 0.0}
    ours, theirs_NM = columns.prediction[DAWIN], columns.expert_prediction
    same_NM = theirs_NM == ours[:, None]
    return {
        "all_agree": float((theirs_NM == theirs_NM[:, :1]).all(axis=1).mean()),
        "dawin_with": {name: float(same_NM[:, i].mean()) for i, name in enumerate(experts)},
        "dawin_with_none": float((~same_NM.any(axis=1)).mean()),
    }


def _clusters(
    columns: Columns, right: np.ndarray | None, known: np.ndarray
) -> list[dict[str, Any]]:
    if columns.cluster is None or not len(columns.cluster):
        return []
    count = int(columns.cluster.max()) + 1
    sizes = np.bincount(columns.cluster, minlength=count)
    n_K, right_K = scores.by_group(columns.cluster[known], right, count)
    means_KM = [
        columns.coefficient[columns.cluster == k].mean(axis=0, dtype=np.float64).tolist()
        if sizes[k] else None
        for k in range(count)
    ]  # fmt: skip
    return [
        {
            "cluster": k,
            "size": int(sizes[k]),
            "mean_coefficient": means_KM[k],
            "accuracy": scores.accuracy(right_K[k], n_K[k]).to_dict() if n_K[k] else None,
        }
        for k in range(count)
    ]


def _cells(right: Mapping[str, np.ndarray], experts: Sequence[str]) -> list[dict[str, Any]]:
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
    return [
        {"cell": name, "n": int(mask.sum()), "dawin_right": int(right[DAWIN][mask].sum())}
        for name, mask in cells
    ]


def _classes(
    labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, names: Sequence[str] | None
) -> dict[str, Any]:
    """Classes with the largest gains and losses over the best expert, by shrunk accuracies."""
    count = int(labels.max()) + 1
    n, right = scores.by_group(labels, ours, count)
    _, other = scores.by_group(labels, theirs, count)
    gain = scores.shrunk(right, n) - scores.shrunk(other, n)
    order = [int(c) for c in np.argsort(-gain, kind="stable") if n[c]]

    def row(c: int) -> dict[str, Any]:
        return {
            "class": c, "name": names[c] if names else None, "n": int(n[c]),
            "accuracy": float(right[c] / n[c]), "best_expert": float(other[c] / n[c]),
            "shrunk_gain": float(gain[c]),
        }  # fmt: skip

    return {
        "present": len(order),
        "gains": [row(c) for c in order if gain[c] > 0][:SHOWN_CLASSES],
        "losses": [row(c) for c in reversed(order) if gain[c] < 0][:SHOWN_CLASSES],
    }
