"""A thousand names through listing, shards and samples: none ends it, is lost, or is shared."""

import io
import os
import random
import tarfile
import unicodedata

import pyarrow as pa
import pytest

from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Shard, file_key
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from tests.conftest import make_images

COUNT = 1_000
LONGEST = 240  # bytes; a file's name has 255 at most
IMAGE = make_images(1)[0]
PIECES = [
    b"\xe9", b"\xff\xfe", b"\xed\xa0\x80", b"\x80", "é".encode(), "e\u0301".encode(), b"\\xe9",
    b"\\@", b"\\", b"=", b"%", b"%2F", b"<b>", b"<script>alert(1)</script>",
    b"&amp;", b"\x1b[31m", b"\x07", b"\n", b"\t", b" ", b"'", b'"', b"[0-9]", b"{0..9}", b"*", b"?",
    b"[/bold]", b"@", b"::", b"pipe:", b"..", b"CON", b"-", b"+1", "\u202e".encode(),
    "\U0001f600".encode(), b"a" * 300, b"label=3", b"__HIVE_DEFAULT_PARTITION__", b"x", b"7",
]  # fmt: skip


def made_names() -> list[bytes]:
    """Distinct names of files without a suffix."""
    rng = random.Random(0)
    names = {"é".encode(), "e\u0301".encode(), b"\xe9", b"\\xe9", b"\\x5cxe9"}
    while len(names) < COUNT:
        name = b"".join(rng.choices(PIECES, k=rng.randint(1, 5)))[:LONGEST]
        if not name.startswith(b"."):
            names.add(name.replace(b"/", b"|"))
    return sorted(names)


def check(samples, count: int) -> None:
    ids = [sample.sample_id for sample in samples]
    assert len(ids) == len(set(ids)) == count
    assert pa.array(ids, pa.string()).to_pylist() == ids
    assert all(sample.error is None for sample in samples)


def samples_of(root):
    config = DatasetConfig(name="set", path=str(root))
    shards = make_shards(config, list_files(config))
    copies = [Shard.from_json(shard.to_json()) for shard in shards]
    assert copies == shards
    assert len({shard.key for shard in shards}) == len(shards)
    assert all(shard.key.isascii() and len(shard.key) < 120 for shard in shards)
    files = {name for shard in shards for name in shard.files}
    pa.array(sorted(files), pa.string())
    return [sample for shard in copies for sample in read_samples(shard)], files


def test_a_thousand_names_of_images(tmp_path):
    for i, name in enumerate(made_names()):
        folder = os.fsencode(tmp_path) + (b"/a" if i % 3 else b"/caf\xe9")
        os.makedirs(folder, exist_ok=True)
        with open(folder + b"/" + name + b".png", "wb") as stream:
            stream.write(IMAGE)
    samples, files = samples_of(tmp_path)
    check(samples, COUNT)
    assert files == {sample.sample_id for sample in samples}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_thousand_names_of_members(tmp_path, encoding):
    # a key ends at the first dot, and a folder at a slash
    names = {n.replace(b".", b"_") for n in made_names()}
    with tarfile.open(
        tmp_path / "s.tar", "w", encoding=encoding, errors="surrogateescape",
        format=tarfile.GNU_FORMAT,
    ) as tar:  # fmt: skip
        for name in sorted(names):
            info = tarfile.TarInfo(name.decode(encoding, "surrogateescape") + ".png")
            info.size = len(IMAGE)
            tar.addfile(info, io.BytesIO(IMAGE))
    samples, _ = samples_of(tmp_path)
    check(samples, len(names))


def test_a_thousand_names_of_shards(tmp_path):
    members = io.BytesIO()
    with tarfile.open(fileobj=members, mode="w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(IMAGE)
        tar.addfile(info, io.BytesIO(IMAGE))
    for name in made_names():
        with open(os.fsencode(tmp_path) + b"/" + name + b".tar", "wb") as stream:
            stream.write(members.getvalue())
    samples, files = samples_of(tmp_path)
    check(samples, COUNT)
    assert {sample.sample_id.rsplit("/", 1)[0] for sample in samples} == files


def test_keys_are_whole_hashes():
    # these two share the first 32 bits of their hashes, and have no letter that a key keeps
    keys = {file_key(name) for name in ("\u4e04\u4f2a\u4e03.tar", "\u4e06\u4eb3\u4e17.tar")}
    assert len(keys) == 2
    assert len({key[-8:] for key in keys}) == 2
    ends = {file_key(f"{start}{'a' * 60}.tar") for start in "xyz"}
    assert len(ends) == 3
    forms = {file_key(unicodedata.normalize(form, "é.tar")) for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert len({file_key(name) for name in ("\udce9", "\ud800", "\ue0e9")}) == 3
