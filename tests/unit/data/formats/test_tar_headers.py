"""What is read of a header at once is what tarfile reads of it."""

import tarfile
from collections.abc import Iterator

import numpy as np

from dawin_ray.data.formats.tar_headers import plain_file
from tests.conftest import make_images, write_tar

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)
KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)
BYTES = [0, 32, 45, 48, 55, 56, 95, 128, 255]  # in the place of others


def headers() -> Iterator[bytes]:
    """By several writers; and with bytes changed, as they are and with a checksum that fits."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "f\xfcr/\u732b.jpg", "x" * 100, "d/" * 60 + "long.png", "ends/"):
        for form, kind in ((form, kind) for form in FORMATS for kind in KINDS):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.type = 12_345, 1_700_000_000, kind
            block = info.tobuf(form, "utf-8", "surrogateescape")[-512:]
            yield block
            for _ in range(60):
                changed = bytearray(block)
                for at in rng.integers(0, 400, rng.integers(1, 4)):
                    changed[at] = rng.choice(BYTES)
                yield bytes(changed)
                changed[148:156] = b" " * 8
                changed[148:156] = b"%06o\0 " % sum(changed)
                yield bytes(changed)


def test_a_header_that_is_read_at_once_says_what_tarfile_reads():
    """And none that tarfile refuses, or takes for something else."""
    at_once = 0
    for block in headers():
        if (found := plain_file(block)) is not None:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            assert (header.name, header.size, header.isreg()) == (*found, True), block
            at_once += 1
    assert at_once > 300


def test_members_of_usual_writers_are_read_at_once(tmp_path):
    path = write_tar(tmp_path / "a.tar", make_images(2), [0, 1])
    assert plain_file(path.read_bytes()[:512]) is not None
    assert plain_file(path.read_bytes()[:511]) is None
