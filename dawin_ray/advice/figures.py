"""What `advise` says, as one record: `--json` writes it, and `words` has it in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dawin_ray.advice.costs import Forecast
from dawin_ray.advice.modes import Mode
from dawin_ray.advice.recommend import Why
from dawin_ray.statistics import Estimated, Interval


@dataclass(frozen=True, kw_only=True)
class ModeAdvice:
    """A mode: its price, what it would take as a job, and what it gets right.

    Intervals are at 95 %. `forwards` are those of the method by itself for a sample (an exact one
    counts as many as there are experts), `job_forwards` those of the job, its baselines included.
    """

    mode: Mode
    kind: str  # which expert, which weight
    what: str
    forwards: int = 0
    job_forwards: int = 0
    seconds: Forecast | None = None  # of the job; None where it cannot be run here
    alone: float | None = None  # seconds of one model by itself, where the mode is one
    unavailable: str = ""  # why
    column: str = "prediction"  # of the run's tables, where its answers are
    accuracy: Interval | None = None  # mean over the labelled data sets
    datasets: Mapping[str, Interval] | None = None
    estimated: Mapping[str, Estimated] | None = None  # of data sets without labels
    gain: Interval | None = None  # over the cheapest mode


@dataclass(frozen=True, kw_only=True)
class DatasetAdvice:
    """A data set in the pilot."""

    samples: int  # in all
    known: bool  # whether that was counted, or estimated
    pilot: int  # samples in the pilot, rejects among them
    labelled: int
    rejects: int
    entropy: Mapping[str, float]  # mean of each expert, in nats
    coefficient: Mapping[str, tuple[float, float, float]]  # mean, 5th and 95th percentile
    clusters: tuple[int, ...]  # samples of each
    agree: float  # share of samples on which all experts say the same


@dataclass(frozen=True, kw_only=True)
class Advice:
    """All of it."""

    VERSION: ClassVar[int] = 1
    code: str
    experts: tuple[str, ...]
    mode: Mode  # that is recommended
    why: Why
    settled: bool
    sentence: str
    open: Mapping[Mode, Interval]  # gains of dearer modes over it
    modes: tuple[ModeAdvice, ...]
    datasets: Mapping[str, DatasetAdvice]
    where: str  # actors, device, precision
    pilot_samples: int
    pilot_seconds: float

    @property
    def chosen(self) -> ModeAdvice:
        """The mode that is recommended."""
        return next(mode for mode in self.modes if mode.mode == self.mode)
