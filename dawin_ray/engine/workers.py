"""TODO: engine.workers (of pipeline)."""

from __future__ import annotations

import ctypes
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dawin_ray import tables
from dawin_ray.data import MOST_DEATHS_LOADING, MOST_DEATHS_SCORING, Chunk, loading, nth, unpack
from dawin_ray.engine.compute import Resources
from dawin_ray.errors import StageError, UserError
from dawin_ray.method import Fit
from dawin_ray.models import load_experts
from dawin_ray.names import first_line, printable, shown
from dawin_ray.passes import PixelFeed, PredictExact, PredictMerged, ScoreExperts, ScoringSpec
from dawin_ray.runs import RunDirectory
from dawin_ray.storage import configure

# Between two words of an actor on how far it is in a chunk.
REPORT_SECONDS = 2.0

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


class _ModelActor:
    """What the actors of all passes share: each start and each chunk is a try that is counted."""

    stage: str  # in words

    def __init__(self, run: RunDirectory, on: Resources, spec: ScoringSpec, **arguments: Any):
        """Loads the models on this worker, once.

        What goes wrong is said at the first chunk: of an error in a constructor, Ray keeps only
        the text, and not of every restart.
        """
        self.run, self.on, self.spec = run, on, spec
        self.fault: UserError | None = None
        self.under_way = ""  # the chunk
        try:
            with on.tries.of(loading(self.stage), "") as before:
                self._check_starts(before)
                _settle(on)
                self.load(**arguments)
        except UserError as error:
            self.fault = error
        except Exception as error:  # noqa: BLE001  (the run ends with it, whatever it is)
            if _is_out_of_memory(error):
                self.fault = self._out_of_memory("to load the models", error)
            else:
                self.fault = UserError(
                    f"A model actor of {self.stage} cannot load its models: {first_line(error)}. "
                    "Look at the checkpoints and at compute.device, or run with --verbose."
                )

    def load(self, **arguments: Any) -> None:
        """Load the models."""
        raise NotImplementedError

    def score_chunk(self, chunk: Chunk) -> dict[str, list]:
        """Score a chunk and commit it; columns of its summary."""
        raise NotImplementedError

    def __call__(self, packed: pa.Table) -> dict[str, list]:
        """Score a chunk, commit it, and say how it went."""
        if self.fault is not None:
            with encodable():
                raise self.fault
        chunk, begin, more = unpack(packed), time.time(), {}
        if chunk.end is None:
            self.under_way = f"{chunk.dataset}/{chunk.name}"
            with (
                encodable(),
                _named(self.stage, chunk),
                self.on.tries.of(self.stage, self.under_way) as died,
            ):
                if died:
                    self._tell(died, chunk)
                try:
                    more = self.score_chunk(chunk)
                except Exception as error:
                    if not _is_out_of_memory(error):
                        raise
                    raise self._out_of_memory(f"at {_place(chunk)}", error) from error
        return _summary(chunk, begin) | more

    def counting(self, feed: PixelFeed) -> Callable[..., Iterator[torch.Tensor]]:
        """The feed of a stage, which says how far it has come in a chunk."""

        def counted(images: np.ndarray, rows: Sequence[Any]) -> Iterator[torch.Tensor]:
            done, told = 0, time.monotonic()
            for batch in feed(images, rows):
                yield batch
                done += len(batch)
                if time.monotonic() - told >= REPORT_SECONDS:
                    told = time.monotonic()
                    self.on.tries.reached(self.stage, self.under_way, done, len(images))

        return counted

    def _check_starts(self, before: int) -> None:
        """Raises a UserError where actors die while they load, again and again."""
        died = before + 1 - self.on.actors
        if died > MOST_DEATHS_LOADING:
            raise UserError(
                f"{died} model actors of {self.stage} died while they loaded their models. As a "
                f"rule the machine is out of memory: {self._remedies()}."
            )
        if died > 0:
            self.on.tries.tell(
                f"a model actor of {self.stage} died while it loaded its models "
                f"({nth(died)} time); another one is started"
            )

    def _tell(self, died: int, chunk: Chunk) -> None:
        """Says that an actor died at a chunk, and raises a UserError where it is too often."""
        if died >= MOST_DEATHS_SCORING:
            raise UserError(
                f"{died} model actors of {self.stage} died one after the other at {_place(chunk)}. "
                f"As a rule a forward takes more memory than there is: {self._remedies()}. Then "
                "the same command goes on where it stopped."
            )
        self.on.tries.tell(
            f"a model actor of {self.stage} died ({nth(died)} time) at {_place(chunk)}: it is "
            "scored again"
        )

    def _out_of_memory(self, where: str, error: BaseException) -> UserError:
        return UserError(
            f"The memory of the {'GPU' if self.on.gpus else 'machine'} does not suffice {where} "
            f"({self.stage}): {self._remedies()}. The cause: {first_line(error)}"
        )

    def _remedies(self) -> str:
        lower = "" if self.spec.precision in ("bfloat16", "float16") else (
            f", compute.precision: bfloat16 (now {self.spec.precision})"
        )  # fmt: skip
        return (
            f"lower compute.batch_size (now {self.spec.batch_size}) or compute.actors (now "
            f"{self.on.actors}){lower}, or give it more memory"
        )


