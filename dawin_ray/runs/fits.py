"""fit.json: a run's fits and the figures behind them, small enough to keep, for jobs to come.

A job with `fit: {from: RUN, dataset: NAME}` reads offset and mixture from it and fits nothing, so
that one pass is enough: new data are decoded once, and no row waits for the others. It is refused
where experts, classes, preprocessing or coefficients are not those of the fit. The figures are the
reference that `drift` holds later data against.

Shapes: N samples, M experts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from dawin_ray.errors import UserError
from dawin_ray.method import REFERENCE_TAIL, Fit, Reference
from dawin_ray.records import digest
from dawin_ray.settings import Settings
from dawin_ray.statistics import disagreements, summary_of
from dawin_ray.storage import join, read_bytes

FIT = "fit.json"

VERSION = 3


class SavedFitConfig(Settings):
    """A saved fit: of which run (or the address of a fit.json), and of which of its data sets."""

    source: str = Field(alias="from")
    dataset: str

    @property
    def address(self) -> str:
        """Of the file."""
        return self.source if self.source.endswith(".json") else join(self.source, FIT)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A fit of another run, as a job reads it."""

    fit: Fit
    digest: str  # of the entry
    entry: Mapping[str, Any]  # what `entry_of` made of the fit's data set


def document_of(
    code: str,
    names: Sequence[str],
    identity: Mapping[str, Any],
    datasets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of fit.json; `datasets` have what `entry_of` makes."""
    return {
        "version": VERSION, "code": code, "names": list(names), "identity": dict(identity),
        "datasets": dict(datasets),
    }  # fmt: skip


def entry_of(
    fit: Fit,
    classes: str,
    names: Sequence[str],
    entropy_NM: np.ndarray,
    coefficient_NM: np.ndarray,
    cluster_N: np.ndarray | None,
    expert_prediction_NM: np.ndarray,
    count: int,
    texts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A data set's part of fit.json: its fit, and how its samples lay.

    Args:
        fit: its fit.
        classes: digest of its classes.
        names: of the experts.
        entropy_NM: in nats.
        coefficient_NM: they sum to 1.
        cluster_N: each sample's cluster; None in the exact mode.
        expert_prediction_NM: each expert's class.
        count: of its classes; entropies lie in [0, ln count].
        texts: digests of its zero-shot head's class names and templates; none of a trained head.
    """
    most = float(np.log(max(count, 2)))
    return {
        "fit": fit.to_dict(),
        "classes": classes,
        "texts": dict(texts or {}),
        "entropy": {
            name: summary_of(entropy_NM[:, i], (0.0, most)) for i, name in enumerate(names)
        },
        "coefficient": {
            name: summary_of(coefficient_NM[:, i], (0.0, 1.0)) for i, name in enumerate(names)
        },
        "clusters": None
        if cluster_N is None
        else np.bincount(cluster_N, minlength=len(fit.mixture.weights)).tolist(),
        "disagreements": disagreements(expert_prediction_NM),
    }


def load_saved(
    config: SavedFitConfig,
    identity: Mapping[str, Any],
    classes: Iterable[tuple[str, str]],
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> Saved:
    """The fit that a job applies, with what was read of it and its digest.

    `classes` are names and class digests of the job's data sets, `texts` digests of the texts of
    their zero-shot heads.

    Raises:
        UserError: the file is missing, damaged or of another version, has no such data set, or is
            of other experts, classes, preprocessing or coefficients; the message shows what
            differs.
    """
    entry = _entry(config.address, config.dataset, identity, classes, texts)
    try:
        fit = Fit.from_dict(entry["fit"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(config.address, error) from error
    return Saved(fit=fit, digest=digest(entry), entry=entry)


def saved_reference(
    reference: str,
    identity: Mapping[str, Any],
    classes: Iterable[tuple[str, str]],
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> Reference:
    """How entropies lie on the data set that FIT.json#NAME names.

    Raises:
        UserError: as `load_saved`; the coefficients' settings may differ.
    """
    address, _, dataset = reference.partition("#")
    identity = {key: value for key, value in identity.items() if key != "coefficient"}
    entry = _entry(address, dataset, identity, classes, texts)
    try:
        median, tail = (
            np.array([e["quantiles"][str(q)] for e in entry["entropy"].values()])
            for q in (0.5, REFERENCE_TAIL)
        )
        return Reference(median=median, tail=tail)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(address, error) from error


def _damaged(address: str, error: Exception) -> UserError:
    return UserError(
        f"The saved fit {address!r} is damaged: {error!r}. Copy it again from its run, or give the "
        "run's directory."
    )


def _entry(
    address: str,
    dataset: str,
    identity: Mapping[str, Any],
    classes: Iterable[tuple[str, str]],
    texts: Mapping[str, Mapping[str, str]] | None,
) -> Mapping[str, Any]:
    """A data set's part of a fit.json, checked against the job."""
    data = read_bytes(address, "saved fit")
    try:
        document = json.loads(data)
        version = document["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(address, error) from error
    if version != VERSION:
        raise UserError(
            f"The saved fit {address!r} has version {version}, and this program reads version "
            f"{VERSION}. Make it again: run the job that it came from with this version."
        )
    try:
        datasets, theirs = document["datasets"], document["identity"]
        entry = datasets.get(dataset)
        their_classes, their_texts = ({}, {}) if entry is None else (
            entry["classes"], dict(entry["texts"])
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(address, error) from error
    if entry is None:
        raise UserError(
            f"The saved fit {address!r} has no data set '{dataset}'; it has {', '.join(datasets)}."
        )
    differing = [
        f"  {key}: {theirs.get(key)} there, {identity[key]} here"
        for key in identity
        if theirs.get(key) != identity[key]
    ]
    differing += [
        f"  classes of '{name}': others than those of '{dataset}' there"
        for name, digest in classes
        if digest != their_classes
    ]
    differing += [
        f"  {kind} of '{name}': {their_texts.get(kind)} there, {digests.get(kind)} here"
        for name, digests in (texts or {}).items()
        for kind in sorted({*their_texts, *digests})
        if their_texts.get(kind) != digests.get(kind)
    ]
    if differing:
        raise UserError(
            f"The saved fit {address!r} does not hold for this job:\n"
            + "\n".join(differing)
            + "\nApply it to the same experts, classes, class names, templates, preprocessing and "
            "coefficients, or fit anew."
        )
    return entry
