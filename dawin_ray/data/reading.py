"""A slice of a shard, sample by sample: begun where an index says, or past all that is before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.shard_index import Indexes, Noting, ShardIndex
from dawin_ray.data.slices import Slice
from dawin_ray.errors import UserError
from dawin_ray.names import shown


class Reading:
    """The samples of a slice, once; the index of a large shard is noted where all of it is read."""

    def __init__(
        self,
        part: Slice,
        chunk_size: int,
        wanted: Callable[[int], bool],
        indexes: Indexes | None,
    ):
        """`wanted` tells for each chunk of the slice whether its images will be used.

        Raises:
            UserError: a file is not what was listed, or the storage fails.
        """
        self.part, self.chunk_size = part, chunk_size
        shard, self.indexes = part.shard, indexes
        self.index = None if indexes is None or part.is_whole else indexes.read(shard)
        self.noting: Noting | None = None
        if part.is_whole and indexes is not None and indexes.wanted(shard):
            self.noting = Noting(shard, chunk_size)
        found = _first(self.index, part, wanted)
        self.is_over = found is None
        # the first chunk that is come by, and the position before it
        self.first, self.position, start = found or (0, 0, None)
        # samples before that chunk's first one that are read with it
        self._beside = self.first * chunk_size - (start.samples if start else 0)
        self._samples: Iterator[Sample] = iter(())
        if not self.is_over:
            self._samples = read_samples(shard, lambda i: wanted(i // chunk_size), start)

    def chunk(self, ordinal: int) -> Iterator[Sample]:
        """The samples of the next chunk; `is_over` behind the last one of the slice.

        Raises:
            UserError: the storage fails, or a slice does not end where the next one begins.
        """
        for _ in itertools.islice(self._samples, self._beside):
            pass
        self._beside = read = 0
        for sample in itertools.islice(self._samples, self.chunk_size):
            read += 1
            if self.noting is not None:
                self.noting.add(sample)
            yield sample
        if self.index is not None and ordinal == self.part.last:
            _check_end(self.index, ordinal, next(self._samples, None), self.part.shard)
        self.is_over = read < self.chunk_size or ordinal == self.part.last
        if self.is_over and self.noting is not None and self.indexes is not None:
            self.indexes.keep(self.part.shard, self.noting.index())


def _first(
    index: ShardIndex | None, part: Slice, wanted: Callable[[int], bool]
) -> tuple[int, int, Start | None] | None:
    """The first chunk that is come by, the position before it, and where it starts.

    None where nothing of the slice is wanted.
    """
    if index is None:
        return 0, 0, None
    last = index.chunks - 1 if part.last is None else min(part.last, index.chunks - 1)
    chunk = next(filter(wanted, range(part.first, last + 1)), None)
    if not chunk:
        return None if chunk is None else (0, 0, None)
    there = index.starts[chunk - 1]
    return chunk, there.position, there.start


def _check_end(index: ShardIndex, chunk: int, following: Sample | None, shard: Shard) -> None:
    """That behind a slice's last chunk comes what the next slice begins with.

    Each slice begins where the index says. The first one is right, so all are, or one raises.
    """
    expected = index.starts[chunk].start if chunk < len(index.starts) else None
    if (following and following.start) != expected:
        raise UserError(
            f"The index of shard '{shown(shard.name)}' of data set '{shard.dataset}' is not that "
            f"of its file: chunk {chunk} does not end where the next one begins. Somebody changed "
            "the run directory or the file. Start the run anew with --restart."
        )
