"""Is a finished run still what its manifest says, and do its figures come out again?"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import yaml

from dawin_ray.config import make_job
from dawin_ray.data import FATAL, DecodeImages, Shard, chunk_name
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import Prepared, prepare
from dawin_ray.models import Precision, load_experts
from dawin_ray.passes import Predict, ScoreExperts
from dawin_ray.runs import (
    BATCHES,
    FIGURES_OF_LABELS,
    JOB,
    LEDGER,
    MANIFEST,
    SHARDS,
    Manifest,
    Mixtures,
    RunDirectory,
    Series,
    SeriesManifest,
    changed_files,
    faults_of_manifest,
    faults_of_outputs,
    files_of,
    shards_of,
    unlisted_files,
)
from dawin_ray.storage import join, unreadable

# On the machine of the run all values come out to the last bit; another one sums in another order.
# Probabilities of lower-precision towers move by their rounding, some 2^-8 of a logit.
TOLERANCE = {"float32": 1e-4, "tf32": 5e-2, "bfloat16": 2e-1, "float16": 5e-2}

SAMPLED = "float32_prediction"  # a column that most rows have nothing in

SHOWN_ROWS = 5  # of a chunk that comes out otherwise


def verify(run_dir: str, sample: float = 0.001, seed: int | None = None) -> list[str]:
    """What is wrong with a run, a line each; empty where all is well.

    Rehashes and recounts every output, looks for files that nothing lists, compares the inputs' and
    checkpoints' hashes, and scores about `sample` of the samples again, in whole chunks. Of a run
    directory that grows, each batch; files that have changed or gone since they were scored are not
    scored again there.

    Raises:
        UserError: it is no finished run, or cannot be read.
    """
    run_dir = run_dir.rstrip("/") or "/"
    run = RunDirectory.at(run_dir)
    if run.batch is not None or not run.grows():
        manifest = _manifest(run)
        wrong = _of_run(run, manifest, sample, random.Random(seed))
        if run.batch is None and _is_sealed(manifest):
            wrong += unlisted_files(run_dir, {MANIFEST, *_paths(manifest)})
        return wrong
    return _of_series(Series(run_dir), sample, seed)


def _of_series(series: Series, sample: float, seed: int | None) -> list[str]:
    whole = _manifest(series.run)
    if wrong := list(faults_of_manifest(whole, ("batches",))):
        return wrong
    wrong += faults_of_outputs(series.run, SeriesManifest.read(series.run).outputs)
    listed = {MANIFEST, LEDGER, *_paths(whole)}
    seen: dict[tuple[str, str], str] = {}
    unknown = []
    for name, seal in sorted(whole["batches"].items()):
        batch = series.batch(name)
        listed |= {join(BATCHES, name, file) for file in (MANIFEST, SHARDS)}
        if lost := _lost_of(series, name):
            wrong += lost
            unknown.append(name)
            continue
        try:
            manifest = _manifest(batch)
            files = files_of(shards_of(batch))
        except UserError as error:
            wrong.append(f"batch {name}: {error}")
            unknown.append(name)
            continue
        if manifest.get("seal") != seal:
            wrong.append(f"batch {name}: its {MANIFEST} is another than that of {MANIFEST}")
        if _is_sealed(manifest):
            listed |= {*_paths(manifest)}
        else:
            unknown.append(name)
        for where in ((dataset, file) for dataset, of_set in files.items() for file in of_set):
            if (other := seen.setdefault(where, name)) != name:
                wrong.append(
                    f"{where[1]} of data set '{where[0]}' is in batches {other} and {name}"
                )
        found = _of_run(batch, manifest, sample, random.Random(seed))
        wrong += [f"batch {name}: {line}" for line in found]
    strangers = series.run.folders(BATCHES)
    wrong += [
        f"batch {name} is not in the {MANIFEST}"
        for name in strangers
        if name not in whole["batches"]
    ]
    return wrong + list(unlisted_files(series.address, listed, unknown))


def _lost_of(series: Series, name: str) -> list[str]:
    """What a batch lacks of the files by which it is known."""
    if not series.run.exists(join(BATCHES, name)):
        return [f"batch {name} is missing"]
    batch = series.batch(name)
    return [f"batch {name}: {f} is missing" for f in (MANIFEST, SHARDS) if not batch.exists(f)]


def _paths(manifest: Mapping[str, Any]) -> list[str]:
    return [output["path"] for output in manifest.get("outputs", [])]


def _is_sealed(manifest: Mapping[str, Any]) -> bool:
    return not list(faults_of_manifest(manifest))


def _manifest(run: RunDirectory) -> dict[str, Any]:
    try:
        if not run.exists(MANIFEST):
            raise UserError(
                f"{run.address!r} holds no {MANIFEST}: it is no finished run. Finish it with "
                "dawin-ray run, or check the path."
            )
        return run.read_json(MANIFEST)
    except (OSError, ValueError) as error:
        raise unreadable(join(run.address, MANIFEST), "manifest", error) from error


def _of_run(
    run: RunDirectory, content: Mapping[str, Any], sample: float, draw: random.Random
) -> list[str]:
    wrong = list(
        faults_of_manifest(content, ("outputs", "rows", "inputs", "fingerprint", "precision"))
    )
    if wrong:  # nothing that it says can be believed
        return wrong
    manifest = Manifest.read(run)
    wrong += faults_of_outputs(run, manifest.outputs, manifest.rows)
    fs, path = run.path(JOB)
    try:
        prepared = prepare(make_job(yaml.safe_load(fs.cat_file(path)), path))
    except (OSError, yaml.YAMLError, TypeError) as error:
        return [*wrong, f"job.yaml cannot be read: {error}"]
    except UserError as error:
        return [*wrong, f"the job cannot be prepared again: {error}"]
    if run.batch:
        prepared = prepared.only({d: tuple(s) for d, s in shards_of(run).items()})
    wrong += _of_inputs(run, prepared, manifest)
    if sample and not wrong:  # what was changed need not be scored to be known
        wrong += _of_rescoring(run, prepared, manifest, sample, draw)
    return wrong


def _of_inputs(run: RunDirectory, prepared: Prepared, manifest: Manifest) -> Iterator[str]:
    theirs, ours = manifest.fingerprint, json.loads(json.dumps(prepared.fingerprint))
    then = None
    if not run.batch:
        try:
            then = run.files()
        except UserError as error:
            yield str(error)
    named = [] if then is None else changed_files(then, files_of(prepared.shards))
    yield from (f"data: {line}" for line in named)
    for key in ("code", "checkpoints", "classes", "data", "inputs", "preprocessing"):
        if theirs.get(key) != ours.get(key) and not (key == "data" and named):
            yield f"{key}: {theirs.get(key)} then, {ours.get(key)} now"


def _of_rescoring(
    run: RunDirectory,
    prepared: Prepared,
    manifest: Manifest,
    sample: float,
    draw: random.Random,
) -> Iterator[str]:
    job = prepared.job
    spec = replace(prepared.spec, precision=cast("Precision", manifest.precision))
    fits = Mixtures.read(run).of_datasets
    experts = load_experts(spec.model)
    score = ScoreExperts(spec, experts)
    predict = Predict(spec, fits, experts)
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    rejects = run.parts.read("rejects", columns=["reason"])
    if any(why.startswith(FATAL) for t in rejects for why in t["reason"].to_pylist()):
        decode = decode.alone()  # or the same image would end this process
    for shard, names, start in _drawn(prepared, manifest, sample, draw):
        name = chunk_name(shard, start)
        for chunk in decode(shard, set(names) - {name}):
            again = predict(chunk, score(chunk))
            stored = _stored(run, shard.dataset, set(chunk.sample_ids))
            yield from _of_rows(shard, again, stored, TOLERANCE[manifest.precision])


def _drawn(
    prepared: Prepared, manifest: Manifest, sample: float, draw: random.Random
) -> list[tuple[Shard, list[str], int]]:
    """Chunks that hold about `sample` of the samples: shard, names of its chunks, start."""
    size = prepared.job.compute.chunk_size
    chunks, total = [], 0
    for dataset, shards in prepared.shards.items():
        now = {file: at for s in prepared.sources[dataset].shards() for file, at in s.files.items()}
        for shard, entry in zip(shards, manifest.inputs[dataset], strict=True):
            if any(now.get(file) != at for file, at in shard.files.items()):
                continue  # as it was when it was scored, it is there no more
            read = entry.rows + entry.rejects
            starts = range(0, read, size)
            names = [chunk_name(shard, start) for start in starts]
            chunks += [(shard, names, start, min(size, read - start)) for start in starts]
            total += read
    draw.shuffle(chunks)
    wanted, drawn = math.ceil(sample * total), []
    for shard, names, start, count in chunks:
        if wanted <= 0:
            break
        drawn.append((shard, names, start))
        wanted -= count
    return drawn


def _stored(run: RunDirectory, dataset: str, ids: set[str]) -> dict[str, dict[str, Any]]:
    """The rows of these samples in the run's predictions, by id."""
    found: dict[str, dict[str, Any]] = {}
    for table in run.parts.read("predictions", f"dataset={dataset}"):
        mask = [name in ids for name in table["sample_id"].to_pylist()]
        found |= {row["sample_id"]: row for row in table.filter(pa.array(mask)).to_pylist()}
    return found


