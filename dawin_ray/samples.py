"""Reading the samples of a shard, in their order, whatever is broken in it.

A sample that cannot be read has its reason; a shard that breaks keeps what lies before the break.
What fails is told apart: content makes rejects, storage stops the run.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from dawin_ray.datasets import IMAGE_SUFFIXES, Shard
from dawin_ray.errors import UserError
from dawin_ray.labels import kind_of, label_column, label_of_json, labeller
from dawin_ray.names import shown
from dawin_ray.shards import NO_LABELS
from dawin_ray.storage import filesystem, is_local, join, open_stream, unreadable
from dawin_ray.versions import check_unchanged

IMAGE_MEMBERS = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
IMAGE_COLUMNS = ("image", "img", *IMAGE_MEMBERS)
# What Arrow raises on damaged files: a length that was hit may ask for any memory, and so on.
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
# Larger members are rejected unread: data are not trusted to be what a header says of them.
MAX_MEMBER_BYTES = 256 << 20
MAX_LABEL_BYTES = 1024
MAX_JSON_BYTES = 1 << 20  # of a member that may hold a label; larger ones are not looked into
FOLDER_READ_AHEAD = 64  # images that are read at once
OF_ONE_IMAGE = (FileNotFoundError, PermissionError, IsADirectoryError)
PARQUET_READ_ROWS = 64  # rows decoded at a time: a few MB of encoded images


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


def count_samples(shard: Shard) -> int | None:
    """Samples of a shard where its headers tell; None for a tar that is not on this machine."""
    fs, path = filesystem(shard.address)
    if shard.format == "folder":
        return len(shard.images)
    if shard.format == "parquet":
        try:
            with fs.open(path, "rb") as stream:
                return pq.ParquetFile(stream).metadata.num_rows
        except PARQUET_ERRORS:
            return None  # reading it will say why
    if not is_local(fs) or not path.endswith(".tar"):
        return None
    keys = set()
    try:
        with tarfile.open(path) as tar:
            keys.update(key for member in tar if (key := _member_key(member)) is not None)
    except tarfile.TarError:
        return None  # reading it will say why
    return len({key for key, _ in keys})


def read_samples(shard: Shard, wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Sample]:
    """The samples of a shard in their order.

    `wanted` tells for a sample's ordinal in the shard whether its image will be used; the others
    are named, but not read where that saves work. A sample that cannot be read has an `error`; a
    shard that breaks keeps the samples before the break and ends with one such sample.

    Raises:
        UserError: a file is not what was listed, or the storage fails.
    """
    check_unchanged(shard)
    readers = {"folder": _read_folder, "webdataset": _read_tar, "parquet": _read_parquet}
    return readers[shard.format](shard, wanted)


def _read_folder(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
    fs, root = filesystem(shard.address)
    position = 0
    for start in range(0, len(shard.images), FOLDER_READ_AHEAD):
        group = list(enumerate(shard.images))[start : start + FOLDER_READ_AHEAD]
        ordinals = [ordinal for ordinal, _ in group if wanted(ordinal)]
        paths = [join(root, shard.images[ordinal][0]) for ordinal in ordinals]
        # many at once where the storage is far away; no `cat`, which takes `[` for a pattern
        whole = [None] * len(paths)
        found = fs.cat_ranges(paths, whole, whole, on_error="return") if paths else []
        read = dict(zip(ordinals, found, strict=True))
        for ordinal, (name, size, label) in group:
            image = error = None
            if isinstance(content := read.get(ordinal), bytes):
                image = content
            elif content is not None:
                # one image that is gone is a reject; a storage that fails is the run's business
                if not is_local(fs) and not isinstance(content, OF_ONE_IMAGE):
                    raise unreadable(join(shard.address, name), "image", content)
                error = f"cannot be read: {type(content).__name__}: {content}"
            position += size
            yield Sample(
                sample_id=shown(name), image=image, label=label, error=error, position=position
            )


class _StrictHeader(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """The next member's header."""
        try:
            return super().fromtarfile(tar)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error


