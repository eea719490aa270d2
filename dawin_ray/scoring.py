"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

import dawin_ray
from dawin_ray import pipeline, tables
from dawin_ray.batches import Series
from dawin_ray.cache import CropCache, ReadChunks, plan_cache
from dawin_ray.comparisons import FitConfig
from dawin_ray.config import Job
from dawin_ray.datasets import Shard
from dawin_ray.decoding import DecodeImages
from dawin_ray.drift import drift_of
from dawin_ray.errors import UserError
from dawin_ray.expertise import CoefficientConfig
from dawin_ray.fitting import Fit, fit, median_entropies
from dawin_ray.ledger import PassLedger, check_shard
from dawin_ray.locking import exclusive
from dawin_ray.manifest import manifest_of
from dawin_ray.mixture import MixtureConfig
from dawin_ray.overview import write_overview
from dawin_ray.page import write_page
from dawin_ray.precision import Precision, resolve
from dawin_ray.prepare import Prepared
from dawin_ray.progress import PHASES, Timing
from dawin_ray.report import summarise
from dawin_ray.runs import CLASSES, FINGERPRINT, MANIFEST, MIXTURE, Kind, RunDirectory, State
from dawin_ray.saved import FIT, document_of, entry_of

logger = logging.getLogger(__name__)

SHOWN_REASONS = 10  # of rejects, the most frequent first


class Progress(Protocol):
    """Who is told how a run goes."""

    def phase(self, name: str, total_bytes: int) -> Any:
        """A context manager whose value takes each chunk's summary."""

    def say(self, message: str) -> None:
        """One line for a person."""


def score(prepared: Prepared, progress: Progress, *, restart: bool = False) -> dict[str, Any]:
    """Run a job, or resume it, and return its report; a finished one is only read.

    With `restart`, what the run directory holds of a run is deleted first.

    Raises:
        UserError: the run directory is another job's, the cluster lacks something, or the data
            hold what only reading could show.
        RowsLostError: rows are missing at the end.
    """
    job = prepared.job
    run = RunDirectory(job.run_dir)
    if restart:
        with exclusive(job.run_dir):
            run.clear()
    if job.mode == "append":
        return _append(prepared, progress)
    if run.state(prepared.fingerprint) == "finished":
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        run.remove_work()  # where the run ended between its manifest and this
        return run.read_json("report.json")
    with exclusive(job.run_dir), _cluster(prepared) as (on, precision):
        return _score(run, prepared, on, precision, progress)


def _append(prepared: Prepared, progress: Progress) -> dict[str, Any]:
    """Score what the run directory has not scored yet, as a batch; the last batch's report."""
    job = prepared.job
    series = Series(job.run_dir)
    common = prepared.only({}).fingerprint
    series.run.state(common)  # refuses another job's before it waits for anything
    with exclusive(job.run_dir):
        series.settle()  # where a run ended between a batch's manifest and this
        shards = series.unscored(prepared.sources)
        scored = series.batches()
        count = sum(len(shard.files) for of_set in shards.values() for shard in of_set)
        if not count:
            series.abandon()
            if not scored:
                raise UserError(f"There is nothing to score for {job.run_dir!r}: no file is there.")
            progress.say(
                f"{job.run_dir}: all files are scored; nothing is left to do. The last batch is "
                f"{scored[-1].batch}."
            )
            batch = scored[-1]
        else:
            with _cluster(prepared) as (on, precision):
                series.run.open({**common, "precision": precision}, job.to_yaml())
                batch = series.begin(shards)
                progress.say(f"batch {batch.batch}: {count:,} new or changed files")
                _score(batch, prepared.only(shards), on, precision, progress)
            if replaced := series.settle():
                progress.say(f"rows of {replaced:,} changed files were taken out of older batches")
        write_overview(series)
        series.finish(dawin_ray.__version__)
    return batch.read_json("report.json")


