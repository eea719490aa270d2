"""Versions: what storages call them, and files that change between listing and reading."""

import dataclasses
import datetime
import functools
import hashlib
import http.server
import os
import threading

import fsspec
import pytest

from dawin_ray.data import versions
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.data.versions import version_of
from dawin_ray.errors import UserError
from tests.conftest import make_images, write_folder, write_parquet, write_tar

IMAGES = make_images(3)
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"ETag": '"abc"', "LastModified": NOON}, "abc"),  # s3fs
        ({"etag": "0x8D", "last_modified": NOON}, "0x8D"),  # adlfs
        ({"last_modified": NOON}, str(NOON.timestamp())),
        ({"updated": "2026-01-02T12:00:00Z", "generation": "17"}, "17"),  # gcsfs
        ({"Last-Modified": "Fri, 02 Jan 2026 12:00:00 GMT"}, "Fri, 02 Jan 2026 12:00:00 GMT"),
        ({"Content-MD5": "x", "size": 3}, "x"),
        ({"mtime": 0}, "0"),
        ({"created": NOON}, str(NOON.timestamp())),
        ({"created": NOON.replace(tzinfo=None)}, str(NOON.timestamp())),
        ({"size": 3, "name": "a", "type": "file", "ETag": None, "mtime": ""}, ""),
    ],
)
def test_a_version_is_found_whatever_the_storage_calls_it(info, version):
    assert version_of(info) == version


def shard_of(path, **settings):
    config = DatasetConfig(name="set", path=str(path), **settings)
    [shard] = make_shards(config, list_files(config))
    return shard


def same_size(path, data: bytes):
    """Other content of the same size, a moment later."""
    before = path.stat()
    path.write_bytes(data[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("kind", ["tar", "parquet", "folder"])
def test_a_file_that_changes_behind_the_listing_stops_with_its_name(tmp_path, kind):
    if kind == "folder":
        write_folder(tmp_path, IMAGES, [0, 0, 0])
        path = tmp_path / "class_0" / "0001.png"
    else:
        path = tmp_path / f"s.{kind}"
        {"tar": write_tar, "parquet": write_parquet}[kind](path, IMAGES, [0, 1, 2])
    shard = shard_of(tmp_path)
    assert len(list(read_samples(shard))) == 3
    same_size(path, path.read_bytes()[::-1])
    with pytest.raises(UserError, match=rf"'set' has changed.*{path.name}.*version.*--restart"):
        list(read_samples(shard))
    path.write_bytes(b"shorter")
    with pytest.raises(UserError, match=rf"{path.name}.*had [\d,]+ bytes and has 7"):
        list(read_samples(shard))


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_a_file_of_a_storage_that_changes_stops_too(tmp_path, kind):
    memory = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}"
    name = "s.tar" if kind == "tar" else "a/0.jpg"
    data = IMAGES[0]
    if kind == "tar":
        data = write_tar(tmp_path / "s.tar", IMAGES, None).read_bytes()
    memory.pipe_file(f"{root}/{name}", data)
    shard = shard_of(f"memory:/{root}")
    try:
        assert len(list(read_samples(shard))) in (1, 3)
        memory.pipe_file(f"{root}/{name}", data[:-1] + b"x")
        with pytest.raises(UserError, match=f"has changed.*{name}"):
            list(read_samples(shard))
    finally:
        memory.rm(root, recursive=True)


def test_a_shard_that_is_gone_is_named(tmp_path):
    shard = shard_of(write_tar(tmp_path / "s.tar", IMAGES, None))
    (tmp_path / "s.tar").unlink()
    with pytest.raises(UserError, match=r"s\.tar.*it is gone"):
        list(read_samples(shard))


def test_identity_is_of_names_bytes_and_versions(tmp_path):
    config = DatasetConfig(name="set", path=str(tmp_path))
    path = write_tar(tmp_path / "s.tar", IMAGES, [0, 1, 2])
    before = list_files(config).identity()
    assert list_files(config).identity() == before
    same_size(path, path.read_bytes()[::-1])
    assert list_files(config).identity() != before
    path.rename(tmp_path / "t.tar")
    assert list_files(config).identity() != before


# Storages without versions


class Handler(http.server.SimpleHTTPRequestHandler):
    """An index of files; without a date where `dateless`."""

    dateless = False

    def log_message(self, *_):
        pass

    def send_header(self, keyword, value):
        if not (self.dateless and keyword == "Last-Modified"):
            super().send_header(keyword, value)


@pytest.fixture
def serve(tmp_path):
    """Serves tmp_path on loopback; returns its address."""
    servers = []

    def start(dateless: bool) -> str:
        handler = type("Of", (Handler,), {"dateless": dateless})
        where = functools.partial(handler, directory=str(tmp_path))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), where))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_http_is_asked_for_sizes_and_times(tmp_path, serve):
    path = write_tar(tmp_path / "s.tar", IMAGES, None)
    config = DatasetConfig(name="set", path=serve(False), format="webdataset")
    listing = list_files(config, may_be_empty=True)
    assert listing.files == (("s.tar", path.stat().st_size),)
    assert "GMT" in listing.versions[0]
    [shard] = make_shards(config, listing)
    assert len(list(read_samples(shard))) == 3


