"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import dawin_ray
from dawin_ray.data import (
    FORMATS,
    CropCache,
    DecodeImages,
    Indexes,
    ReadChunks,
    Shard,
    large_above,
    plan_cache,
)
from dawin_ray.engine import Engine, Resources, Say, engine_of
from dawin_ray.errors import UserError
from dawin_ray.job.fitting import drift_of_run, fit_datasets, save_fits, write_fits
from dawin_ray.job.plan import labels_of
from dawin_ray.job.prepare import Prepared
from dawin_ray.job.progress import ConsoleProgress, step
from dawin_ray.job.running import Passes, Progress, counts_of
from dawin_ray.method import Fit
from dawin_ray.models import Precision, resolve
from dawin_ray.passes import Pass, ScoringSpec, experts_pass, predictions_pass, single_pass
from dawin_ray.report import PAGE_FILES, Report, summarise, write_overview, write_page
from dawin_ray.runs import (
    BATCHES,
    CLASSES,
    DATA,
    FINGERPRINT,
    FIT,
    INDEX,
    JOB,
    MIXTURE,
    SHARDS,
    WORK,
    Manifest,
    Output,
    Part,
    RunDirectory,
    Series,
    check_shard,
    check_usable,
    compact,
    files_of,
    manifest_of,
    write_class_names,
)
from dawin_ray.storage import Fence, exclusive, join

CACHE_NOTE = "work/cache.json"


def score(prepared: Prepared, progress: Progress | None = None, *, restart: bool = False) -> Report:
    """Run a job, or resume it, and return its report; a finished one is only read.

    Without a `progress`, lines go to the console. With `restart`, what the run directory holds of a
    run is deleted first.

    Raises:
        UserError: the run directory is another job's, the cluster lacks something, or the data
            hold what only reading could show.
        RowsLostError: rows are missing at the end.
    """
    job = prepared.job
    progress = ConsoleProgress() if progress is None else progress
    progress.say(f"run directory {job.run_dir}")
    run = RunDirectory(job.run_dir)
    if restart:
        with exclusive(job.run_dir) as fence:
            _clear(job.run_dir, fence)
    if job.mode == "append":
        return _append(prepared, progress, restart)
    if run.state(prepared.fingerprint, files_of(prepared.shards)) == "finished":
        Manifest.read(run)
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        if run.exists(WORK):  # where the run ended between its manifest and this
            with exclusive(job.run_dir) as fence:
                RunDirectory(job.run_dir, fence=fence).work.remove()
        return Report.read(run)
    with exclusive(job.run_dir) as fence, _session(prepared, progress.say) as session:
        run = RunDirectory(job.run_dir, fence=fence)
        return _score(run, prepared, session, progress, cleared=restart)


def _clear(run_dir: str, fence: Fence | None) -> None:
    """Delete what a run directory holds of runs, and of batches if it grows."""
    series = Series(run_dir, fence)
    series.run.clear(series.names_to_clear())


def _append(prepared: Prepared, progress: Progress, cleared: bool) -> Report:
    """Score what the run directory has not scored yet, as a batch; the last batch's report."""
    job = prepared.job
    common = prepared.only({}).fingerprint
    Series(job.run_dir).run.state(common)  # refuses another job's before it waits for anything
    with exclusive(job.run_dir) as fence:
        series = Series(job.run_dir, fence)
        series.settle()  # where a run ended between a batch's manifest and this
        if strangers := series.strangers():
            progress.say(
                f"{job.run_dir}: {', '.join(strangers)} in {BATCHES}/ is none of its batches: left "
                "alone and not read. Move it elsewhere."
            )
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
            with _session(prepared, progress.say) as session:
                claim = {**common, "precision": session.precision}
                series.run.open(claim, job.to_yaml(), cleared=cleared)
                batch = series.begin(shards)
                progress.say(f"batch {batch.batch}: {count:,} new or changed files")
                _score(batch, prepared.only(shards), session, progress)
            if replaced := series.settle():
                progress.say(f"rows of {replaced:,} changed files were taken out of older batches")
        write_overview(series)
        series.finish(dawin_ray.__version__)
    return Report.read(batch)


@dataclass(frozen=True)
class _Session:
    """An engine that runs, what the job gets of it, and the precision that its devices decide."""

    engine: Engine
    on: Resources
    precision: Precision


@contextmanager
def _session(prepared: Prepared, say: Say) -> Iterator[_Session]:
    compute = prepared.job.compute
    engine = engine_of(compute)
    with ExitStack() as stack:
        with step(say, engine.starting):
            on = stack.enter_context(engine.session(say, prepared.job.storage_options))
        precision = resolve(compute.precision, on.device)
        say(
            f"{on.actors:,} model actor{'s' if on.actors > 1 else ''} on {on.device} "
            f"({precision}), {on.readers:,} reader{'s' if on.readers > 1 else ''}"
        )
        yield _Session(engine, on, precision)


