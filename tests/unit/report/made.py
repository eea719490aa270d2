"""A finished run of M experts on made files: what a reader needs of it, and no model behind it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from dawin_ray import tables
from dawin_ray.config import Job, make_job
from dawin_ray.records import read_record
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.tally import Report
from dawin_ray.runs import RunDirectory, rows_of
from dawin_ray.statistics import DriftReport, Rows

EXPERTS = {
    2: ["zero_shot", "fine_tuned"],
    3: ["sketch", "photo", "clip_art"],
    8: [f"task_{i}" for i in range(8)],
}  # by how many they are
LABELLED = {"inside": True, "one": True, "two": True, "bare": False}
CLASSES = 5
CLUSTERS = 3
BASELINES = {"exact": True, "oracle": True, "random": True, "fits": [{"clusters": 1}]}


def job_of(
    root: Path,
    experts: list[str],
    datasets: list[str],
    tasks: Mapping[str, str] = MappingProxyType({}),
    **sections,
) -> Job:
    """A job over these, as `load_job` would give it."""
    values = {
        "run_dir": str(root),
        "model": {"architecture": "ViT-B-32"},
        "experts": [{"name": name, "checkpoint": f"{name}.pt"} for name in experts],
        "datasets": [
            {"name": name, "path": f"/data/{name}", "expert": tasks.get(name)} for name in datasets
        ],
        "mixture": {"clusters": CLUSTERS},
        "baselines": BASELINES,
    }
    return make_job(values | sections, "made.yaml")


def concentrations(experts: int) -> np.ndarray:
    """Of CLUSTERS Dirichlet components, each of which leans towards another expert [K, M]."""
    rows_KM = np.ones((CLUSTERS, experts)) + 0.25 * np.arange(experts)
    rows_KM[np.arange(CLUSTERS), np.arange(CLUSTERS) % experts] += 6
    return rows_KM


def write_run(
    root: Path,
    experts: list[str],
    labelled: dict[str, bool],
    rows: int = 60,
    exact: bool = False,
    tasks: Mapping[str, str] = MappingProxyType({}),
    **sections,
) -> RunDirectory:
    """Files of a run over the data sets of `labelled`; those that are False have no labels.

    `tasks` has the own expert of some of them: weights lean to it, and it is right more often.
    """
    if exact:
        of_exact = {key: value for key, value in BASELINES.items() if key != "fits"}
        sections |= {"mixture": {"clusters": "exact"}, "baselines": of_exact}
    job = job_of(root, experts, list(labelled), tasks, **sections)
    run, count = RunDirectory(str(root)), len(experts)
    draw = np.random.default_rng(0)
    fits = {}
    for name, has_labels in labelled.items():
        cluster = draw.integers(0, CLUSTERS, rows).astype(np.int32)
        coefficient = np.stack([draw.dirichlet(concentrations(count)[k]) for k in cluster])
        if name in tasks:
            leaning = 1 + 3.0 * np.eye(count)[experts.index(tasks[name])]
            coefficient = draw.dirichlet(leaning, rows)
        label = draw.integers(0, CLASSES, rows) if has_labels else [None] * rows
        truth = np.array(label if has_labels else np.zeros(rows), dtype=np.int32)

        def answers(width, truth=truth):
            """Right in some two of three cases, [N, width]."""
            guess = draw.integers(0, CLASSES, (rows, width)).astype(np.int32)
            return np.where(draw.random((rows, width)) < 0.6, truth[:, None], guess)

        def numbers(width):
            return draw.random((rows, width)).astype(np.float32)

        ids = {"sample_id": [f"{name}-{i:04d}" for i in range(rows)], "label": label}
        beside = [m for m in job.methods if m.kind != "fit"]
        baseline = answers(len(beside))
        if name in tasks:
            sure = draw.random(rows) < 0.8
            own = experts.index(tasks[name])
            baseline[sure, own] = truth[sure]
            for q, method in enumerate(beside):
                if method.name == "own_expert":
                    baseline[:, q] = baseline[:, own]
        scored = {
            f"baseline_{key}": numbers(len(beside)) for key in ("confidence", "nll", "brier")
        } | {"baseline_prediction": baseline}
        table = tables.table(tables.EXPERTS, ids | scored)
        run.parts.write(("experts", f"dataset={name}"), tables.EXPERTS, [table])
        other = len(job.methods) - len(beside)
        predicted = {
            "prediction": answers(1)[:, 0], "coefficient": coefficient.astype(np.float32),
            "expert_prediction": baseline[:, :count], "expert_entropy": numbers(count),
            "fit_prediction": answers(other),
        } | {
            f"fit_{key}": numbers(other) for key in ("confidence", "nll", "brier")
        } | {key: numbers(1)[:, 0] for key in ("confidence", "nll", "brier")}  # fmt: skip
        if not exact:
            predicted["cluster"] = cluster
        table = tables.table(tables.PREDICTIONS, ids | predicted)
        run.parts.write(("predictions", f"dataset={name}"), tables.PREDICTIONS, [table])
        mixture = {
            "concentrations": concentrations(count).tolist(), "weights": [0.5, 0.3, 0.2],
            "mean_log_likelihood": 1.5, "converged": True, "iterations": 4, "samples": float(rows),
        }  # fmt: skip
        fits[name] = {
            "datasets": [name], "warnings": [], "samples": rows, "source": "samples",
            "offset": None, "growth": None, "mixture": None if exact else mixture, "beside": {},
        }  # fmt: skip
    run.parts.write(("rejects",), tables.REJECTS, [])
    run.write_text("job.yaml", job.to_yaml())
    run.write_json("classes.json", dict.fromkeys(labelled))
    run.write_json("mixture.json", {"experts": experts, "fits": fits})
    report = report_of(experts, labelled, str(root), rows=rows, exact=exact, tasks=tasks)
    run.write_json("report.json", report)
    return run


def all_rows(run: RunDirectory, dataset: str) -> Rows:
    """A data set's rows, read in one go."""
    finished = FinishedRun.of(run)
    experts, predictions = (
        pa.concat_tables(run.parts.read(kind, f"dataset={dataset}"))
        for kind in ("experts", "predictions")
    )
    return rows_of(experts, predictions, finished.compared)


