"""A sample by its id is the one that reading its whole shard gives, in every format."""

import gzip
import io
import struct
import tarfile
import threading

import numpy as np
import pytest

from dawin_ray.data import (
    DatasetConfig,
    NoSuchSampleError,
    SamplesById,
    list_files,
    make_shards,
    read_samples,
)
from dawin_ray.data import by_id as module
from dawin_ray.data.formats import folder
from tests.conftest import make_images, write_folder, write_parquet, write_tar

COUNT = 30


def odd_names(root):
    root.mkdir()
    for i, image in enumerate(make_images(6)):
        name = [b"\xff.jpg", b"a\\x41.jpg", b"a\\@.jpg", b"b'c\n.jpg", b"z.jpg", b"\xe9t\xe9.jpg"][
            i
        ]
        with open(bytes(root) + b"/" + name, "wb") as file:
            file.write(image)


def zipped(root):
    write_tar(root / "a.tar", make_images(COUNT), list(range(COUNT)))
    content = (root / "a.tar").read_bytes()
    (root / "a.tar").unlink()
    (root / "a.tar.gz").write_bytes(gzip.compress(content))


def tars(root):
    for shard in range(3):
        write_tar(root / "deep" / f"{shard}.tar", make_images(10, shard), None, 10 * shard)
    with tarfile.open(root / "deep" / "slashes.tar", "w") as tar:
        for i, image in enumerate(make_images(4)):
            info = tarfile.TarInfo(f"a.tar/{i}/b c.jpg")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))


def rows(root):
    import pyarrow.parquet as pq

    write_parquet(root / "a.parquet", make_images(COUNT), list(range(COUNT)))
    pq.write_table(pq.read_table(root / "a.parquet"), root / "a.parquet", row_group_size=7)
    write_parquet(root / "b.parquet", make_images(3, 1), None)


def idx(root):
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4), dtype=np.uint8)
    head = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
    (root / "t10k-images-idx3-ubyte").write_bytes(head + pixels.tobytes())


KINDS = {
    "folder": lambda root: write_folder(root, make_images(COUNT), [i % 6 for i in range(COUNT)]),
    "odd names": odd_names,
    "tars": tars,
    "zipped": zipped,
    "rows": rows,
    "idx": idx,
}


@pytest.fixture(params=KINDS)
def shards(request, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "FOLDER_SHARD_IMAGES", 4)
    KINDS[request.param](tmp_path / "data")
    config = DatasetConfig(
        name="x", path=str(tmp_path / "data"), format="idx" if request.param == "idx" else None
    )
    return make_shards(config, list_files(config))


def told(sample):
    return sample.sample_id, sample.image, sample.error


def test_each_is_that_of_its_shard_in_any_order(shards):
    every = [told(sample) for shard in shards for sample in read_samples(shard)]
    assert len(every) >= 6
    samples = SamplesById(shards)
    for expected in [*every[::-1], *every[::3], *every]:
        assert told(samples.read(expected[0])) == expected
    many = SamplesById(shards).read_many([sample_id for sample_id, *_ in every[1::2]])
    assert sorted(map(told, many)) == sorted(every[1::2])
    [one] = SamplesById(shards).read_many([every[-1][0], "none"])
    assert told(one) == every[-1]


def test_what_there_is_not_is_told(shards):
    samples = SamplesById(shards)
    first = next(iter(read_samples(shards[0]))).sample_id
    for wrong in (
        "",
        "/",
        "none",
        "none/1",
        f"{first}x",
        f"x{first}",
        f"{first}/",
        "\\xff",
        "../x",
    ):
        with pytest.raises(NoSuchSampleError):
            samples.read(wrong)
    assert list(samples.read_many(["none", "../x"])) == []


def test_several_threads_may_ask(shards):
    every = [told(sample) for shard in shards for sample in read_samples(shard)]
    samples, found = SamplesById(shards), []

    def ask(seed: int) -> None:
        for place in np.random.default_rng(seed).permutation(len(every)):
            found.append(told(samples.read(every[place][0])) == every[place])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * (4 * len(every))


def test_indexes_are_held_for_so_many_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INDEXED_SHARDS", 2)
    tars(tmp_path / "data")
    config = DatasetConfig(name="x", path=str(tmp_path / "data"))
    samples = SamplesById(make_shards(config, list_files(config)))
    for sample_id in ("deep/0.tar/0001", "deep/1.tar/0011", "deep/2.tar/0021", "deep/0.tar/0002"):
        assert samples.read(sample_id).sample_id == sample_id
    assert len(samples._indexes) == 2


def test_a_sample_is_read_without_those_before_it(tmp_path):
    """Of a tar only its member, of Parquet only its row group."""
    rows(tmp_path / "rows")
    config = DatasetConfig(name="x", path=str(tmp_path / "rows"))
    [shard, _] = make_shards(config, list_files(config))
    starts = module.FORMATS["parquet"].partly.starts(shard)
    assert [start.samples for start in starts] == [0, 7, 14, 21, 28]
    (tmp_path / "rows" / "a.parquet").chmod(0o644)
    assert next(iter(SamplesById([shard])._near(shard, "a.parquet/15"))).sample_id.endswith("/14")
    write_tar(tmp_path / "tars" / "a.tar", make_images(9), None)
    config = DatasetConfig(name="x", path=str(tmp_path / "tars"))
    [shard] = make_shards(config, list_files(config))
    assert next(iter(SamplesById([shard])._near(shard, "a.tar/0007"))).sample_id == "a.tar/0007"
