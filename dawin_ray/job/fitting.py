"""Between the passes: what the driver makes of a run's rows. Offsets and mixtures, and later drift.

mixture.json has what this run fitted or applied, fit.json the same for jobs to come.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

import dawin_ray
from dawin_ray.config import Job
from dawin_ray.job.parts import FirstParts
from dawin_ray.job.prepare import Prepared
from dawin_ray.job.running import Passes
from dawin_ray.method import (
    REFERENCE_TAIL,
    CoefficientConfig,
    Fit,
    FitConfig,
    MixtureConfig,
    Reference,
    Stream,
    entropy_quantiles,
    few,
    fit,
)
from dawin_ray.runs import (
    MIXTURE,
    ExpertsPart,
    FitEntry,
    GroupFit,
    Mixtures,
    PartPlan,
    RunDirectory,
    SavedFits,
    log_expertise_of,
)
from dawin_ray.statistics import DriftReport, Summary, drift_of

R = TypeVar("R")

logger = logging.getLogger(__name__)


def fit_datasets(passes: Passes, prepared: Prepared, first: FirstParts) -> dict[str, Fit]:
    """The fit of each data set, from the parts of pass 1; all of them go into mixture.json."""
    job, run, names = prepared.job, passes.run, list(prepared.shards)
    if run.exists(MIXTURE):  # pass 2 may have begun with it
        return Mixtures.read(run).of_datasets
    groups = {"joint": names} if job.fit == "joint" else {name: [name] for name in names}
    reference = _reference(passes, prepared, first)
    anchor = None if reference is None else reference.median
    doubts = [] if reference is None else reference.warnings([e.name for e in job.experts])
    for doubt in doubts:
        logger.warning("%s", doubt)
    fits: dict[str, Fit] = {}
    log_odds = prepared.log_odds
    warned: dict[str, list[str]] = {}
    for group, members in groups.items():
        parts = [part for name in members for part in first[name]]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = few(LogExpertise(passes, parts, log_odds.get(members[0])))
            fitted = fit(samples, len(job.experts), job.coefficient, job.mixture, reference=anchor)
            others = {
                method.name: fit(
                    samples, len(job.experts), *_altered(job, method.fit), reference=anchor
                )
                for method in job.methods
                if method.fit is not None
            }
            others = {n: replace(o, log_odds=log_odds.get(members[0])) for n, o in others.items()}
            fitted = replace(fitted, log_odds=log_odds.get(members[0]), beside=others)
        notes = sorted({str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)})
        for note in notes:
            logger.warning("mixture of %s: %s", group, note)
        fits |= dict.fromkeys(members, fitted)
        passes.progress.say(f"fit of {group}: {fitted.describe([e.name for e in job.experts])}")
        warned[group] = notes + doubts
    write_fits(run, prepared, groups, fits, warned)
    return fits


def _reference(passes: Passes, prepared: Prepared, first: FirstParts) -> Reference | None:
    """How entropies lie on the reference, where there is one: of a saved fit, or of the job."""
    job = prepared.job
    if prepared.reference is not None or (name := job.coefficient.reference) is None:
        return prepared.reference
    samples = LogExpertise(passes, first[name])
    wanted = [0.5, REFERENCE_TAIL]
    median, tail = entropy_quantiles(samples, len(job.experts), sum(samples.sizes), wanted)
    return Reference(median=median, tail=tail)


def write_fits(
    run: RunDirectory,
    prepared: Prepared,
    groups: Mapping[str, Sequence[str]],
    fits: Mapping[str, Fit],
    warned: Mapping[str, Sequence[str]],
) -> None:
    """mixture.json: the fit of each group of data sets, with what was warned of."""
    written = {
        group: GroupFit(
            datasets=tuple(members), warnings=tuple(warned.get(group, ())), fit=fits[members[0]]
        )
        for group, members in groups.items()
    }
    names = tuple(expert.name for expert in prepared.job.experts)
    Mixtures(experts=names, fits=written).write(run)


def save_fits(
    run: RunDirectory,
    prepared: Prepared,
    fits: Mapping[str, Fit],
    summaries: Mapping[str, Summary],
) -> None:
    """fit.json, for jobs that score new data of the same kind."""
    names = tuple(expert.name for expert in prepared.job.experts)
    entries = {
        dataset: FitEntry.of(
            replace(fitted, beside={}),
            names,
            summaries[dataset].scored(exact=prepared.job.exact),
            count=prepared.spec.classes[dataset].count,
            classes=prepared.fingerprint["classes"][dataset],
            texts=prepared.texts[dataset],
        )
        for dataset, fitted in fits.items()
    }
    identity = dict(prepared.identity)
    SavedFits(code=dawin_ray.__version__, names=names, identity=identity, datasets=entries).write(
        run
    )


def drift_of_run(
    prepared: Prepared, summaries: Mapping[str, Summary]
) -> dict[str, DriftReport] | None:
    """Each data set against the reference of the saved fit; None without one."""
    if prepared.saved is None:
        return None
    job, entry = prepared.job, prepared.saved.entry
    names = [expert.name for expert in job.experts]
    return {
        dataset: drift_of(
            entry, names, summaries[dataset].scored(exact=job.exact), config=job.drift
        )
        for dataset in prepared.shards
    }


def _altered(job: Job, other: FitConfig) -> tuple[CoefficientConfig, MixtureConfig]:
    """The job's settings of a fit, but for what `other` says."""
    coefficient = job.coefficient
    if other.offset_adjustment is not None:
        changed = {"offset_adjustment": other.offset_adjustment}
        coefficient = CoefficientConfig(**coefficient.model_dump() | changed)
    return coefficient, other.mixture(job.mixture)


@dataclass(frozen=True)
class LogExpertise:
    """The experts' log-expertises in parts of pass 1, read in tasks: a stream that is `Parted`.

    `log_odds` [M] are added to them, where labels gave some.
    """

    passes: Passes
    parts: Sequence[tuple[PartPlan, ExpertsPart]]
    log_odds: np.ndarray | None = None

    @property
    def sizes(self) -> list[int]:
        """Rows of each part that has some."""
        return [part.experts.rows for _, part in self._filled]

    def each(self, task: Callable[[Stream, int], R]) -> Iterator[R]:
        """What `task` makes of each part.

        Raises:
            UserError: a part is lost or damaged; it is made again by the same command.
        """
        items = list(enumerate(self._filled))
        return self.passes.engine.map(
            partial(_of_part, self.passes.run, task, self.log_odds), items, self.passes.on
        )

    @property
    def _filled(self) -> list[tuple[PartPlan, ExpertsPart]]:
        return [item for item in self.parts if item[1].experts.rows]


def _of_part(
    run: RunDirectory,
    task: Callable[[Stream, int], R],
    log_odds_M: np.ndarray | None,
    item: tuple[int, tuple[PartPlan, ExpertsPart]],
) -> R:
    number, (_, part) = item
    stream: Stream = partial(log_expertise_of, run, part)
    return task(stream if log_odds_M is None else partial(_shifted, stream, log_odds_M), number)


def _shifted(stream: Stream, log_odds_M: np.ndarray) -> Iterator[np.ndarray]:
    return (log_e + log_odds_M for log_e in stream())
