"""Everything that can be known, and refused, before Ray starts and a model runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import dawin_ray
from dawin_ray.config import Job
from dawin_ray.data import (
    DatasetClasses,
    DatasetConfig,
    Listing,
    Shard,
    Source,
    cache_key,
    check_apart,
    chunk_name,
    folders_without_a_name,
    in_order_of,
    list_files,
    resolve_classes,
    settle,
)
from dawin_ray.engine import Say
from dawin_ray.errors import UserError
from dawin_ray.job.calibrated import calibrated, check_holds, told_by_content
from dawin_ray.job.fingerprint import fitting_of, identity_of, values_of
from dawin_ray.job.inputs import heads_of, inputs_of, origins_of_names
from dawin_ray.job.progress import step
from dawin_ray.method import Reference, Trim
from dawin_ray.models import (
    Found,
    HeadSpec,
    Preprocessing,
    find_models,
    folder_names,
    library_versions,
    preprocessing_fingerprint,
    read_class_names,
)
from dawin_ray.passes import ScoringSpec, Task, check_exact
from dawin_ray.records import digest
from dawin_ray.runs import Calibration, Saved, load_saved, saved_reference
from dawin_ray.storage import configure

# What does not change a single value: a run may be resumed elsewhere, or with other limits.
NOT_IN_FINGERPRINT = {
    "run_dir",
    "compute",
    "max_reject_fraction",
    "max_broken_shards",
    "storage_options",
    "in_distribution",
    "incumbent",
    "drift",
}

MANY = 100_000  # files, whose listing takes a while

WHY_ALL = " (all before the first is read: labels, shards and what can be resumed depend on all)"

IMAGE_LIBRARIES = ("pillow", "torchvision")  # that decide a crop's bits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job whose every name has been looked up."""

    job: Job
    spec: ScoringSpec
    preprocessing: Preprocessing
    sources: Mapping[str, Source]  # data set -> all that was found of it
    shards: Mapping[str, tuple[Shard, ...]]  # data set -> its shards that are to be scored
    class_names: Mapping[str, tuple[str, ...] | None]  # data set -> names of its classes, if known
    parameters: int  # floating values that are merged
    cache_keys: Mapping[str, str]  # data set -> key of its crops
    saved: Saved | None  # the fit of another run, where one is applied
    identity: Mapping[str, Any]  # what this job's fits hold for
    texts: Mapping[str, Mapping[str, str]]  # data set -> digests of its zero-shot head's texts
    reference: Reference | None  # of another run, where the coefficients are anchored to one
    calibration: Calibration | None  # that the job applies
    fingerprint: Mapping[str, Any]  # without the precision, which the cluster's devices decide

    @property
    def log_odds(self) -> Mapping[str, np.ndarray | None]:
        """Of each data set [M], where the job applies a calibration that has some."""
        if self.calibration is None or self.job.saved_fit is not None:
            return {}  # a saved fit has its own
        return {name: self.calibration.log_odds(name) for name in self.shards}

    def only(self, shards: Mapping[str, tuple[Shard, ...]]) -> Prepared:
        """The same job for these shards, which are none of its fingerprint."""
        return replace(
            self,
            spec=replace(self.spec, compared=_first_chunks(shards)),
            shards=shards,
            class_names={name: self.class_names[name] for name in shards},
            fingerprint={k: v for k, v in self.fingerprint.items() if k != "data"},
        )


