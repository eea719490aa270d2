"""A job's models as they are found at its start: checkpoints, heads, and digests of what they are.

All that a value depends on is told by its content, never by the name of a file: a template that is
edited makes another job. Texts go to the workers with the job; what they read again, checkpoints
and model config, is held against its digest there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from dawin_ray.config import Job
from dawin_ray.data import DatasetClasses, DatasetConfig, Listing
from dawin_ray.errors import UserError
from dawin_ray.models import (
    HEAD,
    Experts,
    HeadSpec,
    ModelSpec,
    Tensors,
    architecture_digest,
    build_model,
    check_activation,
    check_heads,
    checkpoint_digest,
    doubt_about_files,
    fitted,
    is_tag,
    load_experts,
    of_experts,
    read_checkpoint,
    resolve_head,
    tag_digest,
    unused,
)

logger = logging.getLogger(__name__)
from dawin_ray.records import digest


@dataclass(frozen=True, kw_only=True)
class Found:
    """The checkpoints of a job, whose towers fit the architecture, before their heads."""

    spec: ModelSpec
    model: nn.Module  # without weights
    checkpoints: Mapping[str, Tensors]  # by address

    @property
    def trained(self) -> dict[str, bool]:
        """Whether a checkpoint was saved with a head, by the expert's name."""
        return {
            name: f"{HEAD}.weight" in self.checkpoints[address]
            for name, address in self.spec.checkpoints.items()
        }

    def load(self, heads: Mapping[str, HeadSpec]) -> tuple[ModelSpec, Experts]:
        """The experts with these heads, which are by data set."""
        by_key = {head.key: head for head in heads.values()}
        spec = replace(self.spec, heads=tuple(by_key.values()))
        return spec, load_experts(spec, self.checkpoints, self.model)


def find_models(job: Job) -> Found:
    """Read the checkpoints and hold each against the architecture, its tower before its head.

    Raises:
        UserError: one cannot be read or does not fit, or their preprocessings differ.
    """
    architecture, preprocess = job.model.architecture, job.model.preprocess
    spec = ModelSpec(
        config=job.model,
        experts=job.experts,
        base=job.merge.base,
        heads=(),
        digests={architecture: architecture_digest(architecture)},
    )
    named = spec.checkpoints
    values, _ = of_experts(architecture, named, preprocess)
    for doubt in (
        check_activation(architecture, named),
        doubt_about_files(architecture, named, values, preprocess),
    ):
        if doubt is not None:
            logger.warning("%s", doubt)
    digests = {address: checkpoint_digest(address) for address in named.values()}
    model = build_model(architecture, values, digest=spec.digests[architecture])
    checkpoints: dict[str, Tensors] = {}
    for name, address in named.items():
        if address in checkpoints:
            continue
        known = None if is_tag(address) else digests[address]
        tensors = read_checkpoint(address, architecture, known)
        if is_tag(address):
            digests[address] = tag_digest(address, tensors)
        checkpoints[address] = fitted(model, tensors, architecture, name, address)
        if others := unused(model, checkpoints[address]):
            logger.warning(
                "%d tensors of the checkpoint of %s are used by nothing, such as %s; a trained "
                "head is called %s.weight",
                len(others), name, others[0], HEAD,
            )  # fmt: skip
    spec = replace(spec, digests={**spec.digests, **digests})
    return Found(spec=spec, model=model, checkpoints=checkpoints)


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
    if head_names is not None:
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
