"""Images in class folders: `<path>/<class>/<image>`; those without a class folder have no label.

A shard is a fixed range of the sorted images, which are read many at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray.data.datasets import Listing, Sample, Shard
from dawin_ray.data.files import FolderImage, Images, labels_of
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.format import Format, Reading
from dawin_ray.data.images import IMAGE_SUFFIXES
from dawin_ray.data.labels import NO_LABELS
from dawin_ray.data.versions import check_read
from dawin_ray.names import shown
from dawin_ray.records import digest
from dawin_ray.storage import LFS_POINTER, filesystem, join, lfs_pointer, unreadable

# Images that one reading task takes. Fixed, because chunk names depend on it; small enough that a
# few thousand images keep several cores busy.
FOLDER_SHARD_IMAGES = 512

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
        check_read(shard, {i: content for i, content in read.items() if isinstance(content, bytes)})
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


def shards_of_images(listing: Listing, reading: Reading) -> list[Shard]:
    """Shards of so many images each."""
    unread = reading.label_column == NO_LABELS
    labels = {} if unread else reading.folder_labels or {}
    told = None if unread else listing.labels
    shards = []
    for start in range(0, len(listing.files), FOLDER_SHARD_IMAGES):
        rows = slice(start, start + FOLDER_SHARD_IMAGES)
        files = listing.files[rows]
        if told is not None:
            of_images: Iterable[int | None] = told[rows]
        else:
            of_images = (
                labels.get(name.split("/", 1)[0]) if "/" in name else None for name in files.names
            )
        shards.append(
            Shard(
                dataset=reading.dataset,
                name=f"images {start}..{start + len(files) - 1}",
                address=listing.root,
                format=listing.format,
                bytes=int(files.sizes.sum()),
                version=digest([*files.versions]),
                key=f"images-{start:09d}",
                images=Images(files.names, files.sizes, labels_of(of_images)),
                versions=files.versions,
                crop_border=reading.crop_border,
            )
        )
    return shards


def rows_of_images(sample_ids: pa.ChunkedArray, files: Collection[str]) -> pa.Array:
    """Which samples are some files."""
    return pc.is_in(sample_ids, value_set=pa.array(sorted(files), pa.string()))


COMMON = 4  # suffixes that a message has first

FOLDER = Format(
    suffixes=IMAGE_SUFFIXES,
    files=f"images ({', '.join(IMAGE_SUFFIXES[:COMMON])})",
    hint=f"Images may also be {', '.join(IMAGE_SUFFIXES[COMMON:])}.",
    read=read_folder,
    count=lambda shard, told: len(shard.images),
    of_images=True,
    labels=lambda found, names, asked: None,  # of its folders; see `sources`
    shards=shards_of_images,
    rows=rows_of_images,
)
