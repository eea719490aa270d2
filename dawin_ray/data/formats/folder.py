"""TODO: data.formats.folder (of samples)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence

from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.formats import limits
from dawin_ray.names import shown
from dawin_ray.storage import LFS_POINTER, filesystem, join, lfs_pointer, unreadable

FOLDER_READ_AHEAD = 64  # images that are read at once

FOLDER_READ_AHEAD_BYTES = 64 << 20  # of them together, as far as more than one

# Faults of one image's name or permission; any other one is the disk's or the storage's. By number,
# and by kind where a storage's client gives none.
OF_ONE_IMAGE = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
)  # fmt: skip

KINDS_OF_ONE_IMAGE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

UNREADABLE = "cannot be read"  # begins the reason of an image whose file could not be opened

FolderImage = tuple[str, int, int | None]  # name, bytes, label


def read_folder(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
    """The images of a shard of a folder, many at once."""
    fs, root = filesystem(shard.address)
    position = 0
    for group in _groups(shard.images):
        ordinals = [
            ordinal for ordinal, (_, size, _) in group if wanted(ordinal) and not _too_large(size)
        ]
        paths = [join(root, shard.images[ordinal][0]) for ordinal in ordinals]
        # many at once where the storage is far away; no `cat`, which takes `[` for a pattern
        whole = [None] * len(paths)
        found = fs.cat_ranges(paths, whole, whole, on_error="return") if paths else []
        read = dict(zip(ordinals, found, strict=True))
        for ordinal, (name, size, label) in group:
            image, error, content = None, _too_large(size), read.get(ordinal)
            if isinstance(content, bytes):
                image = None if (error := _too_large(len(content))) else content
                if lfs_pointer(content):
                    image, error = None, LFS_POINTER
            elif content is not None:
                # one image that is gone is a reject; a storage that fails is the run's business
                if not _is_of_one_image(content):
                    raise unreadable(join(shard.address, name), "image", content)
                error = f"{UNREADABLE}: {type(content).__name__}: {content}"
            position += size
            yield Sample(
                sample_id=shown(name), image=image, label=label, error=error, position=position
            )


def _groups(images: Sequence[FolderImage]) -> Iterator[list[tuple[int, FolderImage]]]:
    """Images that are read at once, with their ordinals: bounded in number and in bytes."""
    group: list[tuple[int, FolderImage]] = []
    size = 0
    for ordinal, image in enumerate(images):
        if group and (len(group) == FOLDER_READ_AHEAD or size + image[1] > FOLDER_READ_AHEAD_BYTES):
            yield group
            group, size = [], 0
        group.append((ordinal, image))
        size += image[1]
    if group:
        yield group


def _too_large(size: int) -> str | None:
    if size <= limits.MAX_MEMBER_BYTES:
        return None
    return f"it has {size:,} bytes; at most {limits.MAX_MEMBER_BYTES:,} are read"


def _is_of_one_image(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in OF_ONE_IMAGE
    return isinstance(error, KINDS_OF_ONE_IMAGE)
