"""A run that is watched: how long each of its phases took, and each chunk in each pass."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dawin_ray.data import ChunkSummary
from dawin_ray.job import Prepared, metered, score
from dawin_ray.metrics import PASSES, Event
from dawin_ray.report import Report


@dataclass(frozen=True, kw_only=True)
class PassTimes:
    """What a pass over some samples took, in seconds.

    `each` has the models' seconds for an image, of each chunk that warm models scored: those in
    which models were merged are left out, and so is the first of all where there are others.
    """

    images: int
    each: tuple[float, ...]
    merging_images: int = 0  # of chunks in which models were merged
    merging_seconds: float = 0.0  # that they took in all
    start: float = 0.0  # until the first chunk reached the models, and what they were slow at first
    decoding: float = 0.0  # of a reader, for an image: reading and decoding, or the cache
    between: float = 0.0  # of an image beside models and reading, where all is done in turn
    end: float = 0.0  # behind the last chunk

    @property
    def rate(self) -> float | None:
        """The models' seconds for an image: the median, as one slow chunk says little."""
        return statistics.median(self.each) if self.each else None

    def merges(self, rate: float) -> float:
        """Seconds that merging took, where an image takes so long."""
        return max(0.0, self.merging_seconds - rate * self.merging_images)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A finished run: its passes by name, and the seconds of all other phases."""

    passes: Mapping[str, PassTimes]
    phases: Mapping[str, float]
    report: Report


@dataclass
class _Watch:
    """A `Progress`, and a sink of the run's meter; tells nobody."""

    entered: list[tuple[str, float]] = field(default_factory=list)  # phases, and when
    chunks: dict[str, list[ChunkSummary]] = field(default_factory=dict)  # by pass

    def say(self, message: str) -> None:
        """Says nothing."""

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[ChunkSummary], object]]:
        """Keeps the chunks."""
        found = self.chunks.setdefault(name, [])
        yield lambda chunk: found.append(chunk) if chunk.end is None else None

    def __call__(self, event: Event) -> None:
        """Takes note of each phase that begins."""
        if event.kind in ("phase", "end"):
            self.entered.append((event.phase, event.time))


def watch(prepared: Prepared) -> Watched:
    """Run a job, in the engine's session that is there where there is one. Raises as `score`."""
    seen = _Watch()
    with metered(prepared.job.run_dir, [seen]) as meter:
        report = score(prepared, seen, meter=meter)
    in_turn = prepared.job.compute.engine == "local"
    passes, phases = dict[str, PassTimes](), dict[str, float]()
    for (name, start), (_, end) in itertools.pairwise(seen.entered):
        if name not in PASSES:
            phases[name] = phases.get(name, 0.0) + end - start
        elif chunks := [chunk for chunk in seen.chunks[name] if chunk.rows]:
            passes[name] = times_of(chunks, start, end, in_turn=in_turn)
    return Watched(passes=passes, phases=phases, report=report)


def times_of(
    chunks: Sequence[ChunkSummary], start: float, end: float, *, in_turn: bool
) -> PassTimes:
    """Of a pass's chunks, of which there are some, and when it began and ended.

    With `in_turn`, each chunk is read, scored and committed before the next one is read.
    """
    chunks = sorted(chunks, key=lambda chunk: chunk.begun)
    first, images = chunks[0], sum(chunk.rows for chunk in chunks)
    merging = [chunk for chunk in chunks if chunk.merges]
    plain = [chunk for chunk in chunks if not chunk.merges]
    warm = [chunk for chunk in plain if chunk is not first] or plain
    each = [chunk.seconds / chunk.rows for chunk in warm]
    cold = 0.0
    if warm and not first.merges:
        cold = max(0.0, first.seconds - statistics.median(each) * first.rows)
    read = sum(chunk.read_seconds + chunk.decode_seconds for chunk in chunks)
    before = first.read_seconds + first.decode_seconds if in_turn else 0.0
    last = max(chunk.done for chunk in chunks)
    models = sum(chunk.seconds for chunk in chunks)
    between = (last - first.begun - models - (read - before)) / images if in_turn else 0.0
    return PassTimes(
        images=images,
        each=tuple(each),
        merging_images=sum(chunk.rows for chunk in merging),
        merging_seconds=sum(chunk.seconds for chunk in merging),
        start=max(0.0, first.begun - start - before) + cold,
        decoding=read / images,
        between=max(0.0, between),
        end=max(0.0, end - last),
    )
