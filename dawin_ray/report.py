"""What a person reads afterwards: report.json from Parquet, and the table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from dawin_ray import tables
from dawin_ray.fitting import Fit
from dawin_ray.pipeline import Resources
from dawin_ray.prepare import Prepared
from dawin_ray.progress import Timing
from dawin_ray.runs import RunDirectory

COLUMNS = ["label", "prediction", "cluster", "expert_prediction", "even_prediction"]


def summarise(
    run: RunDirectory,
    prepared: Prepared,
    fits: Mapping[str, Fit],
    on: Resources,
    timings: Mapping[str, Timing],
) -> dict[str, Any]:
    """The report of a run. Accuracies are over the rows with a label, and null without any."""
    names = [expert.name for expert in prepared.job.experts]
    rejects = [d for table in run.rejects() for d in table["dataset"].to_pylist()]
    datasets = []
    for dataset in prepared.shards:
        mixture = fits[dataset].mixture
        rows, labelled, sizes = 0, 0, np.zeros(len(mixture.weights), dtype=int)
        right = dict.fromkeys([*names, "even_interpolation", "dawin"], 0)
        for table in run.read_all("predictions", dataset, COLUMNS):
            rows += table.num_rows
            if not table.num_rows:
                continue
            sizes += np.bincount(table["cluster"].to_numpy(), minlength=len(sizes))
            has_label = np.asarray(table["label"].is_valid())
            labelled += int(has_label.sum())
            labels = table["label"].fill_null(-1).to_numpy()
            experts = tables.rows_of(table["expert_prediction"], len(names))
            predictions = dict(zip(names, experts.T, strict=True))
            predictions["dawin"] = table["prediction"].to_numpy()
            if prepared.spec.even_interpolation:
                predictions["even_interpolation"] = table["even_prediction"].to_numpy()
            for name, predicted in predictions.items():
                right[name] += int((predicted == labels)[has_label].sum())
        if not prepared.spec.even_interpolation:
            del right["even_interpolation"]
        busy = sum(timing.seconds[dataset] for timing in timings.values()) / on.actors
        scored = timings["experts"].rows[dataset]
        datasets.append(
            {
                "dataset": dataset,
                "rows": rows,
                "rejects": rejects.count(dataset),
                "labelled": labelled,
                "accuracy": {k: v / labelled if labelled else None for k, v in right.items()},
                "clusters": [
                    {"coefficient": mean.tolist(), "weight": float(weight), "size": int(size)}
                    for mean, weight, size in zip(
                        mixture.means, mixture.weights, sizes, strict=True
                    )
                ],
                "mixture_converged": mixture.converged,
                "images_per_second": scored / busy if busy and scored else None,
            }
        )
    return {
        "experts": names,
        "datasets": datasets,
        "passes": {
            name: {
                "rows": sum(timing.rows.values()),
                "wall_seconds": timing.wall,
                "model_seconds": sum(timing.seconds.values()),
                "merges": timing.merges,
            }
            for name, timing in timings.items()
        },
        "compute": {
            "device": on.device,
            "actors": on.actors,
            "threads_per_actor": on.threads,
            "precision": prepared.spec.dtype,
            "batch_size": prepared.spec.batch_size,
        },
        "run_dir": run.address,
    }


def table_of(report: Mapping[str, Any]) -> Table:
    """The report's data sets as a table: accuracies in percent, clusters as mean (size)."""
    scored = [*report["experts"], "even_interpolation", "dawin"]
    present = [name for name in scored if name in report["datasets"][0]["accuracy"]]
    headings = {"even_interpolation": "even", "dawin": "DaWin"}
    table = Table(title=f"Accuracy (%) · {report['run_dir']}", title_justify="left")
    table.add_column("data set")
    table.add_column("rows", justify="right")
    table.add_column("rejects", justify="right")
    for name in present:
        table.add_column(headings.get(name, name), justify="right")
    last = report["experts"][-1]
    table.add_column(f"clusters: weight of {last} (size)")
    table.add_column("images/s", justify="right")
    for row in report["datasets"]:
        clusters = ", ".join(f"{c['coefficient'][-1]:.2f} ({c['size']:,})" for c in row["clusters"])
        rate = row["images_per_second"]
        table.add_row(
            row["dataset"],
            f"{row['rows']:,}",
            f"{row['rejects']:,}",
            *[_percent(row["accuracy"][name]) for name in present],
            clusters,
            f"{rate:,.0f}" if rate else "–",
        )
    labelled = [row for row in report["datasets"] if row["labelled"]]
    if len(labelled) > 1:
        means = [np.mean([row["accuracy"][name] for row in labelled]) for name in present]
        table.add_section()
        table.add_row(f"mean of {len(labelled)}", "", "", *map(_percent, means), "", "")
    return table


def footer_of(report: Mapping[str, Any]) -> str:
    """Pace, device and the paths written, one a line."""
    on, run_dir = report["compute"], report["run_dir"]
    passes = [
        f"{name} {p['rows']:,} images in {p['wall_seconds']:.1f} s"
        for name, p in report["passes"].items()
    ]
    return "\n".join(
        [
            f"{'; '.join(passes)} ({on['actors']} × {on['device']}, {on['precision']}). "
            "images/s: both passes, time in the models.",
            f"predictions  {run_dir}/predictions/dataset=NAME/*.parquet",
            f"report       {run_dir}/report.json",
        ]
    )


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.1f}"
