"""The heads of a job's data sets, and digests of the texts that its values depend on.

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
from dawin_ray.models import HeadSpec, ModelSpec, check_heads, resolve_head
from dawin_ray.records import digest

logger = logging.getLogger(__name__)


def heads_of(
    job: Job, listings: Mapping[str, Listing], trained: Mapping[str, bool]
) -> dict[str, HeadSpec]:
    """The head that scores each data set.

    Raises:
        UserError: a head cannot be had, or a trained one would be dropped without a word.
    """
    own = [dataset.name for dataset in job.datasets if dataset.class_names is not None]
    has_head = len(own) < len(job.datasets) and check_heads(job.model.head, trained)
    heads = {
        dataset.name: _head(job, dataset, listings[dataset.name], has_head)
        for dataset in job.datasets
    }
    dropped = [name for name, head in heads.items() if head.zero_shot]
    if dropped and any(trained.values()):
        logger.warning(
            "the trained heads of %s are not used for %s: %s",
            ", ".join(name for name, has in trained.items() if has),
            ", ".join(dropped),
            "model.head is zero_shot"
            if job.model.head == "zero_shot"
            else "class_names of its own make a zero-shot head",
        )
    return heads


def _head(job: Job, dataset: DatasetConfig, listing: Listing, has_head: bool) -> HeadSpec:
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
    )


def inputs_of(
    job: Job,
    listings: Mapping[str, Listing],
    heads: Mapping[str, HeadSpec],
    classes: Mapping[str, DatasetClasses],
    head_names: tuple[str, ...] | None,
    spec: ModelSpec,
) -> dict[str, dict[str, str]]:
    """Digests of the texts that a job's values depend on: kind -> file or known list -> sha256.

    `head_names` are those of `model.class_names`, where they name the checkpoints' head. A list's
    digest is that of what was made of it, so that a space or a comment makes no other job.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    found["architecture"][job.model.architecture] = spec.digests[job.model.architecture]
    if head_names is not None and job.model.class_names is not None:
        found["class_names"][job.model.class_names] = digest(head_names)
    for dataset in job.datasets:
        listing, head = listings[dataset.name], heads[dataset.name]
        for kind, sha256 in head.digests.items():
            given, brought = getattr(dataset, kind), getattr(listing, kind)
            # a file that the data bring is named by them, as they may be moved
            beside = None if brought is None else f"{dataset.name}/{brought.rsplit('/', 1)[-1]}"
            found[kind][given or beside or getattr(job.model, kind)] = sha256
        if dataset.classes is not None:
            of_set = classes[dataset.name]
            found["classes"][f"{dataset.name}/{dataset.classes}"] = digest(
                [of_set.names, of_set.members]
            )
    return dict(found)