def test_a_storage_that_tells_nothing_is_hashed_or_refused_for_growing_data(tmp_path, serve):
    path = write_tar(tmp_path / "s.tar", IMAGES, None)
    config = DatasetConfig(name="set", path=serve(True), format="webdataset")
    listing = list_files(config)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert listing.versions == (f"{versions.HASHED}{digest}",)
    assert any(f"1 files of {path.stat().st_size:,} bytes were read" in n for n in listing.notes)
    [shard] = make_shards(config, listing)
    assert len(list(read_samples(shard))) == 3
    with pytest.raises(UserError, match=r"neither an etag nor a time.*'s\.tar'.*mode: append"):
        list_files(config, may_be_empty=True)


@pytest.fixture
def remote(monkeypatch):
    """A shard of images whose storage has MD5s for versions, and what it was asked for again."""
    fs = fsspec.filesystem("memory")
    fs.rm("/md5", recursive=True) if fs.exists("/md5") else None
    for i, image in enumerate(IMAGES):
        fs.pipe_file(f"/md5/a/{i}.png", image)
    asked = []
    again = versions._ask_again

    def noted(fs, path):
        asked.append(path.rsplit("/", 1)[1])
        return again(fs, path)

    monkeypatch.setattr(versions, "_ask_again", noted)
    etags = tuple(hashlib.md5(image, usedforsecurity=False).hexdigest() for image in IMAGES)
    return fs, dataclasses.replace(shard_of("memory://md5"), versions=etags), asked


def test_remote_images_that_are_what_their_md5_says_are_not_asked_for(remote):
    _, shard, asked = remote
    assert [sample.image for sample in read_samples(shard)] == IMAGES
    assert asked == []


def test_a_remote_image_of_another_md5_is_asked_for_and_stops_the_run(remote):
    fs, shard, asked = remote
    fs.pipe_file("/md5/a/1.png", IMAGES[1][::-1])
    with pytest.raises(UserError, match=r"'set' has changed.*a/1\.png.*its version was"):
        list(read_samples(shard))
    assert asked == ["1.png"]


def test_an_etag_that_is_no_hash_of_the_content_is_asked_for(remote, monkeypatch):
    """As where S3 encrypts with a key of its own, or a file came in several parts."""
    fs, shard, asked = remote
    etags = {f"{i}.png": "0" * 31 + str(i) for i in range(3)}
    shard = dataclasses.replace(shard, versions=("0" * 31 + "0", "0" * 31 + "1", "0" * 30 + "-2"))
    etags["2.png"] = shard.versions[2]
    monkeypatch.setattr(
        type(fs), "info",
        lambda self, path, **_: {"size": self.store[f"/{path.strip('/')}"].size,
                                 "type": "file", "ETag": etags[path.rsplit("/", 1)[1]]},
    )  # fmt: skip
    assert [sample.image for sample in read_samples(shard)] == IMAGES
    assert sorted(asked) == ["0.png", "1.png", "2.png"]
    etags["0.png"] = "another"
    with pytest.raises(UserError, match=r"0\.png"):
        list(read_samples(shard))
