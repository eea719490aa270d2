"""The formats that there are, and reading the samples of a shard, in their order.

Labels are optional in all of them, and they lie on this machine or at any address of fsspec:

    folder      <path>/<class>/<image>; images without a class folder have no label
    webdataset  tars of consecutive members key.jpg|jpeg|png|webp..., key.cls; the layout of the
                clip-benchmark data sets (nshards.txt, classnames.txt) is understood
    parquet     an `image` struct {bytes, path} as Hugging Face writes it, or a binary column
    idx         MNIST's images-idx3-ubyte with labels-idx1-ubyte beside, gzipped or not
    svhn        SVHN's test_32x32.mat

A sample that cannot be read has its reason; a shard that breaks keeps what lies before the break.
What fails is told apart: content makes rejects, storage stops the run.
"""

from __future__ import annotations

from collections.abc import Iterator

from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats.folder import FOLDER
from dawin_ray.data.formats.format import Format, Told, Wanted
from dawin_ray.data.formats.idx import IDX
from dawin_ray.data.formats.parquet import PARQUET
from dawin_ray.data.formats.svhn import SVHN
from dawin_ray.data.formats.webdataset import WEBDATASET
from dawin_ray.data.versions import check_unchanged

FORMATS: dict[str, Format] = {
    "folder": FOLDER,
    "webdataset": WEBDATASET,
    "parquet": PARQUET,
    "idx": IDX,
    "svhn": SVHN,
}


def count_samples(shard: Shard, told: Told = lambda _: None) -> int | None:
    """Samples of a shard where its headers tell; None for a tar that is not on this machine.

    `told` gets each sample that headers alone show to be of no use, and what a break stands for.
    """
    return FORMATS[shard.format].count(shard, told)


def read_samples(
    shard: Shard, wanted: Wanted = lambda _: True, start: Start | None = None
) -> Iterator[Sample]:
    """The samples of a shard in their order, all of them or those from a start on.

    `wanted` tells for a sample's ordinal in the shard whether its image will be used; the others
    are named, but not read where that saves work. A sample that cannot be read has an `error`; a
    shard that breaks keeps the samples before the break and ends with one such sample.

    Raises:
        UserError: a file is not what was listed, or the storage fails.
    """
    check_unchanged(shard)
    kind = FORMATS[shard.format]
    if start is None:
        return iter(kind.read(shard, wanted))
    assert kind.partly is not None, "only such a format tells starts"
    return iter(kind.partly.read(shard, wanted, start))
