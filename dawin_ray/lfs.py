"""Git LFS pointers: the small text that stands in a file's place until it is fetched."""

from __future__ import annotations

_BEGINNING = b"version https://git-lfs.github.com/spec/"
LFS_POINTER = "it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`"


def lfs_pointer(first_bytes: bytes) -> bool:
    """Whether a file that begins so is a pointer; LFS_POINTER is what to say of it."""
    return first_bytes.startswith(_BEGINNING)
