"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

import dawin_ray
from dawin_ray import tables
from dawin_ray.data import (
    FORMATS,
    CropCache,
    DecodeImages,
    ReadChunks,
    Shard,
    chunk_name,
    count_samples,
    plan_cache,
)
from dawin_ray.engine import (
    Resources,
    Timing,
    compute,
    count_tries,
    predict,
    publish_drift,
    ray_session,
    resources,
    score_at_once,
    score_experts,
)
from dawin_ray.errors import UserError
from dawin_ray.job.fitting import drift_of_run, fit_datasets, save_fits, write_fits
from dawin_ray.job.plan import labels_of
from dawin_ray.job.prepare import Prepared
from dawin_ray.job.progress import Say, step, told
from dawin_ray.method import Fit
from dawin_ray.models import Precision, resolve
from dawin_ray.passes import PHASES
from dawin_ray.report import REPORTS, summarise, write_overview, write_page
from dawin_ray.runs import (
    BATCHES,
    CLASSES,
    DATA,
    FINGERPRINT,
    FIT,
    MANIFEST,
    MIXTURE,
    SHARDS,
    WORK,
    Kind,
    PassLedger,
    RunDirectory,
    Series,
    State,
    check_shard,
    check_usable,
    checked,
    files_of,
    manifest_of,
)
from dawin_ray.storage import Fence, exclusive, join

COUNT_SECONDS = 10.0  # that may pass before a run begins, to count its samples for the forecast

CACHE_NOTE = "work/cache.json"


class Progress(Protocol):
    """Who is told how a run goes."""

    def phase(self, name: str, total: int) -> Any:
        """A context manager whose value takes each chunk's summary.

        `total` is the sum of the summaries' `work`: images where they are counted, else bytes.
        """

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
    progress.say(f"run directory {job.run_dir}")
    run = RunDirectory(job.run_dir)
    if restart:
        with exclusive(job.run_dir) as fence:
            _clear(job.run_dir, fence)
    if job.mode == "append":
        return _append(prepared, progress, restart)
    if run.state(prepared.fingerprint, files_of(prepared.shards)) == "finished":
        checked(run.read_json(MANIFEST), join(run.address, MANIFEST))
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        if run.exists(WORK):  # where the run ended between its manifest and this
            with exclusive(job.run_dir) as fence:
                RunDirectory(job.run_dir, fence=fence).remove_work()
        return run.read_json("report.json")
    with exclusive(job.run_dir) as fence, _cluster(prepared, progress.say) as (on, precision):
        run = RunDirectory(job.run_dir, fence=fence)
        return _score(run, prepared, on, precision, progress, cleared=restart)


def _clear(run_dir: str, fence: Fence | None) -> None:
    """Delete what a run directory holds of runs, and of batches if it grows."""
    series = Series(run_dir, fence)
    series.run.clear(series.names_to_clear())


def _append(prepared: Prepared, progress: Progress, cleared: bool) -> dict[str, Any]:
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
            with _cluster(prepared, progress.say) as (on, precision):
                claim = {**common, "precision": precision}
                series.run.open(claim, job.to_yaml(), cleared=cleared)
                batch = series.begin(shards)
                progress.say(f"batch {batch.batch}: {count:,} new or changed files")
                _score(batch, prepared.only(shards), on, precision, progress)
            if replaced := series.settle():
                progress.say(f"rows of {replaced:,} changed files were taken out of older batches")
        write_overview(series)
        series.finish(dawin_ray.__version__)
    return batch.read_json("report.json")


@contextmanager
def _cluster(prepared: Prepared, say: Say) -> Iterator[tuple[Resources, Precision]]:
    """Ray, what the job gets of it, and the precision that its devices decide."""
    compute = prepared.job.compute
    address = compute.address or os.environ.get("RAY_ADDRESS")
    start = "starting Ray" if address is None else f"joining Ray at {address}"
    with ExitStack() as session:
        with step(say, start):
            session.enter_context(ray_session(compute.address, say))
        on = resources(compute, prepared.job.storage_options)
        on = replace(on, tries=count_tries())
        precision = resolve(compute.precision, on.device)
        say(
            f"{on.actors:,} model actor{'s' if on.actors > 1 else ''} on {on.device} "
            f"({precision}), {on.readers:,} reader{'s' if on.readers > 1 else ''}"
        )
        yield on, precision