@contextmanager
def _cluster(prepared: Prepared) -> Iterator[tuple[pipeline.Resources, Precision]]:
    """Ray, what the job gets of it, and the precision that its devices decide."""
    compute = prepared.job.compute
    with pipeline.ray_session(compute.address):
        on = pipeline.resources(compute, prepared.job.storage_options)
        yield on, resolve(compute.precision, on.device)


def _score(
    run: RunDirectory,
    prepared: Prepared,
    on: pipeline.Resources,
    precision: Precision,
    progress: Progress,
) -> dict[str, Any]:
    job = prepared.job
    state = run.open({**prepared.fingerprint, "precision": precision}, job.to_yaml())
    if state == "finished":  # by another run, just before this one had the lock
        return run.read_json("report.json")
    if state == "unfinished":
        progress.say(f"{run.address} is unfinished; its finished chunks are kept.")
    spec = replace(prepared.spec, device=on.device, precision=precision)
    shards = list(itertools.chain.from_iterable(prepared.shards.values()))
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    cache = _cache(prepared, on, progress)
    read = ReadChunks(decode, cache)
    timings: dict[str, Timing] = {}

    def run_pass(name: str, kinds: Sequence[Kind], stream: Callable, *arguments: Any) -> None:
        ledger = PassLedger(run, kinds, shards)
        if skipped := len(shards) - len(ledger.remaining):
            progress.say(f"{PHASES[name]}: {skipped} of {len(shards)} shards are there already")
        finished = _Finished(run, state, kinds[-1])
        size = sum(shard.bytes for shard in ledger.remaining)
        chunks = stream(ledger.remaining, read, finished, spec, on, run, *arguments)
        with progress.phase(name, size) as advance, Timing.of(timings, name) as timing:
            for chunk in chunks:
                ledger.add(chunk)
                timing.add(chunk)
                advance(chunk)
        ledger.check_complete()
        _check_usable(run, prepared)

    if job.one_pass:
        saved = prepared.saved
        if saved is not None:
            progress.say(f"fit of {job.saved_fit.address}: {saved.fit.describe()}")
        fits = dict.fromkeys(prepared.shards, saved.fit if saved else Fit())
        kinds: tuple[Kind, ...] = ("experts", "predictions")
        run_pass("at_once", kinds, pipeline.score_at_once, fits)
        if saved is None:
            fits = _fit(run, prepared, progress)
        else:
            _write_fits(run, prepared, {"saved": list(fits)}, fits, {})
    else:
        run_pass("experts", ("experts",), pipeline.score_experts)
        fits = _fit(run, prepared, progress)
        name = "exact" if job.exact else "merged"
        run_pass(name, ("predictions",), pipeline.predict, fits)

    counts = {
        dataset: [check_shard(run, shard) for shard in shards]
        for dataset, shards in prepared.shards.items()
    }
    outputs = _compact(run, prepared)
    report = summarise(run, prepared, fits, on, precision, timings)
    report["drift"] = _drift(run, prepared)
    if report["drift"] is not None:
        pipeline.publish_drift(report["drift"], on)
    run.write_json("report.json", report)
    run.write_json(CLASSES, prepared.class_names)
    _save_fits(run, prepared, fits)
    sealed = ("job.yaml", FINGERPRINT, MIXTURE, CLASSES, FIT, "report.json")
    outputs += [run.describe(name) for name in sealed]
    write_page(run)
    if cache is not None and not job.compute.keep_cache:
        cache.remove()  # before the manifest: behind it, nobody would come back to do it
    run.write_json(MANIFEST, manifest_of(prepared, counts, outputs, precision))
    run.remove_work()
    return report


@dataclass(frozen=True)
class _Finished:
    """Names of a shard's committed chunks of a kind."""

    run: RunDirectory
    state: State
    kind: Kind

    def __call__(self, shard: Shard) -> Collection[str]:
        if self.state == "new":
            return ()
        return self.run.chunks(self.kind, shard.dataset, shard.key)


