"""What a finished run holds, for a reader: its job, its fits, and a data set's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import yaml

from dawin_ray.config import Job, make_job
from dawin_ray.errors import UserError
from dawin_ray.method import Fit, Method, Mixture
from dawin_ray.names import escaped
from dawin_ray.runs import (
    BATCHES,
    JOB,
    MIXTURE,
    Compared,
    Mixtures,
    RunDirectory,
    read_class_names,
    rows_in_blocks,
    summary_of,
    table_in_blocks,
)
from dawin_ray.statistics import Rows, Summary
from dawin_ray.storage import join

REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has come to its predictions; cheap, as rows are read when they are asked for."""

    run: RunDirectory
    job: Job
    class_names: Mapping[str, Sequence[str] | None]  # by data set that it scored
    summaries: Mapping[str, Summary] = field(default_factory=dict)  # those that are made already
    named: str | None = None  # the incumbent that was named for a report, in place of the job's

    @classmethod
    def of(cls, run: RunDirectory, summaries: Mapping[str, Summary] | None = None) -> FinishedRun:
        """What lies in a run directory; summaries that are not given are made of its Parquet.

        Raises:
            UserError: there is no run, or it has not come to its predictions, or it is damaged.
        """
        return cls(
            run=run, job=job_of(run), class_names=read_class_names(run), summaries=summaries or {}
        )

    @property
    def address(self) -> str:
        """Of the run directory."""
        return self.run.address

    @property
    def experts(self) -> tuple[str, ...]:
        """Their names, in the order of the columns."""
        return tuple(expert.name for expert in self.job.experts)

    @property
    def methods(self) -> tuple[Method, ...]:
        """What DaWin is compared with, in the order of the columns."""
        return tuple(self.job.methods)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Those of the job's data sets that it scored: a batch may have nothing of some."""
        return tuple(d.name for d in self.job.datasets if d.name in self.class_names)

    @property
    def in_distribution(self) -> str | None:
        """The job's, where it was scored."""
        name = self.job.in_distribution
        return name if name in self.datasets else None

    @property
    def incumbent(self) -> str | None:
        """The method that is in use, where the report or the job was told which."""
        return self.named or self.job.incumbent

    def asked_about(self, incumbent: str | None) -> FinishedRun:
        """The same run with another incumbent than its job's; with None as it is.

        Raises:
            UserError: it is none of the run's experts and baselines that know no more than DaWin.
        """
        rivals = [method.name for method in self.methods if not method.is_bound]
        if incumbent is not None and incumbent not in rivals:
            raise UserError(
                f"The run in {self.address!r} has no incumbent {escaped(incumbent)!r}; give one of "
                f"its experts and baselines: {', '.join(rivals)}."
            )
        return replace(self, named=incumbent)

    def summary(self, dataset: str) -> Summary:
        """A data set's predictions in what adds, whatever their number.

        Raises:
            RuntimeError: its two tables hold other samples.
        """
        if dataset in self.summaries:
            return self.summaries[dataset]
        return summary_of(self.run, dataset, self.compared)

    def first_rows(self, dataset: str, count: int) -> tuple[list[str], Rows]:
        """The ids and the rows of a data set's first `count` predictions. Raises as `summary`."""
        ids = table_in_blocks(self.run, "predictions", dataset, ["sample_id"], count)
        rows = rows_in_blocks(self.run, dataset, self.compared, count)
        found = next(zip(ids, rows, strict=False), None)
        if found is None:
            return [], Rows.none(self.experts, self.compared.methods)
        return found[0]["sample_id"].to_pylist(), found[1]

    @property
    def compared(self) -> Compared:
        """Whose answers its columns have."""
        return Compared.of(self.experts, self.methods, exact=self.job.exact)

    @property
    def tasks(self) -> dict[str, str]:
        """Whose task a data set is, where the job says so: the expert's name by data set."""
        return {d.name: d.expert for d in self.job.datasets if d.expert is not None}

    @cached_property
    def class_counts(self) -> dict[str, int | None]:
        """How many classes each data set is scored on; None where an older run does not say."""
        rows = self.run.read_json(REPORT).get("datasets", [])
        return {row["dataset"]: row.get("classes") for row in rows}

    @cached_property
    def _mixtures(self) -> Mixtures:
        return Mixtures.read(self.run)

    @property
    def fits(self) -> list[Fit]:
        """One for each group of data sets that were fitted together."""
        return [group.fit for group in self._mixtures.fits.values()]

    @property
    def mixtures(self) -> dict[str, Mixture | None]:
        """The fitted mixture of each data set; None in the exact mode."""
        return {name: fit.mixture for name, fit in self._mixtures.of_datasets.items()}

    @cached_property
    def rejects(self) -> Counter[str]:
        """How many rejects each data set has."""
        counts: Counter[str] = Counter()
        for table in self.run.parts.read("rejects", columns=["dataset"]):
            for found in table["dataset"].value_counts().to_pylist():
                counts[found["values"]] += found["counts"]
        return counts


def job_of(run: RunDirectory) -> Job:
    """The job of a run.

    Raises:
        UserError: there is none, or it has not come to its predictions.
    """
    try:
        text = run.read_text(JOB)
        complete = run.exists(MIXTURE) and run.exists(REPORT)
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