def _score(
    run: RunDirectory,
    prepared: Prepared,
    on: Resources,
    precision: Precision,
    progress: Progress,
    *,
    cleared: bool = False,
) -> dict[str, Any]:
    job = prepared.job
    state = run.open(
        {**prepared.fingerprint, "precision": precision},
        job.to_yaml(),
        # a batch has its listing in its shards.jsonl, and its data may change while it is under way
        None if run.batch else files_of(prepared.shards),
        cleared=cleared,
    )
    if state == "finished":  # by another run, just before this one had the lock
        return run.read_json("report.json")
    if state == "unfinished":
        progress.say(f"{run.address} is unfinished; its finished chunks are kept.")
    for line in labels_of(prepared):
        progress.say(line)
    spec = replace(prepared.spec, device=on.device, precision=precision)
    shards = list(itertools.chain.from_iterable(prepared.shards.values()))
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    cache = _cache(run, prepared, on, progress)
    read = ReadChunks(decode, cache)
    timings: dict[str, Timing] = {}
    counts = _counts(shards, progress.say)

    def run_pass(name: str, kinds: Sequence[Kind], stream: Callable, *arguments: Any) -> None:
        ledger = PassLedger(run, kinds, shards)
        if skipped := len(shards) - len(ledger.remaining):
            progress.say(f"{PHASES[name]}: {skipped} of {len(shards)} shards are there already")
        finished = _Finished(run, state, kinds)
        total, unit = _work(ledger.remaining, finished, counts, job.compute.chunk_size)
        chunks = stream(ledger.remaining, read, finished, spec, on, run, *arguments)
        stage = PHASES[name].split(",")[0]
        with (
            progress.phase(name, total) as advance,
            Timing.of(timings, name) as timing,
            told(on.tries, progress.say, PHASES[name], stage) as first_is_there,
        ):
            for chunk in chunks:
                first_is_there()
                ledger.add(chunk)
                timing.add(chunk)
                advance({**chunk, "work": sum(chunk[key] for key in unit)})
        ledger.check_complete()
        check_usable(run, prepared.shards, job.max_reject_fraction, job.max_broken_shards)

    if job.one_pass:
        saved = prepared.saved
        if saved is not None:
            progress.say(f"fit of {job.saved_fit.address}: {saved.fit.describe()}")
        fits = dict.fromkeys(prepared.shards, saved.fit if saved else Fit())
        kinds: tuple[Kind, ...] = ("experts", "predictions")
        run_pass("at_once", kinds, score_at_once, fits)
        if saved is None:
            fits = fit_datasets(run, prepared, progress.say)
        else:
            write_fits(run, prepared, {"saved": list(fits)}, fits, {})
    else:
        run_pass("experts", ("experts",), score_experts)
        fits = fit_datasets(run, prepared, progress.say)
        name = "exact" if job.exact else "merged"
        run_pass(name, ("predictions",), predict, fits)

    read_counts = {
        dataset: [check_shard(run, shard) for shard in shards]
        for dataset, shards in prepared.shards.items()
    }
    outputs = _compact(run, prepared)
    report = summarise(run, spec, prepared.shards, fits, on, timings)
    report["drift"] = drift_of_run(run, prepared)
    if report["drift"] is not None:
        publish_drift(report["drift"], on)
    run.write_json("report.json", report)
    run.write_json(CLASSES, prepared.class_names)
    save_fits(run, prepared, fits)
    write_page(run)
    listing = SHARDS if run.batch else DATA
    own = ("job.yaml", FINGERPRINT, listing, MIXTURE, CLASSES, FIT, "report.json", *REPORTS)
    outputs += [run.describe(name) for name in own]
    if cache is not None and not job.compute.keep_cache:
        cache.remove()  # before the manifest: behind it, nobody would come back to do it
    run.write_json(
        MANIFEST,
        manifest_of(prepared.fingerprint, prepared.shards, read_counts, outputs, precision),
    )
    run.remove_work()
    return report


def _counts(shards: Sequence[Shard], say: Say) -> dict[tuple[str, str], int] | None:
    """Samples of each shard where all tell it soon, for forecasts; None where not."""
    counts, deadline = {}, time.monotonic() + COUNT_SECONDS
    if not all(FORMATS[shard.format].of_images for shard in shards):
        with step(say, "counting samples for the forecast") as found:
            for shard in shards:
                count = count_samples(shard) if time.monotonic() < deadline else None
                if count is None:
                    found("not all can be counted soon: it goes by bytes")
                    return None
                counts[shard.dataset, shard.key] = count
            found(f"{sum(counts.values()):,}")
        return counts
    return {(shard.dataset, shard.key): len(shard.images) for shard in shards}


def _work(
    shards: Sequence[Shard],
    finished: Callable[[Shard], Collection[str]],
    counts: dict[tuple[str, str], int] | None,
    chunk_size: int,
) -> tuple[int, tuple[str, ...]]:
    """What a pass has to do, without the chunks that are there, and where summaries say it."""
    if counts is None:
        return sum(shard.bytes for shard in shards), ("bytes",)
    total = 0
    for shard in shards:
        count, there = counts[shard.dataset, shard.key], finished(shard)
        total += sum(
            min(chunk_size, count - start)
            for start in range(0, count, chunk_size)
            if not there or chunk_name(shard, start) not in there
        )
    return total, ("rows", "rejects")


@dataclass(frozen=True)
class _Finished:
    """Names of a shard's chunks that are committed in all kinds of a pass."""

    run: RunDirectory
    state: State
    kinds: Sequence[Kind]

    def __call__(self, shard: Shard) -> Collection[str]:
        if self.state == "new":
            return ()
        found = [self.run.chunks(kind, shard.dataset, shard.key) for kind in self.kinds]
        return set(found[0]).intersection(*found)


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


def _cache(
    run: RunDirectory, prepared: Prepared, on: compute.Resources, progress: Progress
) -> CropCache | None:
    job = prepared.job
    height, width = prepared.preprocessing.size
    shards = list(itertools.chain.from_iterable(prepared.shards.values()))
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