def _compact(run: RunDirectory, prepared: Prepared) -> list[dict[str, Any]]:
    """Put the chunks' files together; what was written, with its hashes."""
    outputs = []

    def tables_of(kind: Kind, shards: Iterable[Shard]) -> Iterator[pa.Table]:
        for shard in shards:
            yield from run.read_shard(kind, shard.dataset, shard.key)

    for dataset, shards in prepared.shards.items():
        for kind, schema in (("experts", tables.EXPERTS), ("predictions", tables.PREDICTIONS)):
            folder = (kind, f"dataset={dataset}")
            outputs += run.write_parts(folder, schema, tables_of(kind, shards))
    everything = itertools.chain.from_iterable(prepared.shards.values())
    outputs += run.write_parts(("rejects",), tables.REJECTS, tables_of("rejects", everything))
    return outputs


def _cache(prepared: Prepared, on: pipeline.Resources, progress: Progress) -> CropCache | None:
    job = prepared.job
    height, width = prepared.preprocessing.size
    shards = list(itertools.chain.from_iterable(prepared.shards.values()))
    # tars and Parquet files would have to be opened one by one to count their samples
    counted = all(shard.format == "folder" for shard in shards)
    images = sum(len(shard.images) for shard in shards)
    plan = plan_cache(
        job.compute.cache,
        job.run_dir,
        needed=images * height * width * 3 if counted else None,
        nodes=on.nodes,
        passes=1 if job.one_pass else 2,
    )
    progress.say(f"crop cache {plan.why}")
    return None if plan.root is None else CropCache(plan.root, prepared.cache_keys)


def _fit(run: RunDirectory, prepared: Prepared, progress: Progress) -> dict[str, Fit]:
    """The fit of each data set; all of them go into mixture.json."""
    job, names = prepared.job, list(prepared.shards)
    if run.exists(MIXTURE):  # pass 2 may have begun with it
        written = run.read_json(MIXTURE)["fits"]
        return {
            name: fitted
            for group in written.values()
            for fitted in [Fit.from_dict(group)]
            for name in group["datasets"]
        }
    groups = {"joint": names} if job.fit == "joint" else {name: [name] for name in names}
    anchor = _reference(run, prepared)
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
        progress.say(f"fit of {group}: {fitted.describe()}")
        warned[group] = notes
    _write_fits(run, prepared, groups, fits, warned)
    return fits


def _reference(run: RunDirectory, prepared: Prepared) -> np.ndarray | None:
    """The experts' median entropies on the job's reference, if it has one."""
    if prepared.reference is not None:
        return prepared.reference
    job = prepared.job
    if (name := job.coefficient.reference) is None:
        return None
    count = len(job.experts)
    stream = partial(_log_expertise, run, prepared.shards[name], count)
    return median_entropies(stream, count, sum(map(len, stream())))


def _write_fits(
    run: RunDirectory,
    prepared: Prepared,
    groups: Mapping[str, Sequence[str]],
    fits: Mapping[str, Fit],
    warned: Mapping[str, Sequence[str]],
) -> None:
    written = {
        group: {"datasets": list(members), "warnings": list(warned.get(group, ()))}
        | fits[members[0]].to_dict()
        for group, members in groups.items()
    }
    names = [expert.name for expert in prepared.job.experts]
    run.write_json(MIXTURE, {"experts": names, "fits": written})


def _save_fits(run: RunDirectory, prepared: Prepared, fits: Mapping[str, Fit]) -> None:
    """fit.json, for jobs that score new data of the same kind."""
    names = [expert.name for expert in prepared.job.experts]
    entries = {
        dataset: entry_of(
            replace(fitted, beside={}),
            prepared.fingerprint["classes"][dataset],
            names,
            *_scored(run, prepared, dataset),
            prepared.spec.classes[dataset].count,
        )
        for dataset, fitted in fits.items()
    }
    run.write_json(FIT, document_of(dawin_ray.__version__, names, prepared.identity, entries))