def prepare(
    job: Job, say: Callable[[str], None] = logger.warning, progress: Say = logger.debug
) -> Prepared:
    """Find the data, load and check the checkpoints, resolve heads and classes.

    `say` is told what is left out of the data, missing or guessed; `progress` takes a line for
    each part, with its time.

    Raises:
        UserError: anything that would keep the job from running.
    """
    configure(job.storage_options)
    listings = {}
    for dataset in job.datasets:
        with step(progress, f"listing {dataset.name}") as told:
            listing = list_files(dataset, may_be_empty=job.mode == "append")
            told(f"{len(listing.files):,} files{WHY_ALL * (len(listing.files) > MANY)}")
        listings[dataset.name] = listing
        check_apart(job.run_dir, "run_dir", dataset, listings[dataset.name])
        if job.compute.cache not in ("auto", "off"):
            check_apart(job.compute.cache, "compute.cache", dataset, listings[dataset.name])
    files = {expert.checkpoint for expert in job.experts} | {job.merge.base} - {None}
    with step(progress, f"reading {len(files)} checkpoints") as told:
        found = find_models(job.model, job.experts, job.merge.base)
        told(
            f"{sum(t.nbytes for c in found.checkpoints.values() for t in c.values()) / 1e9:.2f} GB"
        )
    heads = heads_of(job, listings, found.trained)
    with step(progress, f"loading {len(job.experts)} experts"):
        model, experts = found.load(heads)
    calibration, model = calibrated(job, model)
    origins = origins_of_names(job, heads)
    head_names = {origin: read_class_names(origin) for origin in origins.values()}
    classes = {
        dataset.name: dataset_classes(
            dataset, listings[dataset.name], heads[dataset.name],
            head_names.get(origins.get(dataset.name, "")),
            experts.head_count(heads[dataset.name].key),
        )
        for dataset in job.datasets
    }  # fmt: skip
    sources = {}
    for dataset in job.datasets:
        source = settle(
            dataset,
            listings[dataset.name],
            classes[dataset.name],
            growing=job.mode == "append",
        )
        sources[dataset.name], listings[dataset.name] = source, source.listing
        for note in source.notes:
            say(f"data set {dataset.name}: {note}")
    shards = {name: source.shards() for name, source in sources.items()}
    data = {name: listing.identity() for name, listing in listings.items()}
    spec = ScoringSpec(
        model=model,
        tasks={
            # workers need no names, and small arguments start actors without the object store
            d.name: Task(
                heads[d.name].key,
                replace(classes[d.name], names=None, synsets=None, folders=None),
                d.expert,
            )
            for d in job.datasets
        },
        coefficient=job.coefficient,
        scale=job.merge.scale,
        exact=job.exact,
        exact_rank=job.mixture.exact_rank,
        baselines=job.baselines,
        trim=_trim(job, found, progress),
        batch_size=job.compute.batch_size,
        compared=_first_chunks(shards),
    )
    if job.exact or any(method.kind == "samplewise" for method in spec.methods):
        with step(progress, "checking the exact mode against merged weights"):
            check_exact(experts, job.model.architecture, job.merge.scale)
    preprocessing = preprocessing_fingerprint(experts.preprocessing)
    class_digests = {name: digest([c.names, c.members]) for name, c in classes.items()}
    texts = {name: head.digests for name, head in heads.items()}
    digests = {address: model.digests[address] for address in model.checkpoints.values()}
    values = values_of(job.model_dump(mode="json", by_alias=True, exclude=NOT_IN_FINGERPRINT))
    values["coefficient"] |= told_by_content(calibration)
    identity = identity_of(
        [{"sha256": digests[e.checkpoint], "temperature": e.temperature} for e in model.experts],
        job.merge.base and digests[job.merge.base],
        job.merge.scale,
        preprocessing,
        values["coefficient"],
        model.digests[job.model.architecture],
    )
    check_holds(job, calibration, identity, class_digests, texts)
    libraries = library_versions(job.model.architecture)
    saved, reference = None, None
    if job.coefficient.reference is not None and "#" in job.coefficient.reference:
        reference = saved_reference(
            job.coefficient.reference, identity, class_digests.items(), texts
        )
    if job.saved_fit is not None:
        saved = load_saved(job.saved_fit, identity, class_digests.items(), texts)
        if saved.fit.mixture is None and not job.exact:
            raise UserError(
                f"The saved fit {job.saved_fit.address!r} has no mixture, as its job was exact. "
                "Set mixture: {clusters: exact}."
            )
    return Prepared(
        job=job,
        spec=spec,
        preprocessing=experts.preprocessing,
        sources=sources,
        shards=shards,
        class_names={name: c.names for name, c in classes.items()},
        parameters=sum(t.numel() for t in experts.states[0].values() if t.is_floating_point()),
        cache_keys={
            d.name: cache_key(
                preprocessing | {name: libraries[name] for name in IMAGE_LIBRARIES},
                job.compute.chunk_size,
                digest([data[d.name], d.crop_border]),
            )
            for d in job.datasets
        },
        fingerprint={
            "code": dawin_ray.__version__,
            "job": values | {"chunk_size": job.compute.chunk_size} | fitting_of(job),
            "libraries": libraries,
            "checkpoints": digests,
            "inputs": inputs_of(job, listings, heads, classes, head_names, model),
            "preprocessing": preprocessing,
            "classes": class_digests,
            "data": data,
            "saved_fit": saved and saved.digest,
            "reference": None if reference is None else reference.median.tolist(),
        },
        saved=saved,
        identity=identity,
        texts=texts,
        reference=reference,
        calibration=calibration,
    )


def _trim(job: Job, found: Found, progress: Say) -> Trim | None:
    """What TIES keeps, where it is one of the baselines: decided here, once for all workers."""
    if job.baselines.ties is None:
        return None
    with step(progress, "trimming the task vectors") as told:
        trim = found.trim(job.baselines.ties)
        told(f"{trim.values:,} values of each of {len(trim.kept)}")
    return trim


def _first_chunks(shards: Mapping[str, tuple[Shard, ...]]) -> frozenset[str]:
    """Of each data set, so that small ones have a figure of their float32 agreement too."""
    return frozenset(chunk_name(of_set[0], 0) for of_set in shards.values() if of_set)


def dataset_classes(
    dataset: DatasetConfig,
    listing: Listing,
    head: HeadSpec,
    head_names: tuple[str, ...] | None,
    head_count: int,
) -> DatasetClasses:
    """The classes of a data set; `head_names` are given for a head that is not made of names.

    Raises:
        UserError: names, head and data do not go together.
    """
    names = head.class_names
    if names is None and head_names is not None:
        names = head_names
        if len(names) != head_count:
            given, what = "model.class_names", "the checkpoints' head"
            if head.file is not None:
                given, what = f"class_names of '{dataset.name}'", f"its head {head.file!r}"
            raise UserError(
                f"{given} has {len(names)} names, but {what} has "
                f"{head_count} classes. Give the list that the head was trained with."
                + folders_without_a_name(listing.folders, names)
            )
    classes = resolve_classes(dataset.classes, head_count, names, dataset.name)
    if names is not None and dataset.classes is None:
        classes = replace(classes, folders=folder_names(names))
    if listing.names is not None:
        return in_order_of(listing.names, classes, dataset, listing.names_from)
    if listing.class_names is not None:
        own = read_class_names(listing.class_names)
        return in_order_of(own, classes, dataset, listing.class_names)
    return classes
