"""Reading the samples of a shard, in their order, whatever is broken in it.

A sample that cannot be read has its reason; a shard that breaks keeps what lies before the break.
What fails is told apart: content makes rejects, storage stops the run.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dawin_ray.datasets import Shard
from dawin_ray.lfs import LFS_POINTER, lfs_pointer
from dawin_ray.names import MADE, shown
from dawin_ray.parquet_files import ParquetFileError
from dawin_ray.parquet_rows import ImageRows
from dawin_ray.storage import filesystem, is_local, join, open_stream, unreadable
from dawin_ray.tars import CONTENT_ERRORS, END, BrokenTarError, Member, Tar, is_compressed, quoted
from dawin_ray.versions import check_unchanged
from dawin_ray.webdataset import Group, key_of

# Larger members are rejected unread: data are not trusted to be what a header says of them.
MAX_MEMBER_BYTES = 256 << 20
MAX_LABEL_BYTES = 1024
MAX_JSON_BYTES = 1 << 20  # of a member that may hold a label; larger ones are not looked into
HEAD_BYTES = 64  # of a file, which tell what it is
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as it lies in its shard: encoded bytes, or the reason why there are none."""

    sample_id: str
    image: bytes | None
    label: int | None = None
    error: str | None = None
    position: int  # bytes of the shard read so far: for progress only
    offset: int | None = None  # of the sample in its shard, in bytes; for a tar only
    broken: bool = False  # an error that stands for a shard, or what is left of one
    lost: int | None = None  # of a broken shard: samples, counted or estimated


def count_samples(shard: Shard, told: Callable[[Sample], None] = lambda _: None) -> int | None:
    """Samples of a shard where its headers tell; None for a tar that is not on this machine.

    `told` gets each sample that headers alone show to be of no use, and what a break stands for.
    """
    if shard.format == "folder":
        return len(shard.images)
    if shard.format == "parquet":
        with open_stream(shard.address, "shard") as stream:
            try:
                return ImageRows(stream, shard, MAX_MEMBER_BYTES).count
            except ParquetFileError as failure:
                told(_broken_file(shard, 0, failure.rows, str(failure)))
                return failure.rows
    if not is_local(filesystem(shard.address)[0]):
        return None
    with open_stream(shard.address, "shard") as stream:
        if is_compressed(stream.read(HEAD_BYTES)):
            return None
    count: int | None = 0
    for sample in _TarSamples(shard, lambda _: False, headers_only=True):
        if sample.error:
            told(sample)
        count = None if sample.broken else count + 1
    return count


def read_samples(shard: Shard, wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Sample]:
    """The samples of a shard in their order.

    `wanted` tells for a sample's ordinal in the shard whether its image will be used; the others
    are named, but not read where that saves work. A sample that cannot be read has an `error`; a
    shard that breaks keeps the samples before the break and ends with one such sample.

    Raises:
        UserError: a file is not what was listed, or the storage fails.
    """
    check_unchanged(shard)
    readers = {"folder": _read_folder, "webdataset": _TarSamples, "parquet": _read_parquet}
    return iter(readers[shard.format](shard, wanted))