class ScoreExpertsActor(_ModelActor):
    """A model actor of pass 1."""

    stage = "pass 1"

    def load(self) -> None:
        """The experts."""
        self.score = ScoreExperts(self.spec)
        self.score.feed = self.counting(self.score.feed)

    def score_chunk(self, chunk: Chunk) -> dict[str, list]:
        """Experts' outputs and rejects."""
        _commit_experts(self.run, chunk, self.score(chunk))
        return {}


class PredictActor(_ModelActor):
    """A model actor of pass 2."""

    stage = "pass 2"

    def load(self, fits: Mapping[str, Fit]) -> None:
        """The experts; merges happen at a data set's first chunk."""
        self.predict = (PredictExact if self.spec.exact else PredictMerged)(self.spec, fits)
        self.predict.feed = self.counting(self.predict.feed)

    def score_chunk(self, chunk: Chunk) -> dict[str, list]:
        """Predictions."""
        where, merges = (chunk.dataset, chunk.shard_key, chunk.name), self.predict.merges
        experts = self.run.work.read("experts", *where)
        self.run.work.commit("predictions", *where, self.predict(chunk, experts))
        return {"merges": [self.predict.merges - merges]}


class ScoreAtOnceActor(_ModelActor):
    """A model actor of both passes in one."""

    stage = "one pass"

    def load(self, fits: Mapping[str, Fit]) -> None:
        """The experts, once for both of its models."""
        experts = load_experts(self.spec.model)
        self.score = ScoreExperts(self.spec, experts)
        self.score.feed = self.counting(self.score.feed)
        predict = PredictExact if self.spec.exact else PredictMerged
        self.predict = predict(self.spec, fits, experts)

    def score_chunk(self, chunk: Chunk) -> dict[str, list]:
        """Experts' outputs, rejects and predictions."""
        where, merges = (chunk.dataset, chunk.shard_key, chunk.name), self.predict.merges
        experts = self.score(chunk)
        predictions = self.predict(chunk, experts)
        _commit_experts(self.run, chunk, experts)
        self.run.work.commit("predictions", *where, predictions)
        return {"merges": [self.predict.merges - merges]}


def _settle(on: Resources) -> None:
    """Make this worker's process fit for forwards.

    Activations are tens of MB, which glibc returns to the system when they are freed and takes
    again, page by page, for the next layer. Kept, a ViT-B/32 forward of 64 images in float32 took
    51 ms instead of 58 ms an image on two cores.
    """
    configure(on.storage)
    torch.set_num_threads(on.threads)
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, with habits of its own
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def _named(stage: str, chunk: Chunk) -> Iterator[None]:
    """Says of an error that is ours where it happened; a person's mistakes pass as they are."""
    try:
        yield
    except UserError:
        raise
    except FloatingPointError as error:  # of a model that overflows; it says which, and what to do
        raise UserError(str(error)) from error
    except Exception as error:
        raise StageError(f"{stage} of {_place(chunk)}: {type(error).__name__}: {error}") from error


def _place(chunk: Chunk) -> str:
    ids = chunk.sample_ids or ["none"]
    return f"chunk {chunk.name} of data set '{chunk.dataset}', samples '{ids[0]}' to '{ids[-1]}'"


@contextmanager
def encodable() -> Iterator[None]:
    """Errors leave as text that can be encoded: Ray tries a task for ever whose error cannot."""
    try:
        yield
    except Exception as error:
        try:
            "".join(traceback.format_exception(error)).encode()
        except UnicodeEncodeError:
            kind = UserError if isinstance(error, UserError) else StageError
            words = str(error) if kind is UserError else f"{type(error).__name__}: {error}"
            raise kind(printable(words)) from None
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _commit_experts(run: RunDirectory, chunk: Chunk, scored: pa.Table) -> None:
    where = (chunk.dataset, chunk.shard_key, chunk.name)
    if chunk.rejects:
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
        run.work.commit("rejects", *where, tables.table(tables.REJECTS, columns))
    run.work.commit("experts", *where, scored)


def _summary(chunk: Chunk, begin: float) -> dict[str, list]:
    return {
        "dataset": [chunk.dataset],
        "shard": [chunk.shard_key],
        "chunk": [chunk.name],
        "end": [json.dumps(chunk.end)],
        "rows": [len(chunk.sample_ids)],
        "rejects": [len(chunk.rejects)],
        "bytes": [chunk.bytes],
        "begun": [begin],
        "done": [time.time()],
        "merges": [0],  # in every row: Ray joins rows, and what one lacks would be null
    }
