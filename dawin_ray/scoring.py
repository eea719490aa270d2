"""A whole job: pass 1, fit, pass 2, report. Reads like the paper."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from dawin_ray import pipeline, tables
from dawin_ray.datasets import Shard
from dawin_ray.errors import UserError
from dawin_ray.fitting import Fit, fit
from dawin_ray.prepare import Prepared
from dawin_ray.progress import Timing
from dawin_ray.report import summarise
from dawin_ray.runs import MANIFEST, Kind, RunDirectory
from dawin_ray.stages import DecodeImages

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
    state = run.open(prepared.fingerprint, job.to_yaml())
    if state == "finished":
        progress.say(f"{job.run_dir} is complete already; nothing is left to do.")
        return run.read_json("report.json")
    if state == "unfinished":
        progress.say(f"{job.run_dir} is unfinished; its finished chunks are kept.")

    with pipeline.ray_session(job.compute.address):
        on = pipeline.resources(job.compute)
        spec = replace(prepared.spec, device=on.device)
        shards = list(itertools.chain.from_iterable(prepared.shards.values()))
        size = sum(shard.bytes for shard in shards)

        def decode(kind: Kind) -> DecodeImages:
            finished = {"finished": partial(_finished, run, kind)} if state != "new" else {}
            return DecodeImages(
                prepared.preprocessing, job.compute.chunk_size, spec.classes, **finished
            )

        timings: dict[str, Timing] = {}
        with progress.phase("experts", size) as advance, Timing.of(timings, "experts") as timing:
            for chunk in pipeline.score_experts(shards, decode("experts"), spec, on, run):
                timing.add(chunk)
                advance(chunk)
        _check_usable(run, prepared)
        fits, fitted = _fit(run, prepared)
        run.write_json("mixture.json", fitted)
        with progress.phase("merged", size) as advance, Timing.of(timings, "merged") as timing:
            for chunk in pipeline.predict_merged(
                shards, decode("predictions"), spec, fits, on, run
            ):
                timing.add(chunk)
                advance(chunk)

    _check_conserved(run, prepared, timings["experts"], fresh=state == "new")
    report = summarise(run, prepared, fits, on, timings)
    run.write_json("report.json", report)
    rows = {d["dataset"]: {k: d[k] for k in ("rows", "rejects")} for d in report["datasets"]}
    run.write_json(MANIFEST, {"rows": rows, "fingerprint": prepared.fingerprint})
    return report


def _finished(run: RunDirectory, kind: Kind, shard: Shard) -> Collection[str]:
    """Names of a shard's chunks that are committed."""
    return set(run.chunks(kind, shard.dataset, prefix=f"{shard.key}-"))


def _fit(run: RunDirectory, prepared: Prepared) -> tuple[dict[str, Fit], dict[str, Any]]:
    """The fit of each data set, and what goes into mixture.json."""
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
        written[group] = {"datasets": members, "warnings": notes} | fitted.to_dict()
    return fits, {"experts": [e.name for e in job.experts], "fits": written}


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
