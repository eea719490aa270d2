"""What a worker does with a chunk, whatever engine it works for: score it, commit it, say so.

Nothing here knows how chunks and summaries travel. A worker that dies is not noticed by itself:
each start and each message is a try that is counted (see `attempts.py`), and so is each chunk of a
message at which a worker died: a chunk or a start that kills every process is named, and ends it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from threading import Lock

import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.attempts import (
    MOST_DEATHS_LOADING,
    MOST_DEATHS_SCORING,
    loading,
    nth,
    together,
)
from dawin_ray.data import Chunk, ChunkSummary
from dawin_ray.engine.compute import Resources
from dawin_ray.engine.files import Beside
from dawin_ray.errors import StageError, UserError
from dawin_ray.names import first_line, shown
from dawin_ray.passes import Pass, Scorer
from dawin_ray.runs import RunDirectory
from dawin_ray.storage import take_retries
from dawin_ray.tables import Kind

# Between two words of a worker on how far it is in a chunk.
REPORT_SECONDS = 2.0

Read = Callable[[Kind], pa.Table]  # a table that an earlier pass made of a chunk

Tables = dict[Kind, pa.Table]


class _Waited:
    """Reads what was begun before, and counts how long that is waited for: no work of models."""

    def __init__(self, read: Read):
        self.read, self.seconds = read, 0.0

    def __call__(self, kind: Kind) -> pa.Table:
        begin = time.time()
        try:
            return self.read(kind)
        finally:
            self.seconds += time.time() - begin


class Worker:
    """A pass's models on one worker, loaded once."""

    def __init__(self, stage: Pass, run: RunDirectory, on: Resources, threads: int = 0):
        """Loads them; `threads` read and write files. What goes wrong is said at the first chunk.

        Of an error in an actor's constructor, Ray keeps only the text, and not of every restart.
        """
        self.stage, self.run, self.on = stage, run, on
        self.scorer: Scorer | None = None
        self.fault: UserError | None = None
        self.under_way, self.told = "", 0.0  # the chunk, and when its progress was told
        self.name = f"{socket.gethostname()}/{os.getpid()}"  # see `ChunkSummary.actor`
        self.idle_since = 0.0  # seconds since the epoch: when models or a chunk were done
        self.alone = True  # whether a chunk is a try of its own
        self.forwards, self.beside = Lock(), Beside(threads)
        try:
            with on.tries.of(loading(stage.stage), "") as before:
                self._check_starts(before)
                self.scorer = self.load()
                self.idle_since = time.time()
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

    def score(self, chunks: Sequence[Chunk]) -> list[ChunkSummary]:
        """Score chunks, commit them, and say how it went.

        Their forwards follow each other, also where several threads call this; what they read and
        commit passes beside them. Nothing is said of a chunk before it is committed.

        Raises:
            UserError: the models cannot be loaded, memory does not suffice, or a model overflows.
            StageError: a fault of ours, with its place.
        """
        if self.fault is not None:
            raise self.fault
        reads = [self._begin_reads(chunk) for chunk in chunks]
        committed: list[Callable[[], ChunkSummary]] = []
        try:
            with self.forwards, self._try(chunks):
                for chunk, read in zip(chunks, reads, strict=True):
                    committed.append(self._begin_commit(*self._forward(chunk, read)))
        except Exception:
            for end in committed:  # what is scored is kept
                with suppress(Exception):
                    end()
            raise
        return [end() for end in committed]

    @contextmanager
    def _try(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Counts the chunks of a message as one try: to ask for each takes as long as a tiny one.

        Where a worker died at them, each is a try of its own, so that the fatal one is found.
        """
        names = [_name(chunk) for chunk in chunks if chunk.end is None]
        self.alone = True
        if len(names) > 1:
            with self.on.tries.of_all(together(self.stage.stage), names) as died:
                if not died:
                    self.alone = False
                    yield
                    return
            self.on.tries.tell(
                f"a model actor of {self.stage.stage} died at one of the chunks {names[0]} to "
                f"{names[-1]}: they are scored again, one by one",
                again="scoring",
            )
        yield

    def _begin_reads(self, chunk: Chunk) -> Read:
        """Begin to read what the pass asks for at a chunk; the value waits for it."""
        where = (chunk.dataset, chunk.shard_key, chunk.name)
        begun = {
            kind: self.beside.begin(partial(self.run.work.read, kind, *where))
            for kind in self.stage.reads
            if chunk.end is None
        }

        def read(kind: Kind) -> pa.Table:
            return begun[kind]()

        return read

    def _forward(self, chunk: Chunk, read: Read) -> tuple[Chunk, Tables, ChunkSummary]:
        """The pass's tables of a chunk, and its summary."""
        begun, merges, made = time.time(), 0, Tables()
        if chunk.end is None:
            self.under_way, self.told = _name(chunk), time.monotonic()
            stage, tries = self.stage.stage, self.on.tries
            with (
                named(stage, chunk),
                tries.of(stage, self.under_way) if self.alone else nullcontext(0) as died,
            ):
                if died:
                    self._tell(died, chunk)
                assert self.scorer is not None, "there is a fault, or there are models"
                before, waited = self.scorer.merges, _Waited(read)
                begun = time.time()
                with self._memory(chunk):
                    made = self.scorer(chunk, waited)
                begun += waited.seconds
                merges = self.scorer.merges - before
        summary = summary_of(chunk, begun, merges)
        if chunk.end is None:
            waited_for = max(0.0, begun - self.idle_since)  # a clock may be set back
            summary = replace(summary, actor=self.name, wait_seconds=waited_for)
            self.idle_since = summary.done
        return chunk, made, summary

    def _begin_commit(
        self, chunk: Chunk, made: Tables, summary: ChunkSummary
    ) -> Callable[[], ChunkSummary]:
        """Begin to commit a chunk; the value waits for it, and then is its summary."""
        end = self.beside.begin(partial(self.commit, chunk, made))

        def committed() -> ChunkSummary:
            end()
            if chunk.end is not None:
                return summary
            return replace(summary, storage_retries=chunk.storage_retries + take_retries())

        return committed

    def commit(self, chunk: Chunk, made: Tables) -> None:
        """Commit the pass's tables of a chunk.

        Rejects go first, and what a resumed run looks for goes last.
        """
        if chunk.end is not None:
            return
        where = (chunk.dataset, chunk.shard_key, chunk.name)
        with named(self.stage.stage, chunk), self._memory(chunk):
            if "experts" in self.stage.tables and chunk.rejects:
                self.run.work.commit("rejects", *where, _rejects_of(chunk))
            for kind in self.stage.tables:
                self.run.work.commit(kind, *where, made[kind])

    @contextmanager
    def _memory(self, chunk: Chunk) -> Iterator[None]:
        """Raises a UserError where memory does not suffice."""
        try:
            yield
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            raise self._out_of_memory(f"at {_place(chunk)}", error) from error

    def _reached(self, done: int, total: int) -> None:
        if time.monotonic() - self.told >= REPORT_SECONDS:
            self.told = time.monotonic()
            stage = self.stage.stage
            kind = stage if self.alone else together(stage)
            self.on.tries.reached(kind, self.under_way, done, total)

    def _check_starts(self, before: int) -> None:
        """Raises a UserError where actors die while they load, again and again."""
        stage, died = self.stage.stage, before + 1 - self.on.most
        if died > MOST_DEATHS_LOADING:
            raise UserError(
                f"{died} model actors of {stage} died while they loaded their models. As a "
                f"rule the machine is out of memory: {self._remedies()}."
            )
        if died > 0:
            self.on.tries.tell(
                f"a model actor of {stage} died while it loaded its models "
                f"({nth(died)} time); another one is started",
                again="loading",
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
            "scored again",
            again="scoring",
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
            f"{self.on.most}){lower}, or give it more memory"
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
    """The summary of a chunk that the models have done now."""
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
        read_seconds=chunk.read_seconds,
        decode_seconds=chunk.decode_seconds,
        end=chunk.end,
    )


def _name(chunk: Chunk) -> str:
    return f"{chunk.dataset}/{chunk.name}"


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
