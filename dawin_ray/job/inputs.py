"""The heads of a job's data sets, and digests of the files and texts that its values depend on.

All that a value depends on is told by its content, never by the name of a file: a template that is
edited makes another job. Texts go to the workers with the job; what they read again, checkpoints
and model config, is held against its digest there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping

from dawin_ray.config import Job
from dawin_ray.data import DatasetClasses, DatasetConfig, Listing
from dawin_ray.errors import UserError
from dawin_ray.models import (
    CHECKPOINT_HEAD,
    HeadSpec,
    ModelSpec,
    check_heads,
    head_of_file,
    resolve_head,
    templates_of,
)
from dawin_ray.records import digest

logger = logging.getLogger(__name__)


def heads_of(
    job: Job, listings: Mapping[str, Listing], trained: Mapping[str, bool]
) -> dict[str, HeadSpec]:
    """The head that scores each data set.

    Raises:
        UserError: a head cannot be had, or a trained one would be dropped without a word.
    """
    over_base = job.merge.base is not None
    own = [d.name for d in job.datasets if d.class_names is not None or d.head is not None]
    has_head = len(own) < len(job.datasets) and check_heads(job.model.head, trained, over_base)
    heads = {
        dataset.name: _head(job, dataset, listings[dataset.name], has_head)
        for dataset in job.datasets
    }
    dropped = [name for name, head in heads.items() if head.key != CHECKPOINT_HEAD]
    if dropped and any(trained.values()):
        logger.warning(
            "the trained heads of %s are not used for %s: %s",
            ", ".join(name for name, has in trained.items() if has),
            ", ".join(dropped),
            "model.head is zero_shot"
            if job.model.head == "zero_shot"
            else "head or class_names of its own make another one",
        )
    return heads


def _head(job: Job, dataset: DatasetConfig, listing: Listing, has_head: bool) -> HeadSpec:
    over_base = job.merge.base is not None
    if dataset.head is not None:
        if dataset.head.checkpoint is not None:
            return head_of_file(dataset.head.checkpoint)
        texts = dataset.head.zero_shot
        assert texts is not None, "a head is one or the other"
        of_texts = job.model.model_copy(update={"head": "zero_shot"})
        return resolve_head(
            of_texts, False, dataset.name, texts.class_names, texts.templates, over_base
        )
    if job.model.head == "checkpoint" and dataset.class_names is not None:
        raise UserError(
            f"model.head is checkpoint, but data set '{dataset.name}' has class_names of its own, "
            "which make a zero-shot head. Leave them out, or use head: auto."
        )
    return resolve_head(
        job.model,
        has_head and dataset.class_names is None,
        dataset.name,
        dataset.class_names or listing.class_names,
        dataset.templates or listing.templates,
        over_base,
    )


def origins_of_names(job: Job, heads: Mapping[str, HeadSpec]) -> dict[str, str]:
    """Which list names the classes of a head that is not made of names: data set -> list."""
    found = {
        d.name: job.model.class_names if heads[d.name].file is None else d.class_names
        for d in job.datasets
        if not heads[d.name].zero_shot
    }
    return {name: origin for name, origin in found.items() if origin is not None}


def inputs_of(
    job: Job,
    listings: Mapping[str, Listing],
    heads: Mapping[str, HeadSpec],
    classes: Mapping[str, DatasetClasses],
    head_names: Mapping[str, tuple[str, ...]],
    spec: ModelSpec,
) -> dict[str, dict[str, str]]:
    """Digests of what a job's values depend on: kind -> file or known list -> sha256.

    `head_names` are lists of class names that name heads without texts of their own, by where they
    stand. A list's digest is that of what was made of it, so that a space or a comment makes no
    other job.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    found["architecture"][job.model.architecture] = spec.digests[job.model.architecture]
    for origin, names in head_names.items():
        found["class_names"][origin] = digest(names)
    for dataset in job.datasets:
        listing, head = listings[dataset.name], heads[dataset.name]
        for kind, sha256 in head.digests.items():
            found[kind][_origin(kind, head, job, dataset, listing)] = sha256
        if dataset.classes is not None:
            of_set = classes[dataset.name]
            found["classes"][f"{dataset.name}/{dataset.classes}"] = digest(
                [of_set.names, of_set.members]
            )
    return dict(found)


def _origin(kind: str, head: HeadSpec, job: Job, dataset: DatasetConfig, listing: Listing) -> str:
    """Where what a head is made of was found: a file, a known list, or a data set."""
    if head.file is not None:
        return head.file
    if kind == "text_tower":
        return dataset.name
    texts = dataset if dataset.head is None else dataset.head.zero_shot
    assert texts is not None, "a head that is of no file is of texts"
    names, templates = texts.class_names, texts.templates
    if dataset.head is None:  # a file that the data bring is named by them, as they may be moved
        names = names or _beside(dataset.name, listing.class_names)
        templates = templates or _beside(dataset.name, listing.templates)
    if kind == "templates":
        return templates_of(job.model, names, templates)
    found = names or job.model.class_names
    assert found is not None, "a zero-shot head has class names"
    return found


def _beside(dataset: str, address: str | None) -> str | None:
    return None if address is None else f"{dataset}/{address.rsplit('/', 1)[-1]}"
