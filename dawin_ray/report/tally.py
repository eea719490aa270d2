"""report.json: what a run counted and how long it took, made from summaries of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dawin_ray.engine import Resources, Timing
from dawin_ray.method import DAWIN, EVEN, Fit, Mixture
from dawin_ray.models import Precision
from dawin_ray.passes import ScoringSpec
from dawin_ray.report.doubts import Doubt
from dawin_ray.report.finished import REPORT
from dawin_ray.runs import BrokenShard, ExpertsPart, RunDirectory, broken_of
from dawin_ray.statistics import DriftReport, Summary
from dawin_ray.storage import join


@dataclass(frozen=True, kw_only=True)
class ClusterTally:
    """A cluster of the mixture: its merged model's coefficients [M], its weight, its samples."""

    coefficient: tuple[float, ...]
    weight: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Float32Agreement:
    """Predictions that were made in float32 too, and how many of them are the same."""

    rows: int
    equal: int


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """The counts of one data set.

    `accuracy`: by expert, `even_interpolation` where it was run, and `dawin`; None without labels.
    `normalised`: the same over the accuracy of the task's own expert; empty where that is not known
    or nothing.
    """

    dataset: str
    rows: int
    rejects: int
    broken: tuple[BrokenShard, ...] = ()
    labelled: int
    accuracy: Mapping[str, float | None]
    mean_coefficient: tuple[float, ...] | None  # [M]; None without rows
    clusters: tuple[ClusterTally, ...]
    mixture_converged: bool | None
    float32_agreement: Float32Agreement
    images_per_second: float | None
    expert: str | None = None  # whose task it is, where the job says so
    normalised: Mapping[str, float] = field(default_factory=dict)
    classes: int | None = None  # how many it is scored on; None in runs of before


@dataclass(frozen=True, kw_only=True)
class PassReport:
    """How long a pass took."""

    rows: int
    wall_seconds: float
    model_seconds: float
    # from the first forward to the last: how little the models waited; None where actors came and
    # went
    model_share: float | None
    merges: int


@dataclass(frozen=True, kw_only=True)
class ComputeReport:
    """What a run ran on."""

    device: str
    actors: int  # that each pass began with
    threads_per_actor: int
    precision: Precision
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """report.json of a run, or of a batch of one."""

    VERSION: ClassVar[int] = 1

    experts: tuple[str, ...]
    mode: Literal["exact", "clustered"]
    datasets: tuple[DatasetReport, ...]
    passes: Mapping[str, PassReport]
    compute: ComputeReport
    run_dir: str
    batch: str | None = None
    predictions: str  # the address of each data set's, with NAME for its name
    drift: Mapping[str, DriftReport] | None = None  # by data set; None without a saved fit
    doubts: tuple[Doubt, ...] = ()  # what looks wrong with the input, as in audit.json

    @classmethod
    def read(cls, run: RunDirectory) -> Report:
        """That of a run.

        Raises:
            UserError: it is damaged, or a newer version wrote it.
        """
        return run.read_record(cls, REPORT)

    def write(self, run: RunDirectory) -> None:
        """Into a run."""
        run.write_record(REPORT, self)


def alarms_of(report: Report) -> list[str]:
    """What has drifted, as `data set: statistic`; empty where nothing has, or nothing is judged."""
    drift = report.drift or {}
    return [f"{dataset}: {name}" for dataset, found in drift.items() for name in found.alarms]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a run found: each data set's fit, and the summary of its rows."""

    fits: Mapping[str, Fit]
    summaries: Mapping[str, Summary]


def summarise(
    run: RunDirectory,
    spec: ScoringSpec,
    parts: Mapping[str, Sequence[ExpertsPart]],
    found: Scored,
    on: Resources,
    timings: Mapping[str, Timing],
) -> Report:
    """The report of a run, by its parts of pass 1 and what was found.

    Accuracies are over the rows with a label, and None without any.
    """
    names = [expert.name for expert in spec.model.experts]
    shown = [*names, *([EVEN] if spec.baselines.even_interpolation else []), DAWIN]
    datasets = []
    for dataset, of_set in parts.items():
        summary, mixture = found.summaries[dataset], found.fits[dataset].mixture
        right = {name: summary.right(name) for name in shown}
        own = spec.tasks[dataset].expert
        *_, compared, agreeing = map(int, summary.counts.size)
        busy = sum(timing.seconds.get(dataset, 0) for timing in timings.values()) / on.actors
        scored = next(iter(timings.values())).rows[dataset]
        datasets.append(
            DatasetReport(
                dataset=dataset,
                rows=summary.rows,
                rejects=sum(shard.rejects for part in of_set for shard in part.shards),
                broken=tuple(broken_of(of_set)),
                labelled=summary.labelled,
                accuracy={
                    name: count / summary.labelled if summary.labelled else None
                    for name, count in right.items()
                },
                mean_coefficient=_mean_coefficient(summary),
                clusters=_clusters(summary, mixture),
                mixture_converged=None if mixture is None else mixture.converged,
                float32_agreement=Float32Agreement(rows=compared, equal=agreeing),
                images_per_second=scored / busy if busy and scored else None,
                expert=own,
                normalised=_normalised(right, own),
                classes=spec.tasks[dataset].classes.count,
            )
        )
    return Report(
        experts=tuple(names),
        mode="exact" if spec.exact else "clustered",
        datasets=tuple(datasets),
        passes={
            name: PassReport(
                rows=sum(timing.rows.values()),
                wall_seconds=timing.wall,
                model_seconds=sum(timing.seconds.values()),
                model_share=timing.busy_share(None if on.bounds else on.actors),
                merges=timing.merges,
            )
            for name, timing in timings.items()
        },
        compute=ComputeReport(
            device=on.device,
            actors=on.actors,
            threads_per_actor=on.threads,
            precision=spec.precision,
            batch_size=spec.batch_size,
        ),
        run_dir=run.address,
        batch=run.batch,
        predictions=join(run.root, run.parts.folder("predictions", "dataset=NAME")),
    )


def _normalised(right: Mapping[str, int], own: str | None) -> dict[str, float]:
    """Of each over the own expert's; empty without labels, or where that is right on none."""
    if own is None or not right[own]:
        return {}
    return {name: count / right[own] for name, count in right.items()}


def _mean_coefficient(summary: Summary) -> tuple[float, ...] | None:
    """Over all rows [M]."""
    return tuple(values.mean for values in summary.coefficient) if summary.rows else None


def _clusters(summary: Summary, mixture: Mixture | None) -> tuple[ClusterTally, ...]:
    """Those of the mixture, with their samples."""
    if mixture is None:
        return ()
    sizes = summary.counts.clusters[0].tolist()
    sizes += [0] * (len(mixture.weights) - len(sizes))
    return tuple(
        ClusterTally(coefficient=tuple(mean.tolist()), weight=float(weight), size=size)
        for mean, weight, size in zip(mixture.means, mixture.weights, sizes, strict=True)
    )