def _of_rows(
    shard: Shard, again: pa.Table, stored: Mapping[str, Mapping[str, Any]], tolerance: float
) -> Iterator[str]:
    told = 0
    for row in again.to_pylist():
        there = stored.get(row["sample_id"])
        if there is not None and there[SAMPLED] is None:
            row.pop(SAMPLED)  # which rows it samples depends on the batch's shards as they were
        where = f"sample '{row['sample_id']}' of data set '{shard.dataset}'"
        if there is None:
            line = f"{where} has no prediction"
        elif nothing := [k for k in row if _is_no_number(k, there)]:
            line = f"{where}: {nothing[0]} is no number"
        elif differing := [k for k in row if not _same(row[k], there[k], tolerance)]:
            column = differing[0]
            line = f"{where}: {column} is {there[column]}, scored again {row[column]}"
        else:
            continue
        told += 1
        if told > SHOWN_ROWS:
            yield f"and more samples of shard '{shard.name}'"
            return
        yield line


def _is_no_number(column: str, row: Mapping[str, Any]) -> bool:
    """NaN or an infinity, where it does not stand for a missing label."""
    value = row[column]
    if value is None or isinstance(value, str):
        return False
    if row["label"] is None and column.rpartition("_")[2] in FIGURES_OF_LABELS:
        return False
    return not np.isfinite(np.asarray(value, dtype=np.float64)).all()


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if one is None or other is None or isinstance(one, str):
        return bool(one == other)
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "i":
        return bool((a == b).all())
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))