def _drift(run: RunDirectory, prepared: Prepared) -> dict[str, Any] | None:
    """Each data set against the reference of the saved fit; None without one."""
    if prepared.saved is None:
        return None
    names, config = [expert.name for expert in prepared.job.experts], prepared.job.drift
    return {
        dataset: drift_of(
            prepared.saved.entry, names, *_scored(run, prepared, dataset), config=config
        )
        for dataset in prepared.shards
    }


def _scored(run: RunDirectory, prepared: Prepared, dataset: str) -> tuple[np.ndarray | None, ...]:
    """Entropies [N, M], coefficients [N, M], clusters [N] or None, experts' predictions [N, M]."""
    columns = ["expert_entropy", "coefficient", "cluster", "expert_prediction"]
    rows = pa.concat_tables(run.read_parts("predictions", f"dataset={dataset}", columns=columns))
    count = len(prepared.job.experts)
    entropy, coefficient, expert_prediction = (
        tables.rows_of(rows[name], count)
        for name in ("expert_entropy", "coefficient", "expert_prediction")
    )
    cluster = None if prepared.job.exact else rows["cluster"].to_numpy()
    return entropy, coefficient, cluster, expert_prediction


def _altered(job: Job, other: FitConfig) -> tuple[CoefficientConfig, MixtureConfig]:
    """The job's settings of a fit, but for what `other` says."""
    coefficient, mixture = job.coefficient, job.mixture
    if other.offset_adjustment is not None:
        changed = {"offset_adjustment": other.offset_adjustment}
        coefficient = CoefficientConfig(**coefficient.model_dump() | changed)
    if other.clusters is not None:
        mixture = MixtureConfig(**mixture.model_dump() | {"clusters": other.clusters})
    return coefficient, mixture


def _log_expertise(
    run: RunDirectory, shards: Sequence[Shard], experts: int
) -> Iterator[np.ndarray]:
    for shard in shards:
        for table in run.read_shard("experts", shard.dataset, shard.key, ["log_expertise"]):
            if table.num_rows:
                yield tables.rows_of(table["log_expertise"], experts)


def _check_usable(run: RunDirectory, prepared: Prepared) -> None:
    """Refuse data of which nothing, or too little, can be used.

    Raises:
        UserError: with the reasons, and how often each occurred.
    """
    limit = prepared.job.max_reject_fraction
    for dataset, shards in prepared.shards.items():
        rows = rejected = 0
        for shard in shards:
            chunks = run.read_mark("experts", dataset, shard.key)["chunks"].values()
            rows += sum(scored for scored, _ in chunks)
            rejected += sum(count for _, count in chunks)
        if rows and rejected <= limit * (rows + rejected):
            continue
        reasons: Counter[str] = Counter()
        first = None
        for shard in shards:
            for table in run.read_shard("rejects", dataset, shard.key):
                reasons.update(map(_kind_of, table["reason"].to_pylist()))
                first = first or table.slice(0, 1).to_pylist()[0]
        told = "".join(
            f"\n  {count:,} x {why}" for why, count in reasons.most_common(SHOWN_REASONS)
        )
        example = f"\nThe first: {first['sample_id']}: {first['reason']}" if first else ""
        if not rows:
            raise UserError(
                f"Data set '{dataset}' has no usable image: {rejected:,} samples were read and all "
                f"rejected:{told}{example}"
            )
        raise UserError(
            f"Data set '{dataset}': {rejected:,} of {rows + rejected:,} samples were rejected, "
            f"which is more than max_reject_fraction ({limit:g}):{told}{example}\nMend the data, "
            "or raise max_reject_fraction in the job and run it again: the work done is kept."
        )


def _kind_of(reason: str) -> str:
    """A reason without what is particular to a sample."""
    return re.sub(r"\d+", "#", reason)[:100]
