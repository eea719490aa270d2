"""report.html, audit.json and CSV tables: what a person and a spreadsheet read of a finished run.

Made from the run's files alone; made again they are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

import dawin_ray
from dawin_ray.config import Job
from dawin_ray.report import pictures
from dawin_ray.report.audit import audit
from dawin_ray.report.finished import ALPHA, DAWIN, Columns, job_of, scored_datasets
from dawin_ray.report.thumbnails import sheet
from dawin_ray.report.words import shown_p, shown_percent, shown_points
from dawin_ray.runs import (
    AUDIT,
    CSV,
    MANIFEST,
    PAGE,
    Manifest,
    Mixtures,
    RunDirectory,
    read_class_names,
    reseal,
    words_of_broken,
)
from dawin_ray.statistics import BINS, CLASS_PRIOR, COVERAGES, KINDS, LEVEL, RESAMPLES
from dawin_ray.storage import configure, join

TEMPLATE = "page.html.j2"

TABLES = ("scores", "differences", "clusters", "classes")

REPORTS = (AUDIT, PAGE, *(join(CSV, f"{name}.csv") for name in TABLES))  # what `write_page` writes

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a formula begins with in a spreadsheet


def write_page(run: RunDirectory, thumbnails: int = 0) -> dict[str, Any]:
    """Audit a run whose Parquet files are complete, and write page, JSON and tables.

    Where the run is finished, its manifest is brought up to date with them.

    With `thumbnails`, the page shows as many example images of each cluster and outcome; the data
    must be where they were.

    Raises:
        UserError: it is no run with predictions, or its manifest was changed.
    """
    job = job_of(run)
    if finished := run.exists(MANIFEST):
        Manifest.read(run)  # nothing is written over one that was changed
    found = audit_of(run, job)
    run.write_json(AUDIT, found)
    for name, frame in tables_of(found).items():
        run.write_text(join(CSV, f"{name}.csv"), csv_of(frame))
    experts = [expert.name for expert in job.experts]
    configure(job.storage_options)
    sheets = {
        d.name: sheet(d, Columns.read(run, d.name, job.methods, len(experts)), experts, thumbnails)
        for d in job.datasets
        if thumbnails and d.name in scored_datasets(run, job)
    }
    report = run.read_json("report.json")
    broken = [
        line
        for row in report["datasets"]
        for line in words_of_broken(row["dataset"], row.get("broken", []))
    ]
    run.write_text(PAGE, page_of(found, run.address, sheets, report.get("drift"), broken))
    if finished:
        reseal(run, REPORTS)
    return found


def audit_of(run: RunDirectory, job: Job) -> dict[str, Any]:
    """The audit of a run, over those of the job's data sets that it scored."""
    class_names = read_class_names(run)
    names = scored_datasets(run, job)
    inside = job.in_distribution if job.in_distribution in names else None
    rejects: Counter[str] = Counter()
    for table in run.parts.read("rejects", columns=["dataset"]):
        rejects.update(table["dataset"].to_pylist())
    mixtures = {
        name: None if fit.mixture is None else fit.mixture.to_dict()
        for name, fit in Mixtures.read(run).of_datasets.items()
    }
    return audit(
        run,
        names,
        job.methods,
        [expert.name for expert in job.experts],
        rejects,
        in_distribution=inside,
        class_names=class_names,
        mixtures=mixtures,
    )


def tables_of(found: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The audit's figures as flat tables: scores, differences, clusters and classes."""
    scores, differences, clusters, classes = [], [], [], []
    for row in found["datasets"]:
        where = {"dataset": row["dataset"]}
        for name, score in row["methods"].items():
            flat = {"ece": score["ece"], "aurc": score["aurc"]}
            for key in ("accuracy", "nll", "brier"):
                flat |= _flat(key, score[key])
            at = {f"accuracy_at_{k}": v for k, v in score["accuracy_at_coverage"].items()}
            scores.append(where | {"method": name} | flat | at)
        for name, difference in row["differences"].items():
            differences.append(where | {"method": name} | dict(difference))
        for cluster in row["clusters"]:
            shares = cluster["mean_coefficient"] or [None] * len(found["experts"])
            flat = {f"weight_{n}": s for n, s in zip(found["experts"], shares, strict=True)}
            sizes = {"cluster": cluster["cluster"], "size": cluster["size"]}
            clusters.append(where | sizes | flat | _flat("accuracy", cluster["accuracy"] or {}))
        for kind in ("gains", "losses"):
            classes += [where | {"kind": kind} | c for c in row.get("classes", {}).get(kind, [])]
    return {
        "scores": pd.DataFrame(scores),
        "differences": pd.DataFrame(differences),
        "clusters": pd.DataFrame(clusters),
        "classes": pd.DataFrame(classes),
    }


def csv_of(frame: pd.DataFrame) -> str:
    """A table as CSV, in which no text is a formula to a spreadsheet."""
    return frame.map(_no_formula).to_csv(index=False)


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _flat(prefix: str, interval: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix if key == "value" else f"{prefix}_{key}": v for key, v in interval.items()}


def page_of(
    found: Mapping[str, Any],
    address: str,
    sheets: Mapping[str, Sequence[Mapping[str, Any]]],
    drift: Mapping[str, Any] | None,
    broken: Sequence[str] = (),
) -> str:
    """The page, whole: no script, no request.

    `sheets` are example images by data set, `broken` a line for each shard that broke.
    """
    labelled = [row for row in found["datasets"] if row["labelled"]]
    drawn = {
        "suite": pictures.of_suite(found) if found["suite"] else None,
        "robustness": pictures.of_robustness(found),
        "datasets": {row["dataset"]: pictures.of_dataset(row, found) for row in found["datasets"]},
    }
    return template(TEMPLATE).render(
        audit=found,
        labelled=labelled,
        names=[*(m["name"] for m in found["methods"]), DAWIN],
        rivals=[m["name"] for m in found["methods"] if not m["uses_labels"]],
        pictures=drawn,
        sheets=sheets,
        drift=drift,
        broken=broken,
        address=address,
        code=dawin_ray.__version__,
        conventions={
            "level": LEVEL, "alpha": ALPHA, "bins": BINS, "prior": CLASS_PRIOR,
            "resamples": RESAMPLES, "coverages": [f"{c:g}" for c in COVERAGES],
        },
        dawin=DAWIN,
    )  # fmt: skip


def template(name: str) -> jinja2.Template:
    """A template of ours, with the filters that show figures."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dawin_ray.report", "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": shown_percent,
        "points": shown_points,
        "p": shown_p,
        "number": _number,
    }
    environment.globals["kinds"] = KINDS
    return environment.get_template(name)


def _number(value: Mapping[str, Any] | float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        low, high = value["low"], value["high"]
        return f"{value['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}"
