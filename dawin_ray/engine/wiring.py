"""What a pass is connected to: where its chunks come from, and where its tables go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from dawin_ray.data import Chunk, ReadChunks, Shard, Slice, end_of
from dawin_ray.engine.compute import Resources
from dawin_ray.names import shown
from dawin_ray.runs import RunDirectory
from dawin_ray.storage import take_retries

# Messages that each actor has in a pass, at least: with fewer, some would idle at the end.
MESSAGES = 32

# Chunks in a message, at most, and the bytes of their crops.
MOST_CHUNKS, MESSAGE_BYTES = 32, 640 << 20

# The kind of tries that are readers' slices.
SLICES = "slices"

# Names of a shard's chunks that are committed already.
Finished = Callable[[Shard], Collection[str]]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """All that a pass needs besides its models."""

    read: ReadChunks
    finished: Finished
    run: RunDirectory
    on: Resources
    message: int = 1  # bytes of crops that go to a worker at once, where chunks are smaller


def message_bytes(chunks: int, chunk_bytes: int, actors: int) -> int:
    """See `Wiring.message`: of a job of so many chunks, so that actors have many messages each.

    What the driver does is by message, whatever the number of chunks in it.
    """
    together = min(chunks // (actors * MESSAGES), MOST_CHUNKS, MESSAGE_BYTES // chunk_bytes)
    # a message leaves with the chunk that passes this
    return max(1, int((together - 0.5) * chunk_bytes))


def chunks_of(part: Slice, wiring: Wiring) -> Iterator[Chunk]:
    """A slice's chunks that are left to do, and behind them what tells its end.

    A slice is one try; where a reader died at it, so is each of its chunks, and the fatal one is
    found.
    """
    counts, before, tries = {}, wiring.finished(part.shard), wiring.on.tries
    shard = part.shard
    with tries.of(SLICES, f"{shard.dataset}/{shard.key}/{part.index}") as died:
        if died:
            tries.tell(
                f"a reader died at shard '{shown(shard.name)}' of data set '{shard.dataset}': it "
                "is read again",
                again="reading",
            )
        read = wiring.read.counted(tries) if died else wiring.read
        for chunk in read(part, before):
            counts[chunk.name] = len(chunk.sample_ids) + len(chunk.rejects)
            yield replace(chunk, storage_retries=take_retries())
        yield end_of(part, counts, before)
