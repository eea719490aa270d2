"""Tars that are odd or broken: nothing is lost without a word, nothing hangs, little is held."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.formats import tars
from dawin_ray.data.formats.compressed import is_compressed
from dawin_ray.data.formats.registry import FORMATS, count_samples, read_samples
from dawin_ray.names import MADE

BLOCK = 512
COUNT = 5  # samples of the tars here
IMAGES = [bytes([65 + i]) * (300 + 400 * i) for i in range(COUNT)]
IMAGE_FIRST = [m for i, d in enumerate(IMAGES) for m in ((f"{i}.jpg", d), (f"{i}.cls", b"%d" % i))]
LABEL_FIRST = [m for i, d in enumerate(IMAGES) for m in ((f"{i}.cls", b"%d" % i), (f"{i}.jpg", d))]
UNLABELLED = [(f"{i}.jpg", data) for i, data in enumerate(IMAGES)]
ORDERS = {"image first": IMAGE_FIRST, "label first": LABEL_FIRST, "unlabelled": UNLABELLED}


def tar(members, **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def bare(data: bytes) -> bytes:
    """A tar without the zeros at its end."""
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        last = found.getmembers()[-1]
    return data[: last.offset_data + last.size + -last.size % BLOCK]


def shard_of(folder: Path, data: bytes, name: str = "s.tar", **settings) -> Shard:
    path = folder / name
    path.write_bytes(data)
    return Shard(
        dataset="set", name=name, address=str(path), format="webdataset", bytes=len(data), key="s",
        **settings,
    )  # fmt: skip


def read(folder: Path, data: bytes, **settings) -> list[Sample]:
    """What reading yields; the headers alone count the same, and reading goes on at any start."""
    shard = shard_of(folder, data, **settings)
    samples = list(read_samples(shard))
    assert len({sample.sample_id for sample in samples}) == len(samples)
    broken = [sample for sample in samples if sample.broken]
    assert len(broken) <= 1
    told = []
    if not is_compressed(data):
        count = count_samples(shard, told.append)
        assert count == (None if broken else len(samples))
        assert [s.sample_id for s in told if s.broken] == [s.sample_id for s in broken]
    check_starts(shard, samples)
    return samples


def check_starts(shard: Shard, samples: list[Sample]) -> None:
    """From the start of each sample, the same ones come; a scan tells the same starts."""
    starts = [sample.start for sample in samples]
    partly = FORMATS[shard.format].partly
    assert [(s.start, s.position, s.broken) for s in partly.scan(shard)] == [
        (s.start, s.position, s.broken) for s in samples
    ]
    if None in starts:
        return
    for ordinal in {0, 1, len(samples) // 2, len(samples) - 1} & set(range(len(samples))):
        rest = list(read_samples(shard, start=starts[ordinal]))
        assert rest[ordinal - starts[ordinal].samples :] == samples[ordinal:]


def scored(samples: list[Sample]) -> list[tuple[bytes, int | None]]:
    return [(sample.image, sample.label) for sample in samples if sample.error is None]


def rows_of(order: list) -> list[tuple[bytes, int | None]]:
    labelled = len(order) > COUNT
    return [(data, i if labelled else None) for i, data in enumerate(IMAGES)]


# Where an archive ends


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_cut_anywhere_is_told_and_no_sample_goes_without_its_label(tmp_path, order):
    data = tar(order)
    end = len(bare(data)) + 2 * BLOCK
    for at in range(0, len(data), BLOCK):
        for cut in (at, at + 1, at + 300):
            samples = read(tmp_path, data[:cut])
            rows = scored(samples)
            assert rows == rows_of(order)[: len(rows)], cut
            if cut < end:
                assert [s.broken for s in samples] == [False] * len(rows) + [True], cut
                assert samples[-1].lost is None, cut  # the file does not tell what it had
            else:
                assert len(samples) == COUNT, cut


def test_a_cut_between_two_members_is_called_what_it_is(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(tar(IMAGE_FIRST))) as found:
        at = found.getmember("3.cls").offset
    samples = read(tmp_path, tar(IMAGE_FIRST)[:at])
    assert scored(samples) == rows_of(IMAGE_FIRST)[:3]
    assert f"the shard ends without the end-of-archive mark after byte {at}" in samples[-1].error
    assert "'3' is not scored" in samples[-1].error
    assert samples[-1].sample_id == f"s.tar/{MADE}{at}"


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_zeros_over_members_are_told(tmp_path, order):
    """But for zeros that are the end of an archive to the byte, in size and in place."""
    data = tar(order)
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        starts = [member.offset for member in found] + [len(bare(data))]
    silent = 0
    for i, start in enumerate(starts[:-2]):
        for stop in starts[i + 1 : -1]:
            spoilt = data[:start] + bytes(stop - start) + data[stop:]
            samples = read(tmp_path, spoilt)
            rows = scored(samples)
            assert set(rows) <= set(rows_of(order)), (start, stop)
            if not any(sample.error for sample in samples):
                silent += 1
                assert stop - start == 2 * BLOCK or stop % tars.RECORD == 0, (start, stop)
    assert silent <= 1


def test_zeros_to_the_end_of_a_file_are_told_where_they_are_too_many(tmp_path):
    """As a download leaves that reserved its space first."""
    data = tar([(f"{i}.jpg", bytes([i + 1]) * 5000) for i in range(9)])
    samples = read(tmp_path, data[: 5 * 5632] + bytes(len(data) - 5 * 5632))
    assert [sample.error is None for sample in samples] == [True] * 5 + [False]
    assert "bytes of zeros end it" in samples[-1].error
    assert samples[-1].lost == pytest.approx(4, abs=2)  # zeros that end an archive among them


@pytest.mark.parametrize("size", [BLOCK, 2 * BLOCK, tars.RECORD, 50_000])
def test_a_file_of_zeros_is_broken(tmp_path, size):
    [sample] = read(tmp_path, bytes(size))
    assert "the shard breaks after byte 0: the file holds nothing but zeros" in sample.error
    assert (sample.broken, sample.lost) == (True, None)


def test_zeros_without_end_are_not_read_to_their_end(tmp_path):
    """As a gzip of a few MB may hold TB of them; here the rest would be no zeros at all."""
    data = bare(tar(IMAGE_FIRST)) + bytes(3 << 20)
    for samples in (read(tmp_path, data + b"x"), read(tmp_path, gzip.compress(data) + b"x")):
        assert scored(samples) == rows_of(IMAGE_FIRST)
        assert "more than 1,049,600 bytes of zeros" in samples[-1].error


def test_an_empty_file_is_broken(tmp_path):
    [sample] = read(tmp_path, b"")
    assert "the shard breaks after byte 0: the file is empty" in sample.error


@pytest.mark.parametrize("blocks", [2, 3, 7, 20])
def test_two_blocks_of_zeros_or_more_up_to_a_record_end_an_archive(tmp_path, blocks):
    assert len(read(tmp_path, bare(tar(IMAGE_FIRST)) + bytes(blocks * BLOCK))) == COUNT


def test_one_block_of_zeros_ends_none(tmp_path):
    """POSIX asks for two; all samples are there, but who wrote the file was not done."""
    samples = read(tmp_path, bare(tar(IMAGE_FIRST)) + bytes(BLOCK))
    assert scored(samples) == rows_of(IMAGE_FIRST)
    assert "without the end-of-archive mark" in samples[-1].error


@pytest.mark.parametrize("record", [BLOCK << 5, BLOCK << 7, BLOCK << 11])
def test_an_archive_may_be_filled_up_to_a_larger_record(tmp_path, record):
    data = bare(tar(IMAGE_FIRST)) + bytes(2 * BLOCK)
    assert len(read(tmp_path, data + bytes(-len(data) % record))) == COUNT


@pytest.mark.parametrize("end", [bytes(2 * BLOCK), None], ids=["two blocks", "a record"])
def test_concatenated_archives_stay_whole(tmp_path, end):
    parts = [tar(IMAGE_FIRST[:4]), tar(IMAGE_FIRST[4:6]), tar(IMAGE_FIRST[6:])]
    if end:
        parts = [bare(part) + end for part in parts]
    assert scored(read(tmp_path, b"".join(parts))) == rows_of(IMAGE_FIRST)


def test_two_archives_with_one_key_at_the_seam_are_not_one_sample(tmp_path):
    samples = read(tmp_path, tar([("a.jpg", b"1")]) + tar([("a.cls", b"1"), ("b.jpg", b"2")]))
    assert [s.sample_id for s in samples] == ["s.tar/a", f"s.tar/a{MADE}10240", "s.tar/b"]
    assert scored(samples) == [(b"1", None), (b"2", None)]


@pytest.mark.parametrize("behind", [b"x", b"\x00\x01" * 300, b"not a header" * 100])
def test_what_stands_behind_the_end_is_told(tmp_path, behind):
    samples = read(tmp_path, tar(IMAGE_FIRST) + behind)
    assert scored(samples) == rows_of(IMAGE_FIRST)
    assert samples[-1].broken


# Compression


def bgzip(data: bytes, block: int = 700) -> bytes:
    return b"".join(gzip.compress(data[at : at + block]) for at in range(0, len(data), block))


COMPRESSED = {
    "gzip of two": lambda a, b: gzip.compress(a) + gzip.compress(b),
    "padded gzip": lambda a, b: gzip.compress(a) + bytes(100) + gzip.compress(b) + bytes(3),
    "blocks": lambda a, b: bgzip(a + b) + gzip.compress(b""),
    "gzip of one": lambda a, b: gzip.compress(a + b),
    "bzip2": lambda a, b: bz2.compress(a) + bz2.compress(b),
    "xz": lambda a, b: lzma.compress(a) + bytes(8) + lzma.compress(b),
    "lzma": lambda a, b: lzma.compress(a + b, format=lzma.FORMAT_ALONE),
}


@pytest.mark.parametrize("compress", COMPRESSED.values(), ids=COMPRESSED)
def test_all_streams_of_a_compressed_file_are_read(tmp_path, compress):
    data = compress(tar(IMAGE_FIRST[:6]), tar(IMAGE_FIRST[6:]))
    samples = read(tmp_path, data, name="s.tar.gz")
    assert scored(samples) == rows_of(IMAGE_FIRST)
    positions = [sample.position for sample in samples]
    assert positions == sorted(positions)
    assert positions[-1] <= len(data)


@pytest.mark.parametrize("compress", COMPRESSED.values(), ids=COMPRESSED)
def test_a_compressed_file_that_ends_early_is_told(tmp_path, compress):
    data = compress(tar(IMAGE_FIRST[:6]), tar(IMAGE_FIRST[6:]))
    for cut in range(20, len(data) - 30, 41):
        samples = read(tmp_path, data[:cut])
        assert samples[-1].broken or len(scored(samples)) >= 3, cut
        assert all(label is not None for _, label in scored(samples)), cut
        assert len(scored(samples)) in (3, COUNT) or samples[-1].broken, cut


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_what_stands_behind_compressed_streams_is_told(tmp_path, compress):
    samples = read(tmp_path, compress(tar(IMAGE_FIRST)) + b"no stream")
    assert scored(samples) == rows_of(IMAGE_FIRST)
    assert samples[-1].broken


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_damage_in_a_compressed_stream_is_told(tmp_path, compress):
    first, second = compress(tar(IMAGE_FIRST[:6])), bytearray(compress(tar(IMAGE_FIRST[6:])))
    second[len(second) // 2] ^= 0xFF
    samples = read(tmp_path, first + bytes(second))
    assert samples[-1].broken
    assert scored(samples) == rows_of(IMAGE_FIRST)[: len(samples) - 1]


# Headers


def header(name: str = "x.jpg", size: int = 3, kind: bytes = b"0", **fields) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def extended(kind: bytes, data: bytes) -> bytes:
    return header("h", len(data), kind) + data + bytes(-len(data) % BLOCK)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text)
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return str(length).encode() + text


def pax(**records: str) -> bytes:
    return extended(b"x", b"".join(record(k.replace("_", "."), v) for k, v in records.items()))


BODY = b"abc" + bytes(BLOCK - 3)
HOSTILE = {
    "sparse map": pax(GNU_sparse_map="1,x", GNU_sparse_size="10") + header() + BODY,
    "sparse size": pax(GNU_sparse_size="abc") + header() + BODY,
    "sparse digits": pax(GNU_sparse_size="9" * 5000) + header() + BODY,
    "sparse 1.0": pax(GNU_sparse_major="1", GNU_sparse_minor="0") + header() + BODY,
    "old sparse": header(kind=b"S") + BODY,
    "longnames": extended(b"L", b"a.jpg\0") * 1200,
    "longlinks": extended(b"K", b"a.jpg\0") * 1200,
    "pax headers": extended(b"x", b"14 path=b.jpg\n") * 1500,
    "global headers": extended(b"g", b"14 path=b.jpg\n") * 1500,
    "pax of no records": extended(b"x", b"no records at all") + header() + BODY,
    "pax of length 0": extended(b"x", b"0 path=b.jpg\n") + header() + BODY,
    "pax beyond itself": extended(b"x", b"99 path=b.jpg\n") + header() + BODY,
    "pax of 5000 digits": extended(b"x", b"9" * 5000 + b" path=b\n") + header() + BODY,
    "size of letters": pax(size="abc") + header() + BODY,
    "size below zero": pax(size="-5") + header() + BODY,
    "size of digits": pax(size="9" * 5000) + header() + BODY,
    "size of Arabic digits": pax(size="\u0663") + header() + BODY,
    "header below zero": header(size=-5),
    "size of exabytes": header(size=2**62),
    "pax size of exabytes": pax(size="9" * 19) + header(),
    "size of a gigabyte": header("x.cls", size=2**30),
    "unused of exabytes": header("x.txt", size=2**62),
    "extended of exabytes": header("h", 2**62, b"x"),
    "name of exabytes": header("h", 2**62, b"L"),
    "name of a megabyte": extended(b"L", b"a" * 10**6) + header() + BODY,
    "no member": extended(b"L", b"a.jpg\0"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_one_reject_behind_the_good_samples(tmp_path, data):
    samples = read(tmp_path, bare(tar(IMAGE_FIRST)) + data + bytes(2 * BLOCK))
    assert scored(samples) == rows_of(IMAGE_FIRST)
    [reject] = samples[COUNT:]
    assert reject.broken or "stored sparse" in reject.error
    assert len(reject.error) < 400
    if data in (HOSTILE["longnames"], HOSTILE["global headers"]):
        assert "more than 64 extended headers before one member" in reject.error


def test_a_hostile_header_before_good_samples_has_an_estimate_of_what_is_lost(tmp_path):
    good = bare(tar(UNLABELLED[2:3] * 1))
    first = b"".join(bare(tar([(f"{i}.jpg", IMAGES[2])])) for i in range(4))
    samples = read(tmp_path, first + pax(size="abc") + header() + BODY + 8 * good + bytes(1024))
    assert len(scored(samples)) == 4
    assert samples[-1].lost == pytest.approx(8, abs=2)


def test_the_estimate_of_a_compressed_shard_goes_by_its_own_bytes(tmp_path):
    noise = random.Random(0)
    members = [(f"{i}.jpg", noise.randbytes(20_000)) for i in range(40)]
    for compress in (gzip.compress, lambda d: bgzip(d, 65_280), lambda d: bz2.compress(d, 1)):
        data = bytearray(compress(tar(members)))
        at = len(data) // 2
        data[at : at + 200] = bytes(200)
        samples = read(tmp_path, bytes(data))
        lost = 40 - len(scored(samples))
        assert samples[-1].lost == pytest.approx(lost, abs=12)
        assert samples[-1].lost > 5


def test_little_is_held_of_what_headers_claim(tmp_path):
    claims = [header("h", 2**40, b"x"), header("a.jpg", 255 << 20), header("a.jpg", 2**50)]
    unused = [("b.jpg", b"1"), *((f"b.{i}.npy", bytes(1 << 20)) for i in range(40))]
    for data in (*claims, bare(tar(unused)) + bytes(1024)):
        shard = shard_of(tmp_path, data)
        tracemalloc.start()
        try:
            list(read_samples(shard))
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_a_key_of_endless_members_ends_the_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("dawin_ray.data.formats.groups.MAX_MEMBERS", 20)
    samples = read(tmp_path, tar([*UNLABELLED, *((f"k.{i}.txt", b"") for i in range(30))]))
    assert scored(samples) == rows_of(UNLABELLED)
    assert "more than 20 members have the key 'k'" in samples[-1].error


def test_folders_links_and_global_headers_lie_between_samples(tmp_path):
    """As `git archive` and `tar c folder` write them."""
    data = extended(b"g", record("comment", "0123abcd")) + header("d.jpg/", 0, b"5")
    data += header("a.jpg") + BODY + header("l.txt", 700, b"2", linkname="a.jpg")
    data += header("./d/b.jpg") + BODY + bytes(1024)
    samples = read(tmp_path, data)
    assert [s.sample_id for s in samples] == ["s.tar/a", "s.tar/l", "s.tar/d/b"]
    assert scored(samples) == [(b"abc", None)] * 2


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["n" * 300, "d/" * 80 + "n", "grüße-日本", "e\u0301", "\u00e9"])
def test_names_are_read_however_they_are_stored(tmp_path, kind, name):
    [sample] = read(tmp_path, tar([(f"{name}.jpg", b"1")], format=kind))
    assert (sample.sample_id, sample.image) == (f"s.tar/{name}", b"1")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_no_utf8_are_shown_with_escapes_and_stay_apart(tmp_path, kind):
    names = ["caf\udce9", "caf\udce8", "caf\\xe9", "caf@0"]
    data = tar(
        [(f"{name}.jpg", b"%d" % i) for i, name in enumerate(names)],
        format=kind, encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip
    samples = read(tmp_path, data)
    assert [s.sample_id for s in samples] == [
        "s.tar/caf\\xe9", "s.tar/caf\\xe8", "s.tar/caf\\x5cxe9", "s.tar/caf@0",
    ]  # fmt: skip
    assert len(scored(samples)) == 4


def test_what_the_reader_names_is_no_name_of_the_data(tmp_path):
    data = tar(
        [("a.jpg", b"1"), (f"a{MADE}1024.jpg", b"2"), (f"{MADE}0.jpg", b"3"), ("a.jpg", b"")]
    )
    samples = read(tmp_path, data[:-20000] if len(data) > 20000 else data)
    assert len({s.sample_id for s in samples}) == 4
    assert [MADE in s.sample_id for s in samples] == [False, False, False, True]
    assert samples[3].sample_id == f"s.tar/a{MADE}3072"


def test_reasons_can_be_stored_and_shown(tmp_path):
    """Whatever a member is called."""
    odd = "\x1b[31m\udce9" + "n" * 5000
    data = tar([(f"{odd}.{odd}", b"1"), (f"b.{odd}.png", b"1"), (f"b.2{odd}.png", b"1")])
    for sample in read(tmp_path, data + header(f"c{odd[:40]}.jpg", 2**50)):
        sample.sample_id.encode()
        if sample.error:
            assert sample.error.encode().decode().isprintable()
            assert len(sample.error) < 500


def test_a_git_lfs_pointer_is_called_one(tmp_path):
    data = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    [sample] = read(tmp_path, data)
    assert sample.broken
    assert "git lfs pull" in sample.error