def _score(
    run: RunDirectory,
    prepared: Prepared,
    session: _Session,
    progress: Progress,
    *,
    cleared: bool = False,
) -> Report:
    job, on = prepared.job, session.on
    state = run.open(
        {**prepared.fingerprint, "precision": session.precision},
        job.to_yaml(),
        # a batch has its listing in its shards.jsonl, and its data may change while it is under way
        None if run.batch else files_of(prepared.shards),
        cleared=cleared,
    )
    if state == "finished":  # by another run, just before this one had the lock
        return Report.read(run)
    if state == "unfinished":
        progress.say(f"{run.address} is unfinished; its finished chunks are kept.")
    for line in labels_of(prepared):
        progress.say(line)
    spec = replace(prepared.spec, device=on.device, precision=session.precision)
    shards = list(itertools.chain.from_iterable(prepared.shards.values()))
    indexes = Indexes(
        root=join(run.address, INDEX),
        chunk_size=job.compute.chunk_size,
        above=large_above(shards, on.readers),
    )
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes, indexes)
    cache = _cache(run, prepared, shards, on, progress)
    passes = Passes(
        engine=session.engine,
        run=run,
        state=state,
        shards=shards,
        read=ReadChunks(decode, cache),
        indexes=indexes,
        on=on,
        chunk_size=job.compute.chunk_size,
        progress=progress,
        counts=counts_of(shards, progress.say),
    )
    fits = _fits_and_predictions(passes, prepared, spec)

    counts = {
        dataset: [check_shard(run, shard) for shard in of_set]
        for dataset, of_set in prepared.shards.items()
    }
    outputs: list[Part | Output] = [*compact(run, prepared.shards)]
    drift = drift_of_run(run, prepared)
    if drift is not None:
        session.engine.publish(drift, on)
    report = summarise(run, spec, prepared.shards, fits, on, passes.timings)
    report = replace(report, drift=drift)
    report.write(run)
    write_class_names(run, prepared.class_names)
    save_fits(run, prepared, fits)
    write_page(run)
    listing = SHARDS if run.batch else DATA
    own = (JOB, FINGERPRINT, listing, MIXTURE, CLASSES, FIT, "report.json", *PAGE_FILES)
    outputs += [run.describe(name) for name in own]
    if cache is not None and not job.compute.keep_cache:
        cache.remove()  # before the manifest: behind it, nobody would come back to do it
    manifest = manifest_of(
        prepared.fingerprint, prepared.shards, counts, outputs, session.precision
    )
    manifest.write(run)
    run.work.remove()
    return report


def _fits_and_predictions(
    passes: Passes, prepared: Prepared, spec: ScoringSpec
) -> Mapping[str, Fit]:
    """The passes, and the fit between them; the fit of each data set."""
    job, run, say = prepared.job, passes.run, passes.progress.say

    def go(stage: Pass) -> None:
        passes(stage)
        check_usable(run, prepared.shards, job.max_reject_fraction, job.max_broken_shards)

    if not job.one_pass:
        go(experts_pass(spec))
        fits = fit_datasets(run, prepared, say)
        go(predictions_pass(spec, fits))
        return fits
    saved = prepared.saved
    if saved is not None and job.saved_fit is not None:
        told = saved.fit.describe([expert.name for expert in job.experts])
        say(f"fit of {job.saved_fit.address}: {told}")
    fits = dict.fromkeys(prepared.shards, saved.fit if saved else Fit())
    go(single_pass(spec, fits))
    if saved is None:
        return fit_datasets(run, prepared, say)
    write_fits(run, prepared, {"saved": list(fits)}, fits, {})
    return fits


def _cache(
    run: RunDirectory,
    prepared: Prepared,
    shards: Sequence[Shard],
    on: Resources,
    progress: Progress,
) -> CropCache | None:
    job = prepared.job
    height, width = prepared.preprocessing.size
    # tars and Parquet files would have to be opened one by one to count their samples
    counted = all(FORMATS[shard.format].of_images for shard in shards)
    images = sum(len(shard.images) for shard in shards)
    plan = plan_cache(
        job.compute.cache,
        job.run_dir,
        needed=images * height * width * 3 if counted else None,
        nodes=on.nodes,
        passes=1 if job.one_pass else 2,
        noted=_noted(run),
    )
    progress.say(f"crop cache {plan.why}")
    if plan.temporary:
        run.write_json(CACHE_NOTE, plan.root)
    return None if plan.root is None else CropCache(plan.root, prepared.cache_keys)


def _noted(run: RunDirectory) -> str | None:
    """Where an earlier start of the run had its crop cache, if it was in a temporary folder."""
    try:
        return str(run.read_json(CACHE_NOTE)) if run.exists(CACHE_NOTE) else None
    except ValueError:  # damaged: then the crops are made again
        return None
