"""What a worker does with a chunk, whatever engine it works for: score it, commit it, say so.

Nothing here knows how chunks and summaries travel. A worker that dies is not noticed by itself:
each start and each chunk is a try that is counted (see `attempts.py`), so that a chunk or a
start that kills every process ends in a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.attempts import MOST_DEATHS_LOADING, MOST_DEATHS_SCORING, loading, nth
from dawin_ray.data import Chunk, ChunkSummary, ReadChunks, Shard, Slice, end_of
from dawin_ray.engine.compute import Resources
from dawin_ray.errors import StageError, UserError
from dawin_ray.names import first_line, shown
from dawin_ray.passes import Pass, Scorer
from dawin_ray.runs import RunDirectory
from dawin_ray.tables import Kind

# Between two words of a worker on how far it is in a chunk.
REPORT_SECONDS = 2.0

# Names of a shard's chunks that are committed already.
Finished = Callable[[Shard], Collection[str]]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What a pass is connected to: where its chunks come from, and where its tables go."""

    read: ReadChunks
    finished: Finished
    run: RunDirectory
    on: Resources


def chunks_of(part: Slice, wiring: Wiring) -> Iterator[Chunk]:
    """A slice's chunks that are left to do, and behind them what tells its end."""
    counts, before = {}, wiring.finished(part.shard)
    for chunk in wiring.read(part, before):
        counts[chunk.name] = len(chunk.sample_ids) + len(chunk.rejects)
        yield chunk
    # where others read the rest of the shard, they tell of what is there: each name comes anyway
    yield end_of(part, counts, before)


class Worker:
    """A pass's models on one worker, loaded once."""

    def __init__(self, stage: Pass, run: RunDirectory, on: Resources):
        """Loads them. What goes wrong is said at the first chunk.

        Of an error in an actor's constructor, Ray keeps only the text, and not of every restart.
        """
        self.stage, self.run, self.on = stage, run, on
        self.scorer: Scorer | None = None
        self.fault: UserError | None = None
        self.under_way, self.told = "", 0.0  # the chunk, and when its progress was told
        try:
            with on.tries.of(loading(stage.stage), "") as before:
                self._check_starts(before)
                self.scorer = self.load()
        except UserError as error:
            self.fault = error
        except Exception as error:  # noqa: BLE001  (the run ends with it, whatever it is)
            if _is_out_of_memory(error):
                self.fault = self._out_of_memory("to load the models", error)
            else:
                self.fault = UserError(
                    f"A model actor of {stage.stage} cannot load its models: {first_line(error)}. "
                    "Look at the checkpoints and at compute.device, or run with --verbose."
                )

    def load(self) -> Scorer:
        """The models of the pass, which say how far they are in a chunk."""
        scorer = self.stage.make()
        scorer.feed.reached = self._reached
        return scorer

    def score(self, chunk: Chunk) -> ChunkSummary:
        """Score a chunk, commit it, and say how it went.

        Raises:
            UserError: the models cannot be loaded, memory does not suffice, or a model overflows.
            StageError: a fault of ours, with its place.
        """
        if self.fault is not None:
            raise self.fault
        begun, merges = time.time(), 0
        if chunk.end is None:
            self.under_way, self.told = f"{chunk.dataset}/{chunk.name}", time.monotonic()
            stage = self.stage.stage
            with named(stage, chunk), self.on.tries.of(stage, self.under_way) as died:
                if died:
                    self._tell(died, chunk)
                try:
                    merges = self.make(chunk)
                except Exception as error:
                    if not _is_out_of_memory(error):
                        raise
                    raise self._out_of_memory(f"at {_place(chunk)}", error) from error
        return summary_of(chunk, begun, merges)

    def make(self, chunk: Chunk) -> int:
        """Make the pass's tables of a chunk and commit them; how many models were merged for it.

        Rejects go first, and what a resumed run looks for goes last.
        """
        assert self.scorer is not None, "there is a fault, or there are models"
        where, before = (chunk.dataset, chunk.shard_key, chunk.name), self.scorer.merges

        def read(kind: Kind) -> pa.Table:
            return self.run.work.read(kind, *where)

        made = self.scorer(chunk, read)
        if "experts" in self.stage.tables and chunk.rejects:
            self.run.work.commit("rejects", *where, _rejects_of(chunk))
        for kind in self.stage.tables:
            self.run.work.commit(kind, *where, made[kind])
        return self.scorer.merges - before

    def _reached(self, done: int, total: int) -> None:
        if time.monotonic() - self.told >= REPORT_SECONDS:
            self.told = time.monotonic()
            self.on.tries.reached(self.stage.stage, self.under_way, done, total)

    def _check_starts(self, before: int) -> None:
        """Raises a UserError where actors die while they load, again and again."""
        stage, died = self.stage.stage, before + 1 - self.on.actors
        if died > MOST_DEATHS_LOADING:
            raise UserError(
                f"{died} model actors of {stage} died while they loaded their models. As a "
                f"rule the machine is out of memory: {self._remedies()}."
            )
        if died > 0:
            self.on.tries.tell(
                f"a model actor of {stage} died while it loaded its models "
                f"({nth(died)} time); another one is started"
            )

    def _tell(self, died: int, chunk: Chunk) -> None:
        """Says that an actor died at a chunk, and raises a UserError where it is too often."""
        stage = self.stage.stage
        if died >= MOST_DEATHS_SCORING:
            raise UserError(
                f"{died} model actors of {stage} died one after the other at {_place(chunk)}. "
                f"As a rule a forward takes more memory than there is: {self._remedies()}. Then "
                "the same command goes on where it stopped."
            )
        self.on.tries.tell(
            f"a model actor of {stage} died ({nth(died)} time) at {_place(chunk)}: it is "
            "scored again"
        )

    def _out_of_memory(self, where: str, error: BaseException) -> UserError:
        return UserError(
            f"The memory of the {'GPU' if self.on.gpus else 'machine'} does not suffice {where} "
            f"({self.stage.stage}): {self._remedies()}. The cause: {first_line(error)}"
        )

    def _remedies(self) -> str:
        spec = self.stage.spec
        lower = "" if spec.precision in ("bfloat16", "float16") else (
            f", compute.precision: bfloat16 (now {spec.precision})"
        )  # fmt: skip
        return (
            f"lower compute.batch_size (now {spec.batch_size}) or compute.actors (now "
            f"{self.on.actors}){lower}, or give it more memory"
        )


