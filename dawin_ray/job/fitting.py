"""Between the passes: what the driver makes of a run's rows. Offsets and mixtures, and later drift.

mixture.json has what this run fitted or applied, fit.json the same for jobs to come.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

import dawin_ray
from dawin_ray import tables
from dawin_ray.config import Job
from dawin_ray.data import Shard
from dawin_ray.job.prepare import Prepared
from dawin_ray.method import (
    REFERENCE_TAIL,
    CoefficientConfig,
    Fit,
    FitConfig,
    MixtureConfig,
    Reference,
    entropy_quantiles,
    fit,
)
from dawin_ray.runs import (
    MIXTURE,
    FitEntry,
    GroupFit,
    Mixtures,
    RunDirectory,
    SavedFits,
)
from dawin_ray.statistics import DriftReport, Summary, drift_of

logger = logging.getLogger(__name__)


def fit_datasets(
    run: RunDirectory, prepared: Prepared, say: Callable[[str], None]
) -> dict[str, Fit]:
    """The fit of each data set, from the rows of pass 1; all of them go into mixture.json."""
    job, names = prepared.job, list(prepared.shards)
    if run.exists(MIXTURE):  # pass 2 may have begun with it
        return Mixtures.read(run).of_datasets
    groups = {"joint": names} if job.fit == "joint" else {name: [name] for name in names}
    reference = _reference(run, prepared)
    anchor = None if reference is None else reference.median
    doubts = [] if reference is None else reference.warnings([e.name for e in job.experts])
    for doubt in doubts:
        logger.warning("%s", doubt)
    fits: dict[str, Fit] = {}
    warned: dict[str, list[str]] = {}
    for group, members in groups.items():
        shards = [shard for name in members for shard in prepared.shards[name]]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stream = partial(_log_expertise, run, shards, len(job.experts))
            fitted = fit(stream, len(job.experts), job.coefficient, job.mixture, reference=anchor)
            others = {
                method.name: fit(
                    stream, len(job.experts), *_altered(job, method.fit), reference=anchor
                )
                for method in job.methods
                if method.fit is not None
            }
            fitted = replace(fitted, beside=others)
        notes = sorted({str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)})
        for note in notes:
            logger.warning("mixture of %s: %s", group, note)
        fits |= dict.fromkeys(members, fitted)
        say(f"fit of {group}: {fitted.describe([e.name for e in job.experts])}")
        warned[group] = notes + doubts
    write_fits(run, prepared, groups, fits, warned)
    return fits


def _reference(run: RunDirectory, prepared: Prepared) -> Reference | None:
    """How entropies lie on the reference, where there is one: of a saved fit, or of the job."""
    job = prepared.job
    if prepared.reference is not None or (name := job.coefficient.reference) is None:
        return prepared.reference
    count = len(job.experts)
    stream = partial(_log_expertise, run, prepared.shards[name], count)
    rows = sum(map(len, stream()))
    median, tail = entropy_quantiles(stream, count, rows, [0.5, REFERENCE_TAIL])
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


def _log_expertise(
    run: RunDirectory, shards: Sequence[Shard], experts: int
) -> Iterator[np.ndarray]:
    for shard in shards:
        for table in run.work.read_shard("experts", shard.dataset, shard.key, ["log_expertise"]):
            if table.num_rows:
                yield tables.rows_of(table["log_expertise"], experts)
