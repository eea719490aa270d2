"""What a job will take, by its parts, from what the pilot took: plain arithmetic.

What happens once in a run (start, loading, merging, fit, tables, report, end) is forecast at what
it took in the pilot; what is of the order of images, at the pilot's seconds an image. Assumed is

* that each model actor is as fast as the pilot's, whatever runs beside it, and none is added;
* that a forward of a baseline takes what one of an expert does, an exact one what the pilot's did;
* that in this process decoding and forwards take turns; that on Ray, readers decode beside the
  forwards: on GPUs the slower of the two counts, on CPUs that actors fill they share them;
* that the tables of a run take no longer than the pilot's, which holds up to some 10^6 rows.

The interval is what the spread of the pilot's chunks leaves open: Student's, for the mean of as
many chunks as the run has, which are taken to be drawn like the pilot's. A machine that is busier
than it was is outside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which imports its parts, 50 MB, when something of them is first used

from dawin_ray.job import Forwards
from dawin_ray.statistics import LEVEL


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The models' seconds for an image, and how they lay in the pilot's chunks."""

    seconds: float
    deviation: float = 0.0  # of a chunk's
    chunks: int = 1

    @classmethod
    def of(cls, each: Sequence[float], parts: float = 1.0, less: float = 0.0) -> Rate:
        """Of chunks' seconds an image, of which there are some: one of so many `parts`.

        `less` is taken off before, as what else was done for an image.
        """
        seconds = max(0.0, float(np.median(each)) - less) / parts
        deviation = float(np.std(each, ddof=1)) / parts if len(each) > 1 else 0.0
        return cls(seconds=seconds, deviation=deviation, chunks=len(each))

    def reach(self, chunks: float) -> float:
        """How far the mean of so many chunks to come may be from it, with LEVEL."""
        if self.chunks < 2:
            return 0.0
        students = float(scipy.stats.t.ppf((1 + LEVEL) / 2, self.chunks - 1))
        return students * self.deviation * math.sqrt(1 / self.chunks + 1 / max(chunks, 1.0))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What scores: see `engine.Resources`."""

    in_turn: bool  # reading, scoring and committing, in one process
    gpu: bool
    actors: int
    threads: int  # of each
    readers: int
    cpus: int  # of all nodes


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of each kind of work, for an image."""

    expert: Rate  # a forward of one model, with its share of what is done beside it
    merged: Rate  # one of a cluster's merged model
    exact: Rate | None  # None where it cannot be run
    decoding: float  # of a reader: reading and decoding
    cached: float  # and where the crop is read back
    between: float  # of a pass, where all is done in turn


@dataclass(frozen=True, kw_only=True)
class Once:
    """Seconds of what happens once in a run, whatever its images."""

    process: float  # from the start of the command until it begins
    prepare: float  # listing, checkpoints, heads
    checking: float  # the exact mode, by `prepare`
    engine: float  # until it is there
    opening: float  # until the first pass begins; samples are counted
    load: float  # of the experts' pass: actors, models, the first chunk
    load_merged: float  # of a second one
    load_exact: float
    merging: float  # all models of all fits
    after: float  # a pass: until its actors are gone
    fit: float
    tables: float  # of a pass
    report: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a job has to do."""

    forwards: Forwards
    samples: int  # that are read
    scored: int  # that have a crop
    cached: bool  # whether a second pass reads crops back
    chunk_size: int
    merges: float = 1.0  # of the pilot's: 0 where one model is merged instead of each cluster's


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds of a run, with their interval, and of its parts in their order."""

    seconds: float
    low: float
    high: float
    parts: Mapping[str, float]


def forecast(load: Load, rates: Rates, once: Once, machine: Machine) -> Forecast | None:
    """What a run will take; None where it asks for an exact model that cannot be run."""
    asked = load.forwards
    if rates.exact is None and (asked.exact or asked.samplewise):
        return None
    exact = rates.exact or Rate(seconds=0.0)
    first = [(asked.plain, rates.expert), (asked.samplewise, exact)]
    second = [(asked.merged, rates.merged), (asked.exact, exact)]
    merging = once.merging * load.merges if asked.merged else 0.0
    loading = once.load_exact if asked.exact else once.load_merged
    start = {
        "start": once.process + once.engine + once.opening,
        "prepare": once.prepare + (once.checking if asked.exact else 0.0),
    }
    if asked.passes == 1:
        model, reach = _models(load, [*first, *second])
        works = [(model, reach, rates.decoding)]
        loading = once.load_exact if asked.exact else once.load
        parts = start | {
            "one pass": loading + merging + _wall(load, rates, machine, works[0]) + once.after,
            "tables and fit": once.tables * 2,
        }
    else:
        again = rates.cached if load.cached else rates.decoding
        works = [(*_models(load, first), rates.decoding), (*_models(load, second), again)]
        walls = [_wall(load, rates, machine, work) for work in works]
        parts = start | {
            "pass 1": once.load + walls[0] + once.after,
            "tables and fit": once.tables + once.fit,
            "pass 2": loading + merging + walls[1] + once.after,
            "tables of pass 2": once.tables,
        }
    parts |= {"report and audit": once.report, "end": once.end}
    total = sum(parts.values())
    low = total + sum(_delta(load, rates, machine, work, -1) for work in works)
    high = total + sum(_delta(load, rates, machine, work, +1) for work in works)
    return Forecast(seconds=total, low=max(0.0, low), high=high, parts=parts)


def alone(load: Load, rates: Rates, once: Once, machine: Machine) -> float:
    """Seconds of one model by itself over the same images: start, loading, a forward each."""
    work = (load.scored * rates.expert.seconds, 0.0, rates.decoding)
    return once.process + once.engine + once.load + _wall(load, rates, machine, work) + once.end


# Seconds of models over all images, how far they may be off, and seconds of a reader for an image.
_Work = tuple[float, float, float]


def _models(load: Load, kinds: Sequence[tuple[int, Rate]]) -> tuple[float, float]:
    chunks = load.scored / load.chunk_size
    model = load.scored * sum(count * rate.seconds for count, rate in kinds)
    reach = load.scored * sum(count * rate.reach(chunks) for count, rate in kinds)
    return model, reach


def _delta(load: Load, rates: Rates, machine: Machine, work: _Work, sign: int) -> float:
    """What the wall time changes by where the models' is at an end of its interval."""
    model, reach, reading = work
    other = (max(0.0, model + sign * reach), 0.0, reading)
    return _wall(load, rates, machine, other) - _wall(load, rates, machine, work)


def _wall(load: Load, rates: Rates, machine: Machine, work: _Work) -> float:
    """Wall time of a pass from its first chunk on."""
    model, _, each = work
    reading = load.samples * each
    if machine.in_turn:
        return model + reading + load.scored * rates.between
    forwards = model / machine.actors
    if machine.gpu:
        return max(forwards, reading / machine.readers)
    spare = machine.cpus - machine.actors * machine.threads
    if spare >= 1:
        return max(forwards, reading / min(machine.readers, spare))
    return max(forwards + reading / machine.cpus, reading / machine.readers)
