"""Where the chunks of a large shard begin, so that several readers share it.

    <root>/<data set>/<shard>.json     a checksum, and the `ShardIndex` as JSON

An index is made by a scan of the shard where it lies on this machine, elsewhere by whoever reads it
first. It is of one state of the shard, by bytes and version; one that is missing, damaged or of
another state is not used. One that is whole and yet wrong shows, as each reader compares where it
ends with where the next one begins (`reading`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from dawin_ray.attempts import Tries
from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats.registry import FORMATS
from dawin_ray.data.versions import check_unchanged
from dawin_ray.errors import UserError
from dawin_ray.records import read_record, write_record
from dawin_ray.storage import filesystem, is_local, join, read_bytes, write_whole

logger = logging.getLogger(__name__)

SUM = 64  # characters of a checksum


@dataclass(frozen=True, kw_only=True)
class ChunkStart:
    """Where a chunk begins."""

    position: int  # of the last sample before it: see `Sample.position`
    samples: int  # as the next one, of the `Start` of its first sample
    place: tuple[int, ...]

    @property
    def start(self) -> Start:
        """From which its first sample is read, and maybe a few before it."""
        return Start(self.samples, self.place)


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Where the chunks of a shard begin, but for the first one."""

    VERSION: ClassVar[int] = 1
    chunk_size: int
    bytes: int  # of the shard, as the next one
    state: str  # its version
    samples: int  # with what stands for the samples behind a break
    starts: tuple[ChunkStart, ...]  # of chunks 1, 2 ...

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.starts) + 1


class Noting:
    """Makes an index of samples that go by, each once, from a shard's first one on."""

    def __init__(self, shard: Shard, chunk_size: int):
        """Of the shard, in chunks of that size."""
        self.shard, self.chunk_size = shard, chunk_size
        self.samples = self.position = 0
        self.starts: list[ChunkStart] | None = []

    def add(self, sample: Sample) -> None:
        """The next sample."""
        if sample.start is None:
            self.starts = None
        elif self.starts is not None and self.samples and self.samples % self.chunk_size == 0:
            samples, place = sample.start
            self.starts.append(ChunkStart(position=self.position, samples=samples, place=place))
        self.samples, self.position = self.samples + 1, sample.position

    def index(self) -> ShardIndex | None:
        """Of all samples; None where the shard is one that is read in one go."""
        if not self.starts:
            return None
        return ShardIndex(
            chunk_size=self.chunk_size,
            bytes=self.shard.bytes,
            state=self.shard.version,
            samples=self.samples,
            starts=tuple(self.starts),
        )


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """The indexes of a run's large shards; cheap to pickle."""

    root: str  # address of their folder
    chunk_size: int
    above: int  # bytes of a shard that is large

    def wanted(self, shard: Shard) -> bool:
        """Whether several readers would share it, and can."""
        return shard.bytes > self.above and may_split(shard)

    def read(self, shard: Shard) -> ShardIndex | None:
        """A shard's index; None where there is none, or none of this state."""
        address = self.address_of(shard)
        try:
            content = read_bytes(address, "index of a shard")
            checksum, body = content[:SUM], content[SUM:]
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return None
            index = read_record(ShardIndex, body, address)
        except UserError:
            return None
        now = (self.chunk_size, shard.bytes, shard.version)
        return index if (index.chunk_size, index.bytes, index.state) == now else None

    def keep(self, shard: Shard, index: ShardIndex | None) -> None:
        """Write a shard's index, if it has one and that can be."""
        if index is None:
            return
        body = write_record(index)
        content = hashlib.sha256(body).hexdigest().encode() + body
        try:
            write_whole(*filesystem(self.address_of(shard)), content)
        except UserError as error:
            logger.warning("the index of a shard cannot be kept, which costs time only: %s", error)

    def address_of(self, shard: Shard) -> str:
        """Where a shard's index is kept."""
        return join(self.root, shard.dataset, f"{shard.key}.json")

    def scan(self, shard: Shard) -> ShardIndex | None:
        """Make an index of a shard on this machine, and keep it; None where it has none.

        Raises:
            UserError: the shard is not what was listed, or its storage fails.
        """
        partly = FORMATS[shard.format].partly
        assert partly is not None, "only shards of such formats are asked for"
        check_unchanged(shard)
        index = index_of(shard, partly.scan(shard), self.chunk_size)
        self.keep(shard, index)
        return index


@dataclass(frozen=True)
class CountChunks:
    """Chunks of a large shard by its index, which is made where it can be; None without one."""

    indexes: Indexes
    tries: Tries

    def __call__(self, shard: Shard) -> int | None:
        """Of one shard. Raises as `Indexes.scan`."""
        index = self.indexes.read(shard)
        if index is None and is_local(filesystem(shard.address)[0]):
            with self.tries.of("index", f"{shard.dataset}/{shard.key}") as deaths:
                if not deaths:  # else its reader will find out what it dies of
                    index = self.indexes.scan(shard)
        return None if index is None else index.chunks


def index_of(shard: Shard, samples: Iterable[Sample], chunk_size: int) -> ShardIndex | None:
    """The index of a shard that has these samples; None where it is one that is read in one go."""
    noting = Noting(shard, chunk_size)
    for sample in samples:
        noting.add(sample)
        if noting.starts is None:
            return None
    return noting.index()


def may_split(shard: Shard) -> bool:
    """Whether the shard's format can be read in parts, and its state can be told."""
    return FORMATS[shard.format].partly is not None and bool(shard.version)
