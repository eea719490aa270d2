"""Is a finished run still what its manifest says, and do its figures come out again?"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import Prepared, prepare
from dawin_ray.job.rescoring import faults_of_rows
from dawin_ray.runs import (
    BATCHES,
    JOB,
    LEDGER,
    MANIFEST,
    SHARDS,
    Manifest,
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
        wrong += faults_of_rows(run, prepared, manifest, sample, draw)
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
