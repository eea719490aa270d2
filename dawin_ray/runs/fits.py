"""Fits on disk: mixture.json of what a run fitted or applied, fit.json of the same for later jobs.

A job with `fit: {from: RUN, dataset: NAME}` reads offset and mixture from a fit.json and fits
nothing, so that one pass is enough: new data are decoded once, and no row waits for the others. It
is refused where experts, classes, preprocessing or coefficients are not those of the fit. The
figures beside a fit are the reference that `drift` holds later data against.

Shapes: N samples, M experts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PlainSerializer, PlainValidator

from dawin_ray.errors import UserError
from dawin_ray.method import REFERENCE_TAIL, Fit, Reference
from dawin_ray.records import digest, of_json
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import FIT, MIXTURE
from dawin_ray.settings import Settings
from dawin_ray.statistics import ReferenceRows, ScoredRows, distributions_of
from dawin_ray.storage import join, read_bytes


def _fit_of(values: Any) -> Fit:
    """The fit that `to_dict` wrote; what it is not is a ValueError, as pydantic wants it."""
    try:
        return Fit.from_dict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no fit: {error!r}") from error


FitOnDisk = Annotated[Fit, PlainValidator(_fit_of), PlainSerializer(Fit.to_dict)]

# mixture.json


@dataclass(frozen=True, kw_only=True)
class GroupFit:
    """A fit, the data sets that it is for, and what was warned of while it was made."""

    datasets: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    fit: Fit

    @classmethod
    def of_json(cls, values: Any) -> GroupFit:
        """What `to_json` made; raises ValueError where it cannot be."""
        fit = _fit_of(values)
        try:
            datasets, warnings = values["datasets"], values["warnings"]
            return cls(datasets=tuple(datasets), warnings=tuple(warnings), fit=fit)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no fit of data sets: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """As the file has it: the fit's own keys beside the others."""
        own = {"datasets": list(self.datasets), "warnings": list(self.warnings)}
        return own | self.fit.to_dict()


GroupOnDisk = Annotated[
    GroupFit, PlainValidator(GroupFit.of_json), PlainSerializer(GroupFit.to_json)
]


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """mixture.json: the fit of each group of data sets."""

    VERSION: ClassVar[int] = 1
    experts: tuple[str, ...]  # names
    fits: dict[str, GroupOnDisk]

    @property
    def of_datasets(self) -> dict[str, Fit]:
        """Each data set's fit; data sets of a group have the same one."""
        return {name: group.fit for group in self.fits.values() for name in group.datasets}

    @classmethod
    def read(cls, run: RunFolder) -> Mixtures:
        """Those of a run.

        Raises:
            UserError: the file is damaged, or a newer version wrote it.
        """
        return run.read_record(cls, MIXTURE)

    def write(self, run: RunFolder) -> None:
        """Into a run."""
        run.write_record(MIXTURE, self)


# fit.json


class SavedFitConfig(Settings):
    """A saved fit: of which run (or the address of a fit.json), and of which of its data sets."""

    source: str = Field(alias="from")
    """A run directory, or the address of a fit.json."""
    dataset: str
    """Whose fit of that run it is."""

    @property
    def address(self) -> str:
        """Of the file."""
        return self.source if self.source.endswith(".json") else join(self.source, FIT)


@dataclass(frozen=True, kw_only=True)
class FitEntry(ReferenceRows):
    """A data set's part of fit.json: its fit, what that holds for, and how its samples lay."""

    fit: FitOnDisk
    classes: str  # digest
    texts: dict[str, str]  # digests of a zero-shot head's class names and templates

    @classmethod
    def of(
        cls,
        fit: Fit,
        names: Sequence[str],
        rows: ScoredRows,
        *,
        count: int,
        classes: str,
        texts: Mapping[str, str] | None = None,
    ) -> FitEntry:
        """Of the experts' `names`, and of `count` classes: entropies lie in [0, ln count]."""
        most = float(np.log(max(count, 2)))
        clusters = None
        if rows.clusters is not None and fit.mixture is not None:
            unseen = len(fit.mixture.weights) - len(rows.clusters)
            clusters = (*rows.clusters.tolist(), *[0] * unseen)
        return cls(
            fit=fit,
            classes=classes,
            texts=dict(texts or {}),
            entropy=distributions_of(names, rows.entropy, most),
            coefficient=distributions_of(names, rows.coefficient, 1.0),
            clusters=clusters,
            disagreements=rows.disagreements,
        )


