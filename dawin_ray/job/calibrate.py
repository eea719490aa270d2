"""`dawin-ray calibrate`: a few labels to temperatures and log odds, in a file that jobs apply.

Shapes: N labelled samples of a data set, M experts, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

import dawin_ray
from dawin_ray.config import Job
from dawin_ray.engine import Say, engine_of
from dawin_ray.errors import UserError
from dawin_ray.job.labelled import Labelled
from dawin_ray.job.prepare import Prepared
from dawin_ray.job.progress import step
from dawin_ray.method import (
    PENALTY,
    CoefficientConfig,
    LogOdds,
    choose_log_odds,
    coefficients,
    ensemble_right,
    right_between,
    temperature_of,
    tempered,
)
from dawin_ray.models import resolve
from dawin_ray.passes import FewSamples
from dawin_ray.runs import CalibratedDataset, Calibration, Gain, identity_of_calibration
from dawin_ray.statistics import paired_differences

# Of the intervals of gains: log odds are applied where chance alone would bring as much in one of
# ten cases. They are to be worth their labels, and 0 is as much of a bet as they are.
LEVEL = 0.8


def without_calibration(job: Job) -> Job:
    """The job to calibrate: without the calibration that it may apply already.

    Raises:
        UserError: its coefficients are none that a calibration is for.
    """
    coefficient = job.coefficient
    if coefficient.metric != "entropy" or coefficient.needs_fit:
        raise UserError(
            "A calibration is for coefficient: {metric: entropy} without offset_adjustment and "
            "reference: log odds from labels take the place of both. Leave them out."
        )
    without = CoefficientConfig(**coefficient.model_dump() | {"calibration": None})
    return job.model_copy(update={"coefficient": without})


def calibrate(
    prepared: Prepared,
    few: Mapping[str, Labelled],
    say: Say,
    *,
    labels: str,
    level: float = LEVEL,
    temperatures: bool = True,
) -> Calibration:
    """The calibration of a job's experts by labelled samples of its data sets, in this process.

    `labels` says where they came from. A data set's log odds are 0 where the interval of their gain
    at `level` holds 0, and where it has no labels. Temperatures that lose right answers of DaWin,
    by the same interval, are left for the job's own; so are all without `temperatures`.
    """
    job = prepared.job
    engine = engine_of(job.compute.model_copy(update={"engine": "local"}))
    own = [expert.temperature for expert in job.experts]
    with engine.session(say, job.storage_options) as on:
        precision = resolve(job.compute.precision, on.device)
        spec = replace(prepared.spec, device=on.device, precision=precision)
        asked = FewSamples(spec, {name: of_set.crops for name, of_set in few.items()})
        count = sum(len(of_set.labels) for of_set in few.values())
        with step(say, f"{len(own)} experts on {count:,} labelled samples"):
            logits = asked.logits()
        with step(say, "merged models on them") as told:
            tenths = asked.tenths() if len(own) == 2 else {}
            sets = {
                name: Answers(
                    labels=of_set.labels,
                    logits=logits[name],
                    right=_Merged(asked, name, of_set.labels, tenths.get(name)),
                )
                for name, of_set in few.items()
            }
            decided = decide(sets, own, level, temperatures)
            told(f"{asked.forwards:,} forwards and {asked.exact_forwards:,} exact ones in all")
    return Calibration(
        code=dawin_ray.__version__,
        names=tuple(expert.name for expert in job.experts),
        identity=identity_of_calibration(prepared.identity),
        labels=labels,
        temperatures=decided.temperatures,
        kept=decided.kept,
        tempered=decided.tempered,
        level=level,
        forwards=asked.forwards,
        exact_forwards=asked.exact_forwards,
        datasets={
            name: _dataset(prepared, name, decided.log_odds.get(name), level)
            for name in prepared.shards
        },
    )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What experts and merged models say of a data set's labelled samples."""

    labels: np.ndarray  # int64 [N]
    logits: np.ndarray  # of the experts, float32 [N, M, C], without temperature
    right: Callable[[np.ndarray], np.ndarray]  # coefficients [N, M] -> which samples are right [N]

    def log_odds(self, temperatures: Sequence[float], penalty: float = PENALTY) -> LogOdds:
        """Those that the labels would have."""
        entropies_NM, probabilities_NMC = tempered(self.logits, temperatures)
        guess = ensemble_right(probabilities_NMC, self.labels)
        return choose_log_odds(entropies_NM, self.right, guess, penalty)

    def plain(self, temperatures: Sequence[float]) -> np.ndarray:
        """Which samples [N] DaWin gets right without log odds."""
        return self.right(coefficients(-tempered(self.logits, temperatures)[0]))


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What the labels of several data sets have it: as `Calibration` says it of each field."""

    temperatures: tuple[float, ...]
    kept: tuple[bool, ...]
    tempered: Gain
    log_odds: dict[str, LogOdds]  # by data set; `applied` says whether they are


def decide(
    sets: Mapping[str, Answers],
    own: Sequence[float],
    level: float = LEVEL,
    temperatures: bool = True,
) -> Decided:
    """Temperatures and log odds by labelled samples; `own` are the temperatures that experts have.

    Temperatures that lose right answers of DaWin by their interval are left for `own`; without
    `temperatures` none are looked for.
    """
    fitted = [
        temperature_of([(of_set.logits[:, m], of_set.labels) for of_set in sets.values()])
        if temperatures
        else None
        for m in range(len(own))
    ]
    ours = [before if t is None else t for before, t in zip(own, fitted, strict=True)]
    brought = _gain([_compared(s.plain(ours), s.plain(own)) for s in sets.values()], level)
    if brought.high < 0:
        ours, fitted = list(own), [None] * len(own)
    return Decided(
        temperatures=tuple(ours),
        kept=tuple(t is None for t in fitted),
        tempered=brought,
        log_odds={name: of_set.log_odds(ours) for name, of_set in sets.items()},
    )


def applied(found: LogOdds, level: float = LEVEL) -> tuple[tuple[float, ...], Gain]:
    """The log odds [M] that a job applies, and their gain: 0 where its interval holds 0."""
    gain = _gain([(found.better, found.worse, found.count)], level)
    chosen = tuple(found.values.tolist())
    return (chosen if gain.low > 0 else (0.0,) * len(chosen)), gain


@dataclass(frozen=True)
class _Merged:
    """Which labelled samples of a data set the merged models of coefficients [N, M] get right."""

    asked: FewSamples
    name: str
    labels: np.ndarray  # [N]
    tenths: np.ndarray | None  # [N, G] of two experts

    def __call__(self, shares_NM: np.ndarray) -> np.ndarray:
        if self.tenths is None:
            return self._exactly(np.arange(len(shares_NM)), shares_NM)
        return right_between(self.tenths == self.labels[:, None], shares_NM, self._exactly)

    def _exactly(self, rows_n: np.ndarray, shares_nM: np.ndarray) -> np.ndarray:
        right_n: np.ndarray = self.asked.exact(self.name, rows_n, shares_nM) == self.labels[rows_n]
        return right_n


def _compared(ours_N: np.ndarray, theirs_N: np.ndarray) -> tuple[int, int, int]:
    """Samples that only the first got right, that only the second did, and all."""
    return int((ours_N & ~theirs_N).sum()), int((theirs_N & ~ours_N).sum()), len(ours_N)


def _gain(counts: Sequence[tuple[int, int, int]], level: float) -> Gain:
    """Of all samples together: the temperatures are one for all data sets."""
    better, worse, count = (sum(column) for column in zip(*counts, strict=True))
    found = paired_differences([(better, worse, count)], level=level)
    return Gain(value=found.value, low=found.low, high=found.high)


def _dataset(
    prepared: Prepared, name: str, found: LogOdds | None, level: float
) -> CalibratedDataset:
    classes, texts = prepared.fingerprint["classes"][name], dict(prepared.texts[name])
    none = (0.0,) * len(prepared.job.experts)
    if found is None:
        return CalibratedDataset(classes=classes, texts=texts, labels=0, log_odds=none, chosen=none)
    log_odds, gain = applied(found, level)
    return CalibratedDataset(
        classes=classes,
        texts=texts,
        labels=found.count,
        log_odds=log_odds,
        chosen=tuple(found.values.tolist()),
        gain=gain,
    )
