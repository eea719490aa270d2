"""The pilot: runs of the job on few of its samples, in a temporary folder, by its own engine.

One run has what can be had of one fit: experts, static models and merged models of clusters; a
second one is exact. Where no data set has labels nothing can be gained but times, and the second
run, and the static models, are cut short.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dawin_ray.advice.copied import Copied, copy_samples
from dawin_ray.advice.options import STATIC
from dawin_ray.advice.picks import Counted, counted, quotas
from dawin_ray.advice.read import rows_of_run
from dawin_ray.advice.watched import Watched, watch
from dawin_ray.config import Job
from dawin_ray.data import Shard
from dawin_ray.engine import Resources, Say, engine_of
from dawin_ray.errors import UserError
from dawin_ray.job import Prepared, step
from dawin_ray.method import BaselinesConfig, MixtureConfig
from dawin_ray.models import load_experts
from dawin_ray.passes import check_exact
from dawin_ray.statistics import Rows
from dawin_ray.storage import filesystem, join

TIMED_CHUNKS = 4  # of the exact mode, where only its time is asked for

LEAST_CHUNKS = 4  # of a data set, where that leaves full batches

NO_LIMIT = 10**9  # broken shards: a pilot tells what it finds, and does not end at it


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A run of the pilot: its job, how long it took, and what it says of the samples."""

    job: Job
    watched: Watched
    rows: Mapping[str, Rows]  # by data set


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What was run, and what that took in seconds."""

    clustered: Tried
    exact: Tried | None  # None where it cannot be run
    no_exact: str = ""  # why it cannot
    checking: float = 0.0  # it against merged weights, which `prepare` does in exact jobs
    counts: Mapping[str, Counted]  # samples of each data set
    copied: Mapping[str, Copied]
    on: Resources
    starting: float  # of the engine
    ending: float
    counting: float  # samples
    seconds: float  # all of it

    @property
    def samples(self) -> int:
        """Of all data sets, rejects among them."""
        return sum(copied.samples for copied in self.copied.values())

    @property
    def labelled(self) -> bool:
        """Whether any sample has a label."""
        return any(copied.labelled for copied in self.copied.values())

    @property
    def rejects(self) -> dict[str, int]:
        """Samples of each data set that could not be used."""
        found = Counter({name: sum(c.rejects.values()) for name, c in self.copied.items()})
        for of_set in self.clustered.watched.report.datasets:
            found[of_set.dataset] += of_set.rejects
        return dict(found)


def run_pilot(prepared: Prepared, say: Say, samples: int | None = None) -> Pilot:
    """Run it, on so many samples or as `picks.quotas` has it.

    Raises:
        UserError: there is no sample, none can be used, or what would end the job's own run.
    """
    began, job = time.monotonic(), prepared.job
    with step(say, "counting samples") as told:
        counts = {name: counted(shards) for name, shards in prepared.shards.items()}
        told(f"{sum(count.total for count in counts.values()):,}")
    counting = time.monotonic() - began
    wanted = quotas({name: count.total for name, count in counts.items()}, samples)
    if not sum(wanted.values()):
        raise UserError("There is no sample to try: all data sets are empty.")
    engine, start = engine_of(job.compute), time.monotonic()
    with engine.session(say, job.storage_options) as on:
        starting = time.monotonic() - start
        with _folder(job.run_dir, on) as folder:
            with step(say, f"pilot: copying {sum(wanted.values()):,} samples"):
                copied = {
                    name: copy_samples(
                        of_set, counts[name], wanted[name], join(folder, f"data-{i}"),
                        chunk_of(job, wanted[name]),
                    )
                    for i, (name, of_set) in enumerate(prepared.shards.items())
                    if wanted[name]
                }  # fmt: skip
            runs = _runs(prepared, copied, folder, say)
        start = time.monotonic()
    return Pilot(
        **runs,
        counts=counts,
        copied=copied,
        on=on,
        starting=starting,
        ending=time.monotonic() - start,
        counting=counting,
        seconds=time.monotonic() - began,
    )


def _runs(
    prepared: Prepared, copied: Mapping[str, Copied], folder: str, say: Say
) -> dict[str, Any]:
    """Those of the pilot, as its fields. Raises as `run_pilot`."""
    job, labelled = prepared.job, any(of_set.labelled for of_set in copied.values())
    shards = {name: of_set.shards for name, of_set in copied.items() if of_set.shards}
    if not shards:
        raise UserError(f"No sample of the pilot has an image: {_reasons(copied)}.")
    clustered = clustered_of(job, prepared, labelled)
    found: dict[str, Any] = {"clustered": _try(_variant(prepared, shards, clustered, folder), say)}
    whole = labelled or job.coefficient.needs_fit  # then coefficients are of whole data sets
    few = shards if whole else _first(shards)
    try:
        if not job.exact:  # else `prepare` did it
            experts, start = load_experts(prepared.spec.model), time.monotonic()
            check_exact(experts, job.model.architecture, job.merge.scale)
            found["checking"] = time.monotonic() - start
            del experts
        return found | {"exact": _try(_variant(prepared, few, exact_of(job), folder), say)}
    except UserError as error:
        return found | {"exact": None, "no_exact": str(error)}


def chunk_of(job: Job, samples: int) -> int:
    """Samples of a chunk of the pilot: as the job's, or fewer so that several tell of a spread."""
    compute = job.compute
    enough = max(min(compute.batch_size, compute.chunk_size), -(-samples // LEAST_CHUNKS))
    return min(compute.chunk_size, enough)


def clustered_of(job: Job, prepared: Prepared, labelled: bool) -> Job:
    """The job with merged models of clusters, and with static models where labels judge them."""
    mixture = MixtureConfig() if job.exact else job.mixture
    saved = prepared.saved is not None and prepared.saved.fit.mixture is not None
    static = STATIC if labelled and len(job.experts) == 2 else ()
    baselines = BaselinesConfig(even_interpolation=labelled, output_ensembles=False, static=static)
    fit = "per_dataset" if job.saved_fit is not None and not saved else job.fit
    return job.model_copy(update={"mixture": mixture, "baselines": baselines, "fit": fit})


def exact_of(job: Job) -> Job:
    """The job in the exact mode, with nothing beside it."""
    mixture = job.mixture if job.exact else MixtureConfig(clusters="exact")
    baselines = BaselinesConfig(even_interpolation=False, output_ensembles=False)
    return job.model_copy(update={"mixture": mixture, "baselines": baselines})


def _variant(
    prepared: Prepared, shards: Mapping[str, tuple[Shard, ...]], job: Job, folder: str
) -> Prepared:
    """The job on the pilot's shards, with its run directory in the folder."""
    size = max(len(shard.images) for of_set in shards.values() for shard in of_set)
    job = job.model_copy(
        update={
            "run_dir": join(folder, "exact" if job.exact else "clustered"),
            "mode": "once",
            "incumbent": None,
            "max_reject_fraction": 1.0,
            "max_broken_shards": NO_LIMIT,
            "compute": job.compute.model_copy(
                update={"cache": "auto", "keep_cache": False, "chunk_size": size}
            ),
        }
    )
    spec = replace(
        prepared.spec,
        exact=job.exact,
        exact_rank=job.mixture.exact_rank,
        baselines=job.baselines,
        trim=None,
    )
    only = prepared.only(shards)
    saved = prepared.saved if job.saved_fit is not None else None
    # in lower precision each data set's first chunk would be scored in float32 too: here, most
    return replace(only, job=job, spec=replace(spec, compared=frozenset()), saved=saved)


def _first(shards: Mapping[str, tuple[Shard, ...]]) -> dict[str, tuple[Shard, ...]]:
    """TIMED_CHUNKS of them, of as many data sets as that reaches."""
    found: dict[str, tuple[Shard, ...]] = {}
    for name, of_set in shards.items():
        left = TIMED_CHUNKS - sum(map(len, found.values()))
        if left > 0:
            found[name] = of_set[:left]
    return found


@contextmanager
def _folder(run_dir: str, on: Resources) -> Iterator[str]:
    """A temporary folder: of this machine, or beside the run directory where there are others."""
    if on.nodes == 1:
        with tempfile.TemporaryDirectory(prefix="dawin_ray-advice-") as folder:
            yield folder
        return
    above = run_dir.rstrip("/").rpartition("/")[0]
    folder = join(above, f".advice-{uuid.uuid4().hex}") if above else f".advice-{uuid.uuid4().hex}"
    fs, path = filesystem(folder)
    try:
        yield folder
    finally:
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _try(prepared: Prepared, say: Say) -> Tried:
    images = sum(len(shard.images) for of_set in prepared.shards.values() for shard in of_set)
    kind = "exact" if prepared.job.exact else "clustered"
    with step(say, f"pilot: {kind} run of {images:,} samples"):
        watched = watch(prepared)
    return Tried(job=prepared.job, watched=watched, rows=rows_of_run(prepared))


def _reasons(copied: Mapping[str, Copied]) -> str:
    reasons = Counter[str]()
    for of_set in copied.values():
        reasons.update(of_set.rejects)
    return "; ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(3)) or "none"