@dataclass(frozen=True, kw_only=True)
class SavedFits:
    """fit.json: a run's fits and the figures behind them, small enough to keep."""

    VERSION: ClassVar[int] = 3
    code: str
    names: tuple[str, ...]  # of the experts
    identity: dict[str, Any]  # what they hold for, besides classes and texts of a data set
    datasets: dict[str, FitEntry]

    @classmethod
    def read(cls, address: str) -> tuple[SavedFits, dict[str, Any]]:
        """The file at an address, and its values as JSON has them.

        Raises:
            UserError: it is missing, damaged, or of another version.
        """
        content = read_bytes(address, "saved fit")
        try:
            values = json.loads(content)
            version = values["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(address, error) from error
        if version != cls.VERSION:
            raise UserError(
                f"The saved fit {address!r} has version {version}, and this program reads version "
                f"{cls.VERSION}. Make it again: run the job that it came from with this version."
            )
        return of_json(cls, values, address), values

    def write(self, run: RunFolder) -> None:
        """Into a run."""
        run.write_record(FIT, self)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A fit of another run, as a job reads it."""

    fit: Fit
    digest: str  # of the entry
    entry: FitEntry


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
    saved, values = SavedFits.read(config.address)
    entry = _entry(saved, config.address, config.dataset)
    _check_holds(saved, config.address, config.dataset, identity, classes, texts or {})
    plain = values["datasets"][config.dataset]
    return Saved(fit=entry.fit, digest=digest(plain), entry=entry)


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
    saved, _ = SavedFits.read(address)
    entry = _entry(saved, address, dataset)
    identity = {key: value for key, value in identity.items() if key != "coefficient"}
    _check_holds(saved, address, dataset, identity, classes, texts or {})
    try:
        median, tail = (
            np.array([e.quantiles[str(q)] for e in entry.entropy.values()])
            for q in (0.5, REFERENCE_TAIL)
        )
        return Reference(median=median, tail=tail)
    except (KeyError, TypeError) as error:
        raise _damaged(address, error) from error


def _damaged(address: str, error: Exception) -> UserError:
    return UserError(
        f"The saved fit {address!r} is damaged: {error!r}. Copy it again from its run, or give the "
        "run's directory."
    )


def _entry(saved: SavedFits, address: str, dataset: str) -> FitEntry:
    if (entry := saved.datasets.get(dataset)) is None:
        raise UserError(
            f"The saved fit {address!r} has no data set '{dataset}'; it has "
            f"{', '.join(saved.datasets)}."
        )
    return entry


def _check_holds(
    saved: SavedFits,
    address: str,
    dataset: str,
    identity: Mapping[str, Any],
    classes: Iterable[tuple[str, str]],
    texts: Mapping[str, Mapping[str, str]],
) -> None:
    """The job is one that the fit holds for."""
    entry, theirs = saved.datasets[dataset], saved.identity
    differing = [
        f"  {key}: {theirs.get(key)} there, {identity[key]} here"
        for key in identity
        if theirs.get(key) != identity[key]
    ]
    differing += [
        f"  classes of '{name}': others than those of '{dataset}' there"
        for name, digest in classes
        if digest != entry.classes
    ]
    differing += [
        f"  {kind} of '{name}': {entry.texts.get(kind)} there, {digests.get(kind)} here"
        for name, digests in texts.items()
        for kind in sorted({*entry.texts, *digests})
        if entry.texts.get(kind) != digests.get(kind)
    ]
    if differing:
        raise UserError(
            f"The saved fit {address!r} does not hold for this job:\n"
            + "\n".join(differing)
            + "\nApply it to the same experts, classes, class names, templates, preprocessing and "
            "coefficients, or fit anew."
        )