def _read_tar(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
    ordinal, seen, key, members, position, offset = 0, set(), None, {}, 0, 0
    faults: list[str] = []  # of the members of the sample that is being read
    try:
        # "r|*": one pass over a stream, compressed or not, whatever the storage. A block of zeros
        # ends an archive; where it is damage, what follows must not be lost with it.
        with (
            open_stream(shard.address, "shard") as stream,
            tarfile.open(
                fileobj=stream, mode="r|*", tarinfo=_StrictHeader, ignore_zeros=True
            ) as tar,
        ):
            for member in tar:
                parts = _member_key(member)
                if parts is None:
                    continue
                if parts[0] != key and members:
                    yield _tar_sample(shard, key, members, faults, seen, position, offset)
                    ordinal, members = ordinal + 1, {}
                if not members:
                    offset, faults = member.offset, []
                key, extension = parts
                position = member.offset_data + member.size
                if fault := _member_fault(member):
                    faults.append(fault)
                    members[extension] = None
                    continue
                # read what is not wanted too: the stream passes it anyway, and a break is noticed
                data = tar.extractfile(member).read()
                small = extension in ("cls", "json") and member.size <= MAX_JSON_BYTES
                keep = small or (extension in IMAGE_MEMBERS and wanted(ordinal))
                members[extension] = data if keep else None
    except (tarfile.TarError, EOFError, OSError) as failure:
        if members:
            # its image may have been the one that broke off
            complete = any(e in members for e in IMAGE_MEMBERS)
            if complete:
                yield _tar_sample(shard, key, members, faults, seen, position, offset)
        yield Sample(
            sample_id=f"{shard.name}/@{position}",
            image=None,
            error=f"the shard breaks after byte {position}: {type(failure).__name__}: {failure}",
            position=shard.bytes,
            offset=position,
        )
        return
    if members:
        yield _tar_sample(shard, key, members, faults, seen, position, offset)


def _tar_sample(
    shard: Shard,
    key: str,
    members: dict[str, bytes | None],
    faults: list[str],
    seen: set[str],
    position: int,
    offset: int,
) -> Sample:
    image_member = next((e for e in IMAGE_MEMBERS if e in members), None)
    label, error = None, faults[0] if faults else None
    if error is None and image_member is None:
        error = f"no image member ({', '.join(IMAGE_MEMBERS)}) among {', '.join(sorted(members))}"
    text = members.get("cls")
    if text is None and members.get("json") and shard.label_column != NO_LABELS:
        text = label_of_json(members["json"])
    try:
        label = labeller(shard)(text)
    except ValueError as failure:
        error = str(failure)
    if key in seen:
        error = "its key occurs before in the same shard"
        key = f"{key}@{position}"
    seen.add(key)
    return Sample(
        sample_id=f"{shown(shard.name)}/{shown(key)}",
        image=None if error else members[image_member],
        label=label,
        error=error,
        position=position,
        offset=offset,
    )


def _read_parquet(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[Sample]:
    with open_stream(shard.address, "shard") as stream:
        try:
            file = pq.ParquetFile(stream)
            image_column, label_column = _parquet_columns(file.schema_arrow, shard)
        except (*PARQUET_ERRORS, UserError) as failure:
            known = isinstance(failure, UserError)
            yield Sample(
                sample_id=f"{shard.name}/@0",
                image=None,
                error=str(failure) if known else f"the file is no readable Parquet: {failure}",
                position=shard.bytes,
            )
            return
        columns = [image_column, *([label_column] if label_column else [])]
        rows, ordinal, label_of = file.metadata.num_rows, 0, labeller(shard)
        try:
            for batch in file.iter_batches(batch_size=PARQUET_READ_ROWS, columns=columns):
                images = batch.column(image_column)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                labels = batch.column(label_column) if label_column else [None] * len(batch)
                for image, label in zip(images, labels, strict=True):
                    data = image.as_py() if wanted(ordinal) else None
                    missing = wanted(ordinal) and data is None
                    error = "the row has no image bytes" if missing else None
                    try:
                        number = label_of(None if label is None else label.as_py())
                    except ValueError as failure:
                        number, error = None, str(failure)
                    ordinal += 1
                    yield Sample(
                        sample_id=f"{shown(shard.name)}/{ordinal - 1}",
                        image=None if error else data,
                        label=number,
                        error=error,
                        position=shard.bytes * ordinal // max(rows, 1),
                    )
        except PARQUET_ERRORS as failure:
            yield Sample(
                sample_id=f"{shard.name}/@{ordinal}",
                image=None,
                error=f"the file breaks after row {ordinal} of {rows}: {failure}",
                position=shard.bytes,
            )


def _parquet_columns(schema: pa.Schema, shard: Shard) -> tuple[str, str | None]:
    def is_image(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    able = [field.name for field in schema if is_image(field.type)]
    named = [shard.image_column] if shard.image_column else [c for c in IMAGE_COLUMNS if c in able]
    image = named[0] if named else (able[0] if len(able) == 1 else None)
    if image not in able:
        raise UserError(
            f"{shard.address!r} has no column of encoded images"
            + (f" named {shard.image_column!r}" if shard.image_column else "")
            + f": its columns are {', '.join(schema.names)}. Expected a struct {{bytes, path}} or "
            "a binary column; name it with datasets[].image_column."
        )
    kinds = {field.name: kind_of(field.type) for field in schema}
    label = label_column(kinds, shard.label_column)
    if label is None:
        return image, None
    kind = kinds.get(label, "missing")
    if kind in ("integer", "float") or (kind == "text" and shard.label_names):
        return image, label
    found = schema.field(label).type if label in schema.names else "missing"
    raise UserError(
        f"The label column {label!r} of {shard.address!r} is {found}; expected integers. Name "
        "another with datasets[].label_column."
    )


def _member_fault(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read: it is no file, or larger than any image or label."""
    if not member.isfile():
        return f"its member {member.name!r} is a link or a device, not a file"
    limit = MAX_LABEL_BYTES if member.name.lower().endswith(".cls") else MAX_MEMBER_BYTES
    if member.size > limit:
        return f"its member {member.name!r} has {member.size:,} bytes; at most {limit:,} are read"
    return None


def _member_key(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """(key, extension) of a tar member as WebDataset splits it: at the first dot of its name."""
    folder, name = posixpath.split(member.name.removeprefix("./"))
    stem, dot, extension = name.partition(".")
    if member.isdir() or not stem or not dot:
        return None
    return posixpath.join(folder, stem), extension.lower()
