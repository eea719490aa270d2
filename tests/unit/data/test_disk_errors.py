"""A disk that fails stops the run with the file's name; one image that is gone is a reject."""

import errno
import gzip
import os

import pytest
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.formats import folder, limits
from dawin_ray.data.formats.registry import count_samples, read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.errors import UserError
from dawin_ray.storage.files import open_stream
from tests.conftest import make_images, write_folder, write_parquet, write_tar

IMAGES = make_images(6)
LABELS = [i for i in range(6)]


def shard_of(path, **settings):
    config = DatasetConfig(name="set", path=str(path), **settings)
    [shard] = make_shards(config, list_files(config))
    return shard


def write_tar_gz(path, *arguments):
    path.write_bytes(gzip.compress(write_tar(path, *arguments).read_bytes()))
    return path


def fail_to_open(monkeypatch, name: str, error: Exception) -> None:
    opened = LocalFileSystem._open

    def _open(self, path, *arguments, **options):
        if path.endswith(name):
            raise error
        return opened(self, path, *arguments, **options)

    monkeypatch.setattr(LocalFileSystem, "_open", _open)


OF_THE_DISK = (
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ENOMEM,
    errno.ENODEV, errno.ENOTCONN, errno.EREMOTEIO, errno.ENXIO,
)  # fmt: skip
OF_ONE_IMAGE = (
    errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


@pytest.mark.parametrize("code", OF_THE_DISK, ids=errno.errorcode.get)
def test_a_disk_that_fails_stops_the_run_with_the_images_name(tmp_path, monkeypatch, code):
    shard = shard_of(write_folder(tmp_path / "set", IMAGES, LABELS))
    fail_to_open(monkeypatch, "0003.png", OSError(code, os.strerror(code)))
    with pytest.raises(UserError, match=r"Cannot read the image '.*0003\.png'"):
        list(read_samples(shard))


@pytest.mark.parametrize("code", OF_ONE_IMAGE, ids=errno.errorcode.get)
def test_one_image_that_cannot_be_opened_is_a_reject(tmp_path, monkeypatch, code):
    shard = shard_of(write_folder(tmp_path / "set", IMAGES, LABELS))
    fail_to_open(monkeypatch, "0003.png", OSError(code, os.strerror(code)))
    found = list(read_samples(shard))
    assert [s.error is None for s in found] == [True, True, True, False, True, True]
    assert found[3].error.startswith(folder.UNREADABLE)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("write", [write_tar, write_tar_gz, write_parquet])
def test_a_disk_that_fails_under_a_shard_is_no_fault_of_its_content(
    tmp_path, monkeypatch, code, after, write
):
    suffix = write.__name__.removeprefix("write_").replace("_", ".")
    shard = shard_of(write(tmp_path / f"s.{suffix}", IMAGES, LABELS))
    read, calls = LocalFileOpener.read, []

    def fails(self, *arguments):
        calls.append(self)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return read(self, *arguments)

    monkeypatch.setattr(LocalFileOpener, "read", fails, raising=False)
    with pytest.raises(UserError, match=rf"Cannot read the shard '.*s\.{suffix}'"):
        list(read_samples(shard))


def test_a_tar_whose_disk_fails_has_no_count_but_a_message(tmp_path, monkeypatch):
    shard = shard_of(write_tar(tmp_path / "s.tar", IMAGES, LABELS))
    fail_to_open(monkeypatch, "s.tar", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(UserError, match=r"s\.tar.*Input/output error"):
        count_samples(shard)


@pytest.mark.parametrize("method", ["read", "readinto", "readline", "seek", "tell"])
def test_a_stream_names_its_file_whatever_fails(tmp_path, monkeypatch, method):
    (tmp_path / "x").write_bytes(b"x")

    def fails(self, *arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalFileOpener, method, fails, raising=False)
    arguments = {"readinto": [bytearray(3)], "seek": [0]}.get(method, [])
    told = pytest.raises(UserError, match=r"Cannot read the thing '.*/x': .*Input/output")
    with open_stream(str(tmp_path / "x"), "thing") as stream, told:
        getattr(stream, method)(*arguments)


def test_a_place_that_no_file_has_is_a_fault_of_who_asks(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with open_stream(str(tmp_path / "x"), "thing") as stream, pytest.raises((OSError, ValueError)):
        stream.seek(-5)


# What is held of a folder


def test_images_of_a_folder_are_read_ahead_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "FOLDER_READ_AHEAD_BYTES", 2 * max(map(len, IMAGES)))
    shard, held = shard_of(write_folder(tmp_path / "set", IMAGES, LABELS)), []
    read = LocalFileSystem.cat_ranges

    def cat_ranges(self, paths, *arguments, **options):
        found = read(self, paths, *arguments, **options)
        held.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(LocalFileSystem, "cat_ranges", cat_ranges)
    assert [s.image for s in read_samples(shard)] == IMAGES
    assert max(held) <= folder.FOLDER_READ_AHEAD_BYTES
    assert len(held) > 1


def test_an_image_larger_than_any_is_not_read(tmp_path, monkeypatch):
    shard = shard_of(write_folder(tmp_path / "set", IMAGES, LABELS))
    size = len(IMAGES[3])
    monkeypatch.setattr(limits, "MAX_MEMBER_BYTES", size - 1)
    found = list(read_samples(shard))
    assert found[3].image is None
    assert found[3].error == f"it has {size:,} bytes; at most {size - 1:,} are read"


def test_a_git_lfs_pointer_in_an_images_place_is_called_one(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\n"
    found = list(read_samples(shard_of(write_folder(tmp_path, [pointer, IMAGES[1]], [0, 1]))))
    assert [s.error is None for s in found] == [False, True]
    assert "git lfs pull" in found[0].error
    assert not found[0].broken
