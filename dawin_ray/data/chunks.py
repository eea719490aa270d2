"""A chunk, the unit of work and of output, and how it travels.

Shapes: n samples of a chunk, H x W pixels.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice


class Reject(NamedTuple):
    """A sample that cannot be used."""

    sample_id: str
    reason: str
    offset: int | None = None  # of the sample in its shard, in bytes, where it has one
    sha256: str | None = None  # of its encoded image, where there is one
    broken: bool = False  # it stands for a shard, or what is left of one, not for a sample
    lost: int | None = None  # of a broken shard: samples, counted or estimated


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A fixed range of samples of one shard, decoded. Its name depends on nothing else."""

    name: str
    dataset: str
    shard: str  # its name; `shard_key` is the same, safe in a path
    shard_key: str
    sample_ids: list[str]
    labels: list[int | None]
    images: np.ndarray  # uint8 [n, H, W, 3], the crops of sample_ids
    rejects: list[Reject] = field(default_factory=list)
    bytes: int = 0  # of the shard that this chunk stands for: for progress
    read_seconds: float = 0.0  # that its reader spent on storage, or on the cache of crops
    decode_seconds: float = 0.0  # and on decoding
    storage_retries: int = 0  # requests that its reader sent again
    # behind a slice's last chunk comes one without samples: samples read for each chunk of this
    # reading, the names of those that were there before, and which slice of how many it was
    end: dict[str, Any] | None = None

    def select(self, rows: slice) -> Chunk:
        """The same chunk with a part of its samples, and no rejects."""
        return dataclasses.replace(
            self,
            sample_ids=self.sample_ids[rows],
            labels=self.labels[rows],
            images=self.images[rows],
            rejects=[],
        )


def chunk_name(shard: Shard, start: int) -> str:
    """The name of the chunk that begins at a sample's ordinal in the shard."""
    return f"{shard.key}-{start:09d}"


def end_of(part: Slice, read: dict[str, int], before: Collection[str]) -> Chunk:
    """What tells that a slice has been read to its end."""
    shard = part.shard
    return Chunk(
        name="", dataset=shard.dataset, shard=shard.name, shard_key=shard.key, sample_ids=[],
        labels=[], images=np.empty((0, 0, 0, 3), np.uint8),
        end={"read": read, "before": sorted(before), "slice": part.index, "of": part.count},
    )  # fmt: skip


def to_text(chunk: Chunk) -> str:
    """All of a chunk but its pixels, as JSON."""
    rest = {f.name: getattr(chunk, f.name) for f in dataclasses.fields(chunk) if f.name != "images"}
    rest["shape"] = chunk.images.shape
    return json.dumps(rest)


def from_text(text: str, pixels: Any) -> Chunk:
    """The chunk of `to_text`; its pixels, a buffer, are not copied.

    Raises:
        Exception: the text is not one that `to_text` made.
    """
    rest = json.loads(text)
    shape = rest.pop("shape")
    rest["rejects"] = [Reject(*values) for values in rest["rejects"]]
    return Chunk(images=np.frombuffer(pixels, dtype=np.uint8).reshape(shape), **rest)


def pack(chunk: Chunk) -> pa.Table:
    """A chunk as a table of one row: its pixels, which are not copied, and all else as JSON."""
    pixels = pa.py_buffer(np.ascontiguousarray(chunk.images))
    bounds = pa.py_buffer(np.array([0, pixels.size], np.int64))
    images = pa.Array.from_buffers(pa.large_binary(), 1, [None, bounds, pixels])
    return pa.table({"chunk": [to_text(chunk)], "images": images})


def unpack(packed: pa.Table) -> list[Chunk]:
    """The chunks in one or more tables of `pack`, put together; their pixels are not copied."""
    rows = zip(packed["chunk"].to_pylist(), _values(packed["images"]), strict=True)
    return [from_text(text, pixels) for text, pixels in rows]


def _values(column: pa.ChunkedArray) -> Iterator[pa.Buffer]:
    """The values of a column of large_binary where they lie; as scalars they would be copied."""
    for array in column.chunks:
        _, bounds, values = array.buffers()
        first = array.offset
        ends = np.frombuffer(bounds, np.int64)[first : first + len(array) + 1].tolist()
        for begin, end in itertools.pairwise(ends):
            yield pa.py_buffer(b"") if begin == end else values.slice(begin, end - begin)


@dataclass(frozen=True, kw_only=True)
class ChunkSummary:
    """What the driver learns of a chunk that is committed, or of the end of a slice."""

    dataset: str
    shard: str  # its key
    chunk: str  # its name; empty at the end of a slice
    rows: int
    rejects: int
    bytes: int  # of the shard that the chunk stands for
    begun: float  # seconds since the epoch, on the worker's clock: when the models had it
    done: float
    merges: int = 0  # models that were merged for it
    actor: str = ""  # what scored it: its node and process
    wait_seconds: float = 0.0  # that the actor had waited for it, since its last forward
    read_seconds: float = 0.0  # see `Chunk`
    decode_seconds: float = 0.0
    storage_retries: int = 0  # requests that its reader, or its actor since the last, sent again
    end: dict[str, Any] | None = None  # see `Chunk.end`
    work: float | None = None  # in the unit of a forecast; `bytes` where it is None

    @property
    def seconds(self) -> float:
        """That the chunk took in the models."""
        return self.done - self.begun


def to_row(summaries: Sequence[ChunkSummary]) -> dict[str, list[str]]:
    """Summaries as a table of one row and one column, in which nothing can be null."""
    return {"summaries": [json.dumps([vars(summary) for summary in summaries])]}


def from_row(row: Mapping[str, str]) -> list[ChunkSummary]:
    """The summaries of a row that `to_row` made."""
    return [ChunkSummary(**values) for values in json.loads(row["summaries"])]
