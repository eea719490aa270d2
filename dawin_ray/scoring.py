"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from dawin_ray import pipeline, tables
from dawin_ray.cache import CropCache, ReadChunks, plan_cache
from dawin_ray.datasets import Shard
from dawin_ray.decoding import DecodeImages
from dawin_ray.errors import UserError
from dawin_ray.fitting import Fit, fit
from dawin_ray.precision import resolve
from dawin_ray.prepare import Prepared
from dawin_ray.progress import Timing
from dawin_ray.report import summarise
from dawin_ray.runs import MANIFEST, Kind, RunDirectory, State

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Who is told how a run goes."""

    def phase(self, name: str, total_bytes: int) -> Any:
        """A context manager whose value takes each chunk's summary."""

    def say(self, message: str) -> None:
        """One line for a person."""


class RowsLostError(RuntimeError):
    """Rows read are not rows predicted plus rows rejected: a fault of ours, never ignored."""


def score(prepared: Prepared, progress: Progress) -> dict[str, Any]:
    """Run a job, or resume it, and return its report; a finished one is only read.

    Raises:
        UserError: the run directory is another job's, the cluster lacks something, or the data
            hold what only reading could show.
        RowsLostError: rows are missing at the end.
    """
    job = prepared.job
    run = RunDirectory(job.run_dir)
    if run.state(prepared.fingerprint) == "finished":
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        return run.read_json("report.json")

    with pipeline.ray_session(job.compute.address):
        on = pipeline.resources(job.compute)
        precision = resolve(job.compute.precision, on.device)
        state = run.open({**prepared.fingerprint, "precision": precision}, job.to_yaml())
        if state == "unfinished":
            progress.say(f"{job.run_dir} is unfinished; its finished chunks are kept.")
        spec = replace(prepared.spec, device=on.device, precision=precision)
        shards = list(itertools.chain.from_iterable(prepared.shards.values()))
        cache = _cache(prepared, on, progress)
        decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
        stream = (shards, ReadChunks(decode, cache))
        timings: dict[str, Timing] = {}

        def run_pass(name: str, chunks: Iterator[Mapping[str, Any]]) -> None:
            size = sum(shard.bytes for shard in shards)
            with progress.phase(name, size) as advance, Timing.of(timings, name) as timing:
                for chunk in chunks:
                    timing.add(chunk)
                    advance(chunk)

        if job.one_pass:
            fits = dict.fromkeys(prepared.shards, Fit())
            finished = _Finished(run, state, "predictions")
            run_pass("at_once", pipeline.score_at_once(*stream, finished, spec, on, run, fits))
            _check_usable(run, prepared)
            fits = _fit(run, prepared, progress)
        else:
            finished = _Finished(run, state, "experts")
            run_pass("experts", pipeline.score_experts(*stream, finished, spec, on, run))
            _check_usable(run, prepared)
            fits = _fit(run, prepared, progress)
            finished = _Finished(run, state, "predictions", of="experts")
            merged = pipeline.predict(*stream, finished, spec, on, run, fits)
            run_pass("exact" if job.exact else "merged", merged)

    _check_conserved(run, prepared, next(iter(timings.values())), fresh=state == "new")
    report = summarise(run, prepared, fits, on, precision, timings)
    run.write_json("report.json", report)
    rows = {d["dataset"]: {k: d[k] for k in ("rows", "rejects")} for d in report["datasets"]}
    run.write_json(MANIFEST, {"rows": rows, "fingerprint": prepared.fingerprint})
    if cache is not None and not job.compute.keep_cache:
        cache.remove()
    return report


@dataclass(frozen=True)
class _Finished:
    """Names of a shard's committed chunks; None where they are all chunks that `of` has.

    `of` is a kind whose pass is complete; without it nobody knows how many chunks a shard has.
    """

    run: RunDirectory
    state: State
    kind: Kind
    of: Kind | None = None

    def __call__(self, shard: Shard) -> Collection[str] | None:
        if self.state == "new":
            return ()
        done = self._chunks(self.kind, shard)
        return None if self.of is not None and done == self._chunks(self.of, shard) else done

    def _chunks(self, kind: Kind, shard: Shard) -> set[str]:
        return set(self.run.chunks(kind, shard.dataset, prefix=f"{shard.key}-"))


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
    groups = {"joint": names} if job.fit == "joint" else {name: [name] for name in names}
    fits: dict[str, Fit] = {}
    written: dict[str, Any] = {}
    for group, members in groups.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fitted = fit(
                partial(_log_expertise, run, members, len(job.experts)),
                len(job.experts),
                job.coefficient,
                job.mixture,
            )
        notes = sorted({str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)})
        for note in notes:
            logger.warning("mixture of %s: %s", group, note)
        fits |= dict.fromkeys(members, fitted)
        progress.say(f"fit of {group}: {fitted.describe()}")
        written[group] = {"datasets": members, "warnings": notes} | fitted.to_dict()
    names = [expert.name for expert in job.experts]
    run.write_json("mixture.json", {"experts": names, "fits": written})
    return fits


def _log_expertise(run: RunDirectory, datasets: list[str], experts: int) -> Iterator[np.ndarray]:
    for dataset in datasets:
        for table in run.read_all("experts", dataset, ["log_expertise"]):
            if table.num_rows:
                yield tables.rows_of(table["log_expertise"], experts)


def _check_usable(run: RunDirectory, prepared: Prepared) -> None:
    for dataset in prepared.shards:
        if any(t.num_rows for t in run.read_all("experts", dataset, ["sample_id"])):
            continue
        rejects = [
            row for table in run.rejects() for row in table.to_pylist() if row["dataset"] == dataset
        ]
        first = f"; the first: {rejects[0]['sample_id']}: {rejects[0]['reason']}" if rejects else ""
        raise UserError(
            f"Data set '{dataset}' has no usable image: {len(rejects)} samples were read and all "
            f"rejected{first}. All reasons are in {run.address}/rejects."
        )


def _check_conserved(run: RunDirectory, prepared: Prepared, first: Timing, *, fresh: bool) -> None:
    """Rows read = predictions + rejects, by chunk and by data set."""
    rejected = Counter(
        dataset for table in run.rejects() for dataset in table["dataset"].to_pylist()
    )
    for dataset in prepared.shards:
        counts = {}
        for kind in ("experts", "predictions"):
            counts[kind] = {
                chunk: run.read(kind, dataset, chunk, ["sample_id"]).num_rows
                for chunk in run.chunks(kind, dataset)
            }
        if counts["experts"] != counts["predictions"]:
            differing = counts["experts"].items() ^ counts["predictions"].items()
            raise RowsLostError(
                f"data set '{dataset}': pass 1 and pass 2 differ in chunks "
                f"{sorted({name for name, _ in differing})[:5]} of {run.address}"
            )
        kept, read = sum(counts["predictions"].values()), first.rows[dataset]
        if fresh and (kept, rejected[dataset]) != (read, first.rejects[dataset]):
            raise RowsLostError(
                f"data set '{dataset}': {read} rows scored and {first.rejects[dataset]} rejected, "
                f"but {kept} predictions and {rejected[dataset]} rejects in {run.address}"
            )