@contextmanager
def named(stage: str, chunk: Chunk) -> Iterator[None]:
    """Says of an error that is ours where it happened; a person's mistakes pass as they are."""
    try:
        yield
    except UserError:
        raise
    except FloatingPointError as error:  # of a model that overflows; it says which, and what to do
        raise UserError(str(error)) from error
    except Exception as error:
        raise StageError(f"{stage} of {_place(chunk)}: {type(error).__name__}: {error}") from error


def summary_of(chunk: Chunk, begun: float, merges: int = 0) -> ChunkSummary:
    """The summary of a chunk that is done now."""
    return ChunkSummary(
        dataset=chunk.dataset,
        shard=chunk.shard_key,
        chunk=chunk.name,
        rows=len(chunk.sample_ids),
        rejects=len(chunk.rejects),
        bytes=chunk.bytes,
        begun=begun,
        done=time.time(),
        merges=merges,
        end=chunk.end,
    )


def counted(wiring: Wiring) -> Wiring:
    """The same, whose readers count their tries."""
    return replace(wiring, read=wiring.read.counted(wiring.on.tries))


def _place(chunk: Chunk) -> str:
    ids = chunk.sample_ids or ["none"]
    return f"chunk {chunk.name} of data set '{chunk.dataset}', samples '{ids[0]}' to '{ids[-1]}'"


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _rejects_of(chunk: Chunk) -> pa.Table:
    columns = {
        "dataset": [chunk.dataset] * len(chunk.rejects),
        "shard": [shown(chunk.shard)] * len(chunk.rejects),
        "sample_id": [reject.sample_id for reject in chunk.rejects],
        "offset": [reject.offset for reject in chunk.rejects],
        "reason": [reject.reason for reject in chunk.rejects],
        "sha256": [reject.sha256 for reject in chunk.rejects],
        "broken": [reject.broken for reject in chunk.rejects],
        "lost": [reject.lost for reject in chunk.rejects],
    }
    return tables.table(tables.REJECTS, columns)
