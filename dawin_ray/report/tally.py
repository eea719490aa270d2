"""TODO: report.tally (of report)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray import tables
from dawin_ray.data import FORMATS, Shard
from dawin_ray.engine import Resources, Timing
from dawin_ray.method import Fit
from dawin_ray.passes import ScoringSpec
from dawin_ray.runs import COLUMNS as COLUMNS_OF_BROKEN
from dawin_ray.runs import RunDirectory, broken_shards
from dawin_ray.storage import join

COLUMNS = [
    "label", "prediction", "cluster", "coefficient", "expert_prediction", "even_prediction",
    "float32_prediction",
]  # fmt: skip


def summarise(
    run: RunDirectory,
    spec: ScoringSpec,
    shards: Mapping[str, Sequence[Shard]],
    fits: Mapping[str, Fit],
    on: Resources,
    timings: Mapping[str, Timing],
) -> dict[str, Any]:
    """The report of a run. Accuracies are over the rows with a label, and null without any."""
    names = [expert.name for expert in spec.model.experts]
    rejects, broken = _rejects_of(run, shards)
    datasets = []
    for dataset in shards:
        tally = _Tally(names, fits[dataset], even=spec.baselines.even_interpolation)
        for table in run.read_parts("predictions", f"dataset={dataset}", columns=COLUMNS):
            if table.num_rows:
                tally.add(table)
        busy = sum(timing.seconds[dataset] for timing in timings.values()) / on.actors
        scored = next(iter(timings.values())).rows[dataset]
        datasets.append(
            {
                "dataset": dataset,
                "rows": tally.rows,
                "rejects": rejects[dataset],
                "broken": broken[dataset],
                **tally.to_dict(),
                "images_per_second": scored / busy if busy and scored else None,
            }
        )
    return {
        "experts": names,
        "mode": "exact" if spec.exact else "clustered",
        "datasets": datasets,
        "passes": {
            name: {
                "rows": sum(timing.rows.values()),
                "wall_seconds": timing.wall,
                "model_seconds": sum(timing.seconds.values()),
                # from the first forward to the last: how little the models waited
                "model_share": timing.busy_share(on.actors),
                "merges": timing.merges,
            }
            for name, timing in timings.items()
        },
        "compute": {
            "device": on.device,
            "actors": on.actors,
            "threads_per_actor": on.threads,
            "precision": spec.precision,
            "batch_size": spec.batch_size,
        },
        "run_dir": run.address,
        "batch": run.batch,
        "predictions": join(run.root, run.folder("predictions", "dataset=NAME")),
    }


def _rejects_of(
    run: RunDirectory, shards: Mapping[str, Sequence[Shard]]
) -> tuple[Counter[str], dict[str, list[dict[str, Any]]]]:
    """By data set: how many rejects, and the broken shards among them."""
    counts: Counter[str] = Counter()
    broken: dict[str, list[pa.Table]] = {dataset: [] for dataset in shards}
    for table in run.read_parts("rejects", columns=["dataset", *COLUMNS_OF_BROKEN]):
        counts.update(table["dataset"].to_pylist())
        table = table.filter(table["broken"])
        for dataset in set(table["dataset"].to_pylist()):
            broken[dataset].append(table.filter(pc.equal(table["dataset"], dataset)))
    return counts, {
        dataset: broken_shards(
            found, counted=any(FORMATS[s.format].counts_losses for s in shards[dataset])
        )
        for dataset, found in broken.items()
    }


class _Tally:
    """Counts over a data set's predictions, table by table."""

    def __init__(self, experts: list[str], fit: Fit, *, even: bool):
        self.experts, self.mixture = experts, fit.mixture
        self.rows = self.labelled = self.compared = self.agreeing = 0
        self.sizes = np.zeros(0 if fit.mixture is None else len(fit.mixture.weights), dtype=int)
        self.right = dict.fromkeys(
            [*experts, *(["even_interpolation"] if even else []), "dawin"], 0
        )
        self.coefficients = np.zeros(len(experts))  # their sum

    def add(self, table: pa.Table) -> None:
        """Count a table of one row or more."""
        self.rows += table.num_rows
        self.coefficients += tables.rows_of(table["coefficient"], len(self.experts)).sum(axis=0)
        if self.mixture is not None:
            clusters = table["cluster"].to_numpy()
            self.sizes += np.bincount(clusters, minlength=len(self.sizes))
        has_label = np.asarray(table["label"].is_valid())
        self.labelled += int(has_label.sum())
        labels = table["label"].fill_null(-1).to_numpy()
        experts = tables.rows_of(table["expert_prediction"], len(self.experts))
        predictions = dict(zip(self.experts, experts.T, strict=True))
        predictions["dawin"] = table["prediction"].to_numpy()
        if "even_interpolation" in self.right:
            predictions["even_interpolation"] = table["even_prediction"].to_numpy()
        for name, predicted in predictions.items():
            self.right[name] += int((predicted == labels)[has_label].sum())
        compared = np.asarray(table["float32_prediction"].is_valid())
        self.compared += int(compared.sum())
        same = table["float32_prediction"].fill_null(-1).to_numpy() == predictions["dawin"]
        self.agreeing += int(same[compared].sum())

    def to_dict(self) -> dict[str, Any]:
        """The part of a data set's report that follows from its predictions."""
        mixture = self.mixture
        clusters = (
            []
            if mixture is None
            else [
                {"coefficient": mean.tolist(), "weight": float(weight), "size": int(size)}
                for mean, weight, size in zip(
                    mixture.means, mixture.weights, self.sizes, strict=True
                )
            ]
        )
        return {
            "labelled": self.labelled,
            "accuracy": {
                name: right / self.labelled if self.labelled else None
                for name, right in self.right.items()
            },
            "mean_coefficient": (self.coefficients / self.rows).tolist() if self.rows else None,
            "clusters": clusters,
            "mixture_converged": None if mixture is None else mixture.converged,
            "float32_agreement": {"rows": self.compared, "equal": self.agreeing},
        }


def alarms_of(report: Mapping[str, Any]) -> list[str]:
    """What has drifted, as `data set: statistic`; empty where nothing has, or nothing is judged."""
    drift = report["drift"] or {}
    return [f"{dataset}: {name}" for dataset, found in drift.items() for name in found["alarms"]]
