"""Reading the samples of a shard, in their order, whatever is broken in it.

A sample that cannot be read has its reason; a shard that breaks keeps what lies before the break.
What fails is told apart: content makes rejects, storage stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.folder import read_folder
from dawin_ray.data.formats.parquet import ImageRows, broken_file, read_parquet
from dawin_ray.data.formats.tars import is_compressed
from dawin_ray.data.formats.webdataset import TarSamples
from dawin_ray.data.versions import check_unchanged
from dawin_ray.storage import ParquetFileError, filesystem, is_local, open_stream

HEAD_BYTES = 64  # of a file, which tell what it is


def count_samples(shard: Shard, told: Callable[[Sample], None] = lambda _: None) -> int | None:
    """Samples of a shard where its headers tell; None for a tar that is not on this machine.

    `told` gets each sample that headers alone show to be of no use, and what a break stands for.
    """
    if shard.format == "folder":
        return len(shard.images)
    if shard.format == "parquet":
        with open_stream(shard.address, "shard") as stream:
            try:
                return ImageRows(stream, shard, limits.MAX_MEMBER_BYTES).count
            except ParquetFileError as failure:
                told(broken_file(shard, 0, failure.rows, str(failure)))
                return failure.rows
    if not is_local(filesystem(shard.address)[0]):
        return None
    with open_stream(shard.address, "shard") as stream:
        if is_compressed(stream.read(HEAD_BYTES)):
            return None
    count: int | None = 0
    for sample in TarSamples(shard, lambda _: False, headers_only=True):
        if sample.error:
            told(sample)
        count = None if sample.broken else count + 1
    return count


def read_samples(shard: Shard, wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Sample]:
    """The samples of a shard in their order.

    `wanted` tells for a sample's ordinal in the shard whether its image will be used; the others
    are named, but not read where that saves work. A sample that cannot be read has an `error`; a
    shard that breaks keeps the samples before the break and ends with one such sample.

    Raises:
        UserError: a file is not what was listed, or the storage fails.
    """
    check_unchanged(shard)
    readers = {"folder": read_folder, "webdataset": TarSamples, "parquet": read_parquet}
    return iter(readers[shard.format](shard, wanted))
