"""A Git LFS pointer is known by its first line."""

import pytest

from dawin_ray.storage.files import lfs_pointer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


@pytest.mark.parametrize("first", [POINTER, POINTER.replace(b"v1", b"v2"), POINTER[:64]])
def test_a_pointer_is_one_whatever_its_version(first):
    assert lfs_pointer(first)


@pytest.mark.parametrize("first", [b"", b"version", b"\xff\xd8\xff", b"PAR1", b" " + POINTER])
def test_what_begins_otherwise_is_none(first):
    assert not lfs_pointer(first)
