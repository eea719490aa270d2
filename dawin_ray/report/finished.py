"""TODO: report.finished (of audit, page)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import yaml

from dawin_ray import tables
from dawin_ray.config import Job, make_job
from dawin_ray.errors import UserError
from dawin_ray.method import Method
from dawin_ray.runs import BATCHES, JOB, MIXTURE, RunDirectory, read_class_names
from dawin_ray.statistics import scores
from dawin_ray.storage import join

DAWIN = "dawin"

ALPHA = 1 - scores.LEVEL


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A data set's predictions as arrays; `label` is -1 where there is none."""

    sample_id: pa.ChunkedArray  # string [N]
    label: np.ndarray  # int64 [N]
    prediction: dict[str, np.ndarray]  # method, DaWin among them -> int32 [N]
    confidence: dict[str, np.ndarray]
    nll: dict[str, np.ndarray]
    brier: dict[str, np.ndarray]
    coefficient: np.ndarray  # float32 [N, M]
    cluster: np.ndarray | None  # int32 [N]
    entropy: np.ndarray  # of the experts, float32 [N, M]
    expert_prediction: np.ndarray  # int32 [N, M]

    @classmethod
    def read(
        cls, run: RunDirectory, dataset: str, methods: Sequence[Method], experts: int
    ) -> Columns:
        """Read a data set's two tables, which hold the same samples in the same order.

        Raises:
            RuntimeError: they do not.
        """
        folder = f"dataset={dataset}"

        def column(kind: str, name: str) -> pa.ChunkedArray:
            # one at a time: together they would be held twice
            return pa.concat_tables(run.parts.read(kind, folder, columns=[name]))[name]

        sample_id = column("predictions", "sample_id")
        if not column("experts", "sample_id").equals(sample_id):
            raise RuntimeError(
                f"experts and predictions of data set '{dataset}' in {run.address} hold other "
                "samples, or in another order"
            )
        by_method: dict[str, dict[str, np.ndarray]] = {}
        for name in ("prediction", "confidence", "nll", "brier"):
            found: dict[str, np.ndarray] = {}
            for kind, prefix, chosen in (
                ("experts", "baseline", [m for m in methods if m.kind != "fit"]),
                ("predictions", "fit", [m for m in methods if m.kind == "fit"]),
            ):
                if chosen:
                    rows_NQ = tables.rows_of(column(kind, f"{prefix}_{name}"), len(chosen))
                    found |= {m.name: rows_NQ[:, q] for q, m in enumerate(chosen)}
            by_method[name] = found | {DAWIN: column("predictions", name).to_numpy()}
        cluster = column("predictions", "cluster")
        return cls(
            sample_id=sample_id,
            label=column("predictions", "label").fill_null(-1).to_numpy(),
            coefficient=tables.rows_of(column("predictions", "coefficient"), experts),
            cluster=None if cluster.null_count else cluster.to_numpy(),
            entropy=tables.rows_of(column("predictions", "expert_entropy"), experts),
            expert_prediction=tables.rows_of(column("predictions", "expert_prediction"), experts),
            **by_method,
        )

    def of_experts(self) -> tuple[np.ndarray, np.ndarray]:
        """What tells data sets apart without a label: entropies and coefficients [N, M]."""
        return self.entropy, self.coefficient


def job_of(run: RunDirectory) -> Job:
    """The job of a run.

    Raises:
        UserError: there is none, or it has not come to its predictions.
    """
    try:
        text = run.read_text(JOB)
        complete = run.exists(MIXTURE) and run.exists("report.json")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run.address!r} is no run directory: {error}. Give the run_dir of a finished run."
        ) from error
    if run.grows():
        raise UserError(
            f"The run_dir {run.address!r} grows by batches, and each of them is a run of its own: "
            f"give one of {join(run.address, BATCHES)}."
        )
    if not complete:
        raise UserError(
            f"The run in {run.address!r} is not finished: it has no predictions to report on yet. "
            "Finish it with dawin-ray run."
        )
    try:
        return make_job(yaml.safe_load(text), join(run.address, JOB))
    except yaml.YAMLError as error:
        raise run.damaged(JOB, error) from error


def scored_datasets(run: RunDirectory, job: Job) -> list[str]:
    """Those of the job's data sets that the run scored: a batch may have nothing of some."""
    scored = read_class_names(run)
    return [dataset.name for dataset in job.datasets if dataset.name in scored]
