"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
import json
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
from dawin_ray.engine import Engine, Resources, engine_of
from dawin_ray.errors import UserError
from dawin_ray.job.fitting import drift_of_run, fit_datasets, save_fits, write_fits
from dawin_ray.job.meter import Meter, Metered, metered
from dawin_ray.job.parts import (
    FirstParts,
    counts_of_shards,
    experts_parts,
    files_of_parts,
    predictions_parts,
    records_of,
    summaries_of,
)
from dawin_ray.job.plan import labels_of
from dawin_ray.job.prepare import Prepared
from dawin_ray.job.progress import ConsoleProgress, step
from dawin_ray.job.running import Passes, Progress, counts_of
from dawin_ray.job.shared import check_shared
from dawin_ray.method import Fit, import_soon
from dawin_ray.models import Precision, resolve
from dawin_ray.passes import Pass, ScoringSpec, experts_pass, predictions_pass, single_pass
from dawin_ray.report import PAGE_FILES, Report, Scored, summarise, write_overview, write_page
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
    Compared,
    Manifest,
    Output,
    Part,
    RunDirectory,
    Series,
    check_usable,
    files_of,
    manifest_of,
    write_class_names,
)
from dawin_ray.stopping import stoppable, unheeded
from dawin_ray.storage import Fence, exclusive, join

CACHE_NOTE = "work/cache.json"


def score(
    prepared: Prepared,
    progress: Progress | None = None,
    *,
    restart: bool = False,
    engine: Engine | None = None,
    meter: Meter | None = None,
) -> Report:
    """Run a job, or resume it, and return its report; a finished one is only read.

    Without a `progress`, lines go to the console. With `restart`, what the run directory holds of a
    run is deleted first. `engine` takes the place of the one that the job names. A `meter` is told
    what the run does, and its sinks so; the engine's are told in any case.

    SIGTERM and SIGUSR1 raise `stopping.Stopped`, a KeyboardInterrupt, where they would end this
    process otherwise; the same call resumes.

    Raises:
        UserError: the run directory is another job's, the cluster lacks something, or the data
            hold what only reading could show.
        RowsLostError: rows are missing at the end.
    """
    progress = ConsoleProgress() if progress is None else progress
    engine = engine or engine_of(prepared.job.compute)
    with stoppable(*unheeded()):
        if meter is not None:
            return _run(prepared, engine, Metered(progress, meter), restart)
        with metered(prepared.job.run_dir) as meter:
            return _run(prepared, engine, Metered(progress, meter), restart)


def _run(prepared: Prepared, engine: Engine, progress: Metered, restart: bool) -> Report:
    job = prepared.job
    progress.say(f"run directory {job.run_dir}")
    run = RunDirectory(job.run_dir)
    if restart:
        with exclusive(job.run_dir) as fence:
            _clear(job.run_dir, fence)
    if job.mode == "append":
        return _append(prepared, engine, progress, restart)
    if run.state(prepared.fingerprint, files_of(prepared.shards)) == "finished":
        Manifest.read(run)
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        if run.exists(WORK):  # where the run ended between its manifest and this
            with exclusive(job.run_dir) as fence:
                RunDirectory(job.run_dir, fence=fence).work.remove()
        return Report.read(run)
    with exclusive(job.run_dir) as fence, _session(prepared, engine, progress) as session:
        run = RunDirectory(job.run_dir, fence=fence)
        return _score(run, prepared, session, progress, cleared=restart)


def _clear(run_dir: str, fence: Fence | None) -> None:
    """Delete what a run directory holds of runs, and of batches if it grows."""
    series = Series(run_dir, fence)
    series.run.clear(series.names_to_clear())


