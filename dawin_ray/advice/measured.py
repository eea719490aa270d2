"""From what the pilot took to the rates and fixed times that a forecast goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dawin_ray.advice.costs import Forecast, Load, Machine, Once, Rate, Rates, alone, forecast
from dawin_ray.advice.pilot import Pilot, Tried
from dawin_ray.advice.watched import PassTimes
from dawin_ray.config import Job
from dawin_ray.data import FORMATS, room_beside
from dawin_ray.job import Prepared, forwards_of

# That a run takes at most to count its samples, see `job.running.counts_of`.
COUNT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that forecasts of a job's variants need."""

    prepared: Prepared
    pilot: Pilot
    rates: Rates
    once: Once
    machine: Machine

    @classmethod
    def of(cls, prepared: Prepared, pilot: Pilot, *, process: float, preparing: float) -> Measured:
        """Of a pilot; `process` and `preparing` are seconds that passed before it."""
        rates, merging = rates_of(pilot)
        compute, on = prepared.job.compute, pilot.on
        shards = [shard for of_set in prepared.shards.values() for shard in of_set]
        counting = not all(FORMATS[shard.format].of_images for shard in shards)
        watched = pilot.clustered.watched
        phases, first, *others = watched.phases, *watched.passes.values()
        exact = first if pilot.exact is None else [*pilot.exact.watched.passes.values()][-1]
        return cls(
            prepared=prepared,
            pilot=pilot,
            rates=rates,
            once=Once(
                process=process,
                prepare=preparing,
                checking=pilot.checking,
                engine=pilot.starting,
                opening=phases["starting"] + counting * min(COUNT_SECONDS, pilot.counting),
                load=first.start,
                load_merged=(others or [first])[0].start,
                load_exact=exact.start,
                merging=merging,
                after=max(times.end for times in watched.passes.values()),
                fit=phases.get("fit", 0.0),
                tables=phases["parts"] / 2,
                report=phases["report"],
                end=pilot.ending,
            ),
            machine=Machine(
                in_turn=compute.engine == "local",
                gpu=on.device == "cuda",
                actors=on.actors,
                threads=on.threads,
                readers=on.readers,
                cpus=on.readers + math.ceil(on.actors * on.cpus),
            ),
        )

    def load(self, job: Job, *, merged: bool = True) -> Load:
        """What a variant of the job has to do; `merged` says whether its own clusters are."""
        counts, pilot = self.pilot.counts, self.pilot
        samples = sum(count.total for count in counts.values())
        rejected = sum(pilot.rejects.values()) / pilot.samples
        height, width = self.prepared.preprocessing.size
        cache = job.compute.cache
        fits = samples * height * width * 3 <= room_beside(job.run_dir)[1]
        shared = cache not in ("auto", "off")
        passes = pilot.clustered.watched.report.passes.values()
        return Load(
            forwards=forwards_of(job),
            samples=samples,
            scored=round(samples * (1 - rejected)),
            cached=shared or (cache == "auto" and pilot.on.nodes == 1 and fits),
            chunk_size=job.compute.chunk_size,
            merges=1.0 if merged else 1 / max(1, sum(of_pass.merges for of_pass in passes)),
        )

    def seconds(self, load: Load) -> Forecast | None:
        """See `costs.forecast`."""
        return forecast(load, self.rates, self.once, self.machine)

    def alone(self, load: Load) -> float:
        """See `costs.alone`."""
        return alone(load, self.rates, self.once, self.machine)


def rates_of(pilot: Pilot) -> tuple[Rates, float]:
    """Those of a pilot, and the seconds that merging all models took."""
    tried = pilot.clustered
    asked, passes = forwards_of(tried.job), tried.watched.passes
    reading = sum(c.seconds * c.samples for c in pilot.copied.values()) / pilot.samples
    if "at_once" in passes:
        times = passes["at_once"]
        share = asked.plain + asked.merged
        expert = merged = Rate.of(_each(times), parts=share)
        merging = times.merges(expert.seconds * share) if times.each else 0.0
        decoding, cached, between = times.decoding, times.decoding, times.between
    else:
        first, second = passes["experts"], passes["merged"]
        expert = Rate.of(_each(first), parts=asked.plain)
        merged = Rate.of(second.each) if second.each else expert
        merging = second.merges(merged.seconds)
        decoding, cached = first.decoding, second.decoding
        between = (first.between + second.between) / 2
    exact = None if pilot.exact is None else exact_rate(pilot.exact, expert)
    return Rates(
        expert=expert,
        merged=merged,
        exact=exact,
        decoding=decoding + reading,
        cached=cached,
        between=between,
    ), merging


def exact_rate(tried: Tried, expert: Rate) -> Rate:
    """Of an exact forward: of its own pass, or of one without the experts' forwards."""
    passes = tried.watched.passes
    if "exact" in passes:
        return Rate.of(_each(passes["exact"]))
    return Rate.of(_each(passes["at_once"]), less=forwards_of(tried.job).plain * expert.seconds)


def _each(times: PassTimes) -> tuple[float, ...]:
    """Of warm chunks; where models were merged in all, with what that took."""
    return times.each or (times.merging_seconds / times.merging_images,)
