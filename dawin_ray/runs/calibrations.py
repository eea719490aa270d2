"""A calibration on disk: what a few labels say of experts, for jobs that apply it.

It holds for the experts, base, scale and preprocessing that it was made with, and for each data
set's classes and texts, as a saved fit does. `coefficient: {calibration: FILE}` reads it.

Shapes: M experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dawin_ray.errors import UserError
from dawin_ray.records import digest, read_record, to_json, write_record
from dawin_ray.storage import filesystem, read_bytes, write_whole

# Of what a saved fit holds for. Coefficients are what a calibration decides.
OF_IDENTITY = ("architecture", "experts", "base", "scale", "preprocessing")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Right answers that log odds brought, of samples that they were not chosen by: a share."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CalibratedDataset:
    """A data set's part. `chosen` are the log odds [M] that labels would have, `log_odds` those
    that are applied: the same, or 0 where the interval of the gain holds 0."""

    classes: str  # digest
    texts: dict[str, str]  # digests of a zero-shot head's class names and templates
    labels: int
    log_odds: tuple[float, ...]
    chosen: tuple[float, ...]
    gain: Gain | None = None  # None without labels


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The file: temperatures [M] of the experts, and the log odds of each data set."""

    VERSION: ClassVar[int] = 1
    code: str
    names: tuple[str, ...]  # of the experts
    identity: dict[str, Any]  # what it holds for, besides classes and texts of a data set
    labels: str  # where they came from
    temperatures: tuple[float, ...]
    kept: tuple[bool, ...]  # [M]: the job's own, as the labels have no finite one or lose by it
    tempered: Gain  # of the temperatures alone over the job's own, on all labels
    level: float  # of the intervals
    forwards: int  # of single models, that were made for it
    exact_forwards: int  # and of weights of their own
    datasets: dict[str, CalibratedDataset]

    @classmethod
    def read(cls, address: str) -> Calibration:
        """The file at an address.

        Raises:
            UserError: it is missing, damaged, or a newer version wrote it.
        """
        return read_record(cls, read_bytes(address, "calibration"), address)

    def write(self, address: str) -> None:
        """To an address, whole."""
        write_whole(*filesystem(address), write_record(self))

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return digest(to_json(self))

    def log_odds(self, dataset: str) -> np.ndarray | None:
        """Those of a data set [M]; None where they are all 0, which is DaWin as it is."""
        values = np.array(self.datasets[dataset].log_odds)
        return values if values.any() else None

    def check(self, address: str, identity: Mapping[str, Any]) -> None:
        """It is of these experts; `identity` is that of a fit, and `address` is for errors.

        Raises:
            UserError: it is not; the message shows what differs.
        """
        ours = identity_of_calibration(identity)
        differing = [
            f"  {key}: {self.identity.get(key)} there, {ours[key]} here"
            for key in ours
            if self.identity.get(key) != ours[key]
        ]
        if differing:
            raise _refused(address, differing)

    def check_datasets(
        self,
        address: str,
        classes: Mapping[str, str],
        texts: Mapping[str, Mapping[str, str]],
    ) -> None:
        """It is of these data sets; given are digests of their classes and texts, by name.

        Raises:
            UserError: one is not in it, or has other classes or texts.
        """
        if unknown := [name for name in classes if name not in self.datasets]:
            raise UserError(
                f"The calibration {address!r} has no data set '{unknown[0]}'; it has "
                f"{', '.join(self.datasets)}. Calibrate the job with it: dawin-ray calibrate "
                "JOB.yaml --labels FILE."
            )
        differing = []
        for name, of_set in classes.items():
            there = self.datasets[name]
            if there.classes != of_set:
                differing.append(f"  classes of '{name}': others than those there")
            differing += [
                f"  {kind} of '{name}': {there.texts.get(kind)} there, {texts[name].get(kind)} here"
                for kind in sorted({*there.texts, *texts[name]})
                if there.texts.get(kind) != texts[name].get(kind)
            ]
        if differing:
            raise _refused(address, differing)


def identity_of_calibration(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a calibration holds for, of what a fit does: no temperature, as it brings them."""
    found = {key: identity[key] for key in OF_IDENTITY}
    return found | {"experts": [expert["sha256"] for expert in identity["experts"]]}


def _refused(address: str, differing: list[str]) -> UserError:
    return UserError(
        f"The calibration {address!r} does not hold for this job:\n"
        + "\n".join(differing)
        + "\nApply it to the same experts, classes, class names, templates and preprocessing, or "
        "make it anew: dawin-ray calibrate JOB.yaml --labels FILE."
    )