def _read_folder(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
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
    if size <= MAX_MEMBER_BYTES:
        return None
    return f"it has {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read"


def _is_of_one_image(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in OF_ONE_IMAGE
    return isinstance(error, KINDS_OF_ONE_IMAGE)


class _TarSamples:
    """The samples of one tar, once."""

    def __init__(self, shard: Shard, wanted: Callable[[int], bool], *, headers_only: bool = False):
        """`headers_only` leaps over the data of an uncompressed tar on this machine."""
        self.shard, self.wanted, self.headers_only = shard, wanted, headers_only
        self.tar: Tar | None = None
        self.group: Group | None = None
        self.seen: set[str] = set()  # keys
        self.samples = self.groups = self.labelled = 0
        # Zeros that look like the end of an archive may be a label that was overwritten: a sample
        # beside them is not scored without one where all before it have theirs.
        self.behind_zeros = False

    def __iter__(self) -> Iterator[Sample]:
        """The samples up to the end, or to the break and what stands for the rest."""
        with open_stream(self.shard.address, "shard") as stream:
            try:
                self.tar = Tar(stream, self.shard.bytes if self.headers_only else None)
                for member in self.tar:
                    yield from self._take(member)
                if self.group is not None:
                    yield from self._finish()
            except BrokenTarError as broken:
                reason, cut = str(broken), broken.cut
            except CONTENT_ERRORS as error:
                reason, cut = f"{type(error).__name__}: {error}", isinstance(error, EOFError)
            else:
                return
            yield from self._broken(reason, cut)

    def _take(self, member: Member) -> Iterator[Sample]:
        parts = None if member.is_folder else key_of(member.name)
        group = self.group
        if group is not None and member.zeros:
            yield from self._finish(before_zeros=member.zeros)
            self.behind_zeros = member.zeros == END
        if parts is None:
            return
        key, extension = parts
        if self.group is not None and key != self.group.key:
            yield from self._finish()
        if self.group is None:
            self.group = Group(key, member.offset, self.shard)
        kind, fault = self.group.kind_of(extension), member.fault
        limit = MAX_LABEL_BYTES if kind == "label" else MAX_MEMBER_BYTES
        if fault is None and member.size > limit:
            name = quoted(member.name)
            fault = f"its member {name} has {member.size:,} bytes; at most {limit:,} are read"
        # read what is not wanted too: the stream passes it anyway, and a break is noticed
        used = (
            kind == "label"
            or (kind == "json" and member.size <= MAX_JSON_BYTES)
            or (kind == "image" and self.wanted(self.samples))
        )
        unread = self.headers_only or fault or not used
        self.group.add(extension, fault, self.tar.drop() if unread else self.tar.read())

    def _finish(self, before_zeros: int = 0) -> Iterator[Sample]:
        group, self.group = self.group, None
        again, lacks = group.key in self.seen, False
        if not group.has_label and (before_zeros or self.behind_zeros):
            all_have = self.labelled == self.groups > 0
            lacks = all_have or (not self.groups and before_zeros == END)
        self.behind_zeros = False
        self.seen.add(group.key)
        self.groups, self.labelled = self.groups + 1, self.labelled + group.has_label
        for key, image, label, error in group.samples():
            name = f"{shown(self.shard.name)}/{shown(key)}"
            if again:
                name = f"{name}{MADE}{group.offset}"
                error = "its key occurs before in the same shard"
            elif lacks and error is None:
                error = "it has no label, and zeros stand where that may have been"
            self.samples += 1
            yield Sample(
                sample_id=name,
                image=None if error else image,
                label=label,
                error=error,
                position=min(self.tar.file_bytes, self.shard.bytes),
                offset=group.offset,
            )

    def _broken(self, reason: str, cut: bool) -> Iterator[Sample]:
        """What is complete of the sample at the break, and what stands for the rest."""
        group = self.group
        if group is not None:
            unlabelled = self.groups > 0 and not self.labelled  # so none need come
            if group.has_image and (group.has_label or unlabelled):
                yield from self._finish()
            elif group.size:
                reason += f"; {quoted(group.key)} is not scored, as a part of it may be missing"
        whole = self.tar.whole if self.tar else 0
        lost = None
        if self.samples and not cut:
            read = max(1, self.tar.file_bytes)
            if (left := self.shard.bytes - read) > 0:
                lost = max(1, round(left * self.samples / read))
        yield Sample(
            sample_id=f"{shown(self.shard.name)}/{MADE}{whole}",
            image=None,
            error=f"the shard breaks after byte {whole}: {reason}",
            position=self.shard.bytes,
            offset=whole,
            broken=True,
            lost=lost,
        )


def _read_parquet(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
    name, rows, ordinal = shown(shard.name), None, 0
    with open_stream(shard.address, "shard") as stream:
        try:
            rows = ImageRows(stream, shard, MAX_MEMBER_BYTES)
            for image, label, error in rows.read(wanted):
                ordinal += 1
                yield Sample(
                    sample_id=f"{name}/{ordinal - 1}",
                    image=image,
                    label=label,
                    error=error,
                    position=min(shard.bytes, shard.bytes * ordinal // max(rows.count, 1)),
                )
        except ParquetFileError as failure:
            lost = failure.rows if rows is None else max(0, rows.count - ordinal)
            where = "" if rows is None else f"the file breaks after row {ordinal} of {rows.count}: "
            yield _broken_file(shard, ordinal, lost, f"{where}{failure}")
        except OSError as error:  # of the disk: Arrow's own became ParquetFileError
            raise unreadable(shard.address, "shard", error) from error


def _broken_file(shard: Shard, row: int, lost: int | None, reason: str) -> Sample:
    """What stands for the rows of a Parquet file from one on."""
    return Sample(
        sample_id=f"{shown(shard.name)}/{MADE}{row}",
        image=None,
        error=reason,
        position=shard.bytes,
        broken=True,
        lost=lost,
    )