def recut(run: RunDirectory, dataset: str, rows: Mapping[str, int]) -> None:
    """Cut a data set's tables, by kind, anew into parts of so many rows."""
    for kind, count in rows.items():
        folder = (kind, f"dataset={dataset}")
        whole = pa.concat_tables(run.parts.read(*folder))
        for number, start in enumerate(range(0, whole.num_rows, count)):
            run.parts.write(folder, tables.TABLES[kind], [whole.slice(start, count)], number)


def report_of(
    experts: list[str],
    labelled: dict[str, bool],
    run_dir: str = "/runs/made",
    *,
    rows: int = 60,
    exact: bool = False,
    batch: str | None = None,
    drift: dict | None = None,
    passes: Sequence[str] = ("experts", "merged"),
    tasks: Mapping[str, str] = MappingProxyType({}),
) -> dict:
    """The content of a report.json as runs have written it before it had a version.

    Where it has `tasks`, own experts by data set, it is one of today.
    """
    share = [round((i + 1) / sum(range(1, len(experts) + 1)), 4) for i in range(len(experts))]
    scored = [*experts, "even_interpolation", "dawin"]
    datasets = [
        {
            "dataset": name, "rows": rows, "rejects": 1, "broken": [],
            "labelled": rows if has_labels else 0,
            "accuracy": {key: 0.5 if has_labels else None for key in scored},
            "mean_coefficient": share,
            "clusters": [] if exact else [
                {"coefficient": share, "weight": 0.75, "size": 45},
                {"coefficient": share[::-1], "weight": 0.25, "size": 15},
            ],
            "mixture_converged": None if exact else True,
            "float32_agreement": {"rows": 0, "equal": 0}, "images_per_second": 7.0,
        } | ({"expert": tasks[name], "normalised": {"dawin": 0.8}} if name in tasks else {})
        for name, has_labels in labelled.items()
    ]  # fmt: skip
    timing = {
        "rows": rows, "wall_seconds": 1.0, "model_seconds": 0.5, "model_share": 0.9, "merges": 0,
    }  # fmt: skip
    return {
        "experts": experts, "mode": "exact" if exact else "clustered", "datasets": datasets,
        "passes": dict.fromkeys(passes, timing),
        "compute": {
            "device": "cpu", "actors": 1, "threads_per_actor": 2, "precision": "float32",
            "batch_size": 8,
        },
        "run_dir": run_dir, "batch": batch, "predictions": f"{run_dir}/predictions/dataset=NAME",
        "drift": drift,
    }  # fmt: skip


def report_record(*args, **keywords) -> Report:
    """The same as a record."""
    content = json.dumps(report_of(*args, **keywords)).encode()
    return read_record(Report, content, "report.json")


def drift_of(experts: list[str], alarm: bool = False) -> dict:
    """What a batch's report has of a data set's drift."""
    found = [
        ("psi", "coefficient", name, 0.3 if alarm and name == experts[0] else 0.05)
        for name in experts
    ]  # fmt: skip
    statistics = [
        {
            "kind": kind, "quantity": quantity, "of": of, "value": value, "effect": value,
            "threshold": 0.1, "p": 0.5, "alarm": value > 0.1,
        }
        for kind, quantity, of, value in [*found, ("disagreement", None, None, 0.01)]
    ]  # fmt: skip
    return {
        "n": 60, "reference_n": 100, "judged": True, "statistics": statistics,
        "alarms": [f"coefficient of {experts[0]} (PSI)"] if alarm else [],
        "clusters": {"batch": [0.5, 0.5], "reference": [0.4, 0.6]},
        "disagreement": {"batch": 0.2, "reference": 0.1}, "words": "As it was.",
    }  # fmt: skip


def drift_record(experts: list[str]) -> DriftReport:
    """With an alarm, as `drift_of` of statistics has it."""
    values = drift_of(experts, alarm=True)
    return TypeAdapter(DriftReport).validate_python(values)


OF_TASKS = {
    "averaging": True, "task_arithmetic": [0.3], "ties": {}, "base": True,
    "exact": True, "oracle": True, "coefficients": [{"metric": "cross_entropy",
    "target": "soft_merged"}], "random": True, "fits": [{"clusters": 1}],
}  # fmt: skip


def write_tasks(root: Path, experts: list[str], stray: bool, **sections) -> RunDirectory:
    """A run of a task for each expert, the last of them first, and two sets that are odd.

    `unlabelled` is the first expert's too; and nobody knows whose `stray` is, so that a run with it
    has no `own_expert`.
    """
    tasks = {f"of_{name}": name for name in reversed(experts)} | {"unlabelled": experts[0]}
    labelled = dict.fromkeys(tasks, True) | {"unlabelled": False}
    if stray:
        labelled["stray"] = True
    baselines = OF_TASKS | {"own_expert": not stray}
    sections = {"merge": {"base": "base.safetensors"}, "baselines": baselines} | sections
    return write_run(root, experts, labelled, tasks=tasks, **sections)