def _append(prepared: Prepared, engine: Engine, progress: Metered, cleared: bool) -> Report:
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
            with _session(prepared, engine, progress) as session:
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
def _session(prepared: Prepared, engine: Engine, progress: Metered) -> Iterator[_Session]:
    compute, say, meter = prepared.job.compute, progress.say, progress.meter
    meter.enter("starting")
    with ExitStack() as stack:
        with step(say, engine.starting):
            on = stack.enter_context(engine.session(say, prepared.job.storage_options))
        check_shared(prepared.job.run_dir, engine, on)
        stack.enter_context(meter.shown(engine.sink(), on.tries))
        precision = resolve(compute.precision, on.device)
        say(
            f"{on.pool} on {on.device} ({precision}), "
            f"{on.readers:,} reader{'s' if on.readers > 1 else ''}"
        )
        yield _Session(engine, on, precision)


def _score(
    run: RunDirectory,
    prepared: Prepared,
    session: _Session,
    progress: Metered,
    *,
    cleared: bool = False,
) -> Report:
    job, on, meter = prepared.job, session.on, progress.meter
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
    fits, first = _fits_and_predictions(passes, prepared, spec, meter)
    meter.enter("parts")
    compared = Compared.of([expert.name for expert in job.experts], job.methods, exact=job.exact)
    second = predictions_parts(passes, compared, first)
    outputs: list[Part | Output] = [*files_of_parts(first, second)]
    summaries = summaries_of(passes, first, second)
    meter.enter("report")
    drift = drift_of_run(prepared, summaries)
    if drift is not None:
        meter.drifted(drift)
        session.engine.publish(drift, on)
    found = Scored(fits=fits, summaries=summaries)
    report = summarise(run, spec, records_of(first), found, on, passes.timings)
    report = replace(report, drift=drift, in_distribution=job.in_distribution)
    report.write(run)
    write_class_names(run, prepared.class_names)
    save_fits(run, prepared, fits, summaries)
    report = replace(report, doubts=write_page(run, summaries=summaries).doubts)
    report.write(run)
    listing = SHARDS if run.batch else DATA
    own = (JOB, FINGERPRINT, listing, MIXTURE, CLASSES, FIT, "report.json", *PAGE_FILES)
    outputs += [run.describe(name) for name in own]
    if cache is not None and not job.compute.keep_cache:
        cache.remove()  # before the manifest: behind it, nobody would come back to do it
    manifest = manifest_of(
        prepared.fingerprint,
        prepared.shards,
        counts_of_shards(first, prepared.shards),
        outputs,
        session.precision,
    )
    manifest.write(run)
    for _ in session.engine.map(run.work.remove, run.work.folders(), on):
        pass  # of chunks there may be millions
    run.work.remove()
    meter.enter("done")
    return report


def _fits_and_predictions(
    passes: Passes, prepared: Prepared, spec: ScoringSpec, meter: Meter
) -> tuple[Mapping[str, Fit], FirstParts]:
    """The passes, and the fit between them; the fit of each data set, and the parts of pass 1."""
    job, run, say = prepared.job, passes.run, passes.progress.say

    def go(stage: Pass) -> FirstParts:
        passes(stage)
        meter.enter("parts")
        first = experts_parts(passes, prepared.shards)
        check_usable(records_of(first), job.max_reject_fraction, job.max_broken_shards)
        meter.enter("fit")
        return first

    if not job.one_pass:
        import_soon()  # beside the forwards, so that between the passes no model waits for it
        first = go(experts_pass(spec))
        fits = fit_datasets(passes, prepared, first)
        passes(predictions_pass(spec, fits))
        return fits, first
    saved = prepared.saved
    if saved is not None and job.saved_fit is not None:
        told = saved.fit.describe([expert.name for expert in job.experts])
        say(f"fit of {job.saved_fit.address}: {told}")
    fits = {
        name: saved.fit if saved else Fit(log_odds=prepared.log_odds.get(name))
        for name in prepared.shards
    }
    first = go(single_pass(spec, fits))
    if saved is None:
        return fit_datasets(passes, prepared, first), first
    write_fits(run, prepared, {"saved": list(fits)}, fits, {})
    return fits, first


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
        found = json.loads(run.read_text(CACHE_NOTE)) if run.exists(CACHE_NOTE) else None
    except ValueError:  # damaged: then the crops are made again
        return None
    return found if isinstance(found, str) else None
