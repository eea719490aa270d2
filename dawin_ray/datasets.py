"""What a data set is: where its shards are, how its samples are named and read.

Three formats, local or at any fsspec address; labels are optional in all of them:

    folder      <path>/<class>/<image>; images without a class folder have no label
    webdataset  tars of consecutive members key.jpg|jpeg|png|webp, key.cls; the layout of the
                clip-benchmark data sets (nshards.txt, classnames.txt) is understood
    parquet     an `image` struct {bytes, path} as Hugging Face writes it, or a binary column

A *shard* is one tar, one Parquet file, or a fixed range of a folder's sorted images. A sample's
name depends on where it lies and nothing else: `class/image.jpg`, `shard.tar/key`,
`file.parquet/row`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import posixpath
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from dawin_ray.errors import UserError
from dawin_ray.settings import Settings
from dawin_ray.storage import filesystem, is_local, join, open_stream, unreadable

logger = logging.getLogger(__name__)

Format = Literal["folder", "webdataset", "parquet"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
IMAGE_MEMBERS = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
IMAGE_COLUMNS = ("image", "img", *IMAGE_MEMBERS)
LABEL_COLUMNS = ("label", "labels", "cls")
# Images of a folder that one reading task takes. Fixed, because chunk names depend on it; small
# enough that a few thousand images keep several cores busy.
FOLDER_SHARD_IMAGES = 512
# What Arrow raises on damaged files: a length that was hit may ask for any memory, and so on.
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
# Larger members are rejected unread: data are not trusted to be what a header says of them.
MAX_MEMBER_BYTES = 256 << 20
MAX_LABEL_BYTES = 1024
FOLDER_READ_AHEAD = 64  # images that are read at once
OF_ONE_IMAGE = (FileNotFoundError, PermissionError, IsADirectoryError)
PARQUET_READ_ROWS = 64  # rows decoded at a time: a few MB of encoded images


class DatasetConfig(Settings):
    """Where a data set is and which of the head's classes it has.

    `class_names` and `templates` are for a zero-shot head of the data set's own; without them the
    model's head serves all data sets. `skip_other_folders` leaves out class folders that are named
    by none of `classes`; `crop_border` pixels are cut from each side before anything else. Both are
    for ObjectNet.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    path: str
    format: Format | None = None
    classes: str | None = None
    class_names: str | None = None
    templates: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    skip_other_folders: bool = False
    crop_border: int = Field(default=0, ge=0)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One unit of reading; cheap to send to a worker."""

    dataset: str
    name: str  # relative to the data set
    address: str  # of the tar or Parquet file; of the folder for a folder's range
    format: Format
    bytes: int
    version: str = ""  # of its file, or a digest of its images' versions
    key: str  # safe in a file name, unique in the data set; begins the names of its chunks
    images: tuple[tuple[str, int, int | None], ...] = ()  # folder: (name, bytes, label)
    image_column: str | None = None
    label_column: str | None = None
    crop_border: int = 0

    def to_json(self) -> str:
        """As text, for the way to a worker; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """The shard that `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"images": tuple(tuple(image) for image in values["images"])})


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a data set: shards for tars and Parquet, images for a folder."""

    format: Format
    root: str
    files: tuple[tuple[str, int], ...]  # (name relative to root, bytes), sorted
    versions: tuple[str, ...]  # of each file: its etag, or the time of its last change
    folders: tuple[str, ...] = ()  # folder: the class folders, empty ones too, sorted
    class_names: str | None = None  # address of classnames.txt, where the set brings one
    templates: str | None = None  # address of zeroshot_classification_templates.txt

    def only(self, folders: Collection[str]) -> Listing:
        """The same without files of other class folders."""
        kept = [i for i, (name, _) in enumerate(self.files) if name.split("/")[0] in folders]
        return dataclasses.replace(
            self,
            files=tuple(self.files[i] for i in kept),
            versions=tuple(self.versions[i] for i in kept),
            folders=tuple(folder for folder in self.folders if folder in folders),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as it lies in its shard: encoded bytes, or the reason why there are none."""

    sample_id: str
    image: bytes | None
    label: int | None = None
    error: str | None = None
    position: int  # bytes of the shard read so far: for progress only
    offset: int | None = None  # of the sample in its shard, in bytes; for a tar only


def list_files(config: DatasetConfig) -> Listing:
    """Find a data set's files and format.

    Raises:
        UserError: nothing is there, it cannot be read, or the format cannot be told.
    """
    fs, path = filesystem(config.path, f"data set '{config.name}'")
    try:
        if "*" in path or "?" in path:
            root = posixpath.dirname(path[: re.search(r"[*?\[]", path).start()])
            found = {name: fs.info(name) for name in fs.glob(path)}
        elif fs.isdir(path):
            root, found = path, fs.find(path, detail=True)
        else:
            root, found = posixpath.dirname(path), {path: fs.info(path)}
    except UserError:
        raise
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(config.path, f"data set '{config.name}'", error) from error

    files, versions = [], {}
    for where, info in found.items():
        name = posixpath.relpath(where, root)
        if info.get("type") != "directory" and not any(p.startswith(".") for p in name.split("/")):
            files.append((name, int(info.get("size") or 0)))
            versions[name] = _version(info)
    files.sort()
    kinds: dict[Format, list] = {
        "webdataset": [f for f in files if f[0].lower().endswith(TAR_SUFFIXES)],
        "parquet": [f for f in files if f[0].lower().endswith(".parquet")],
        "folder": [f for f in files if f[0].lower().endswith(IMAGE_SUFFIXES)],
    }
    present = [kind for kind, members in kinds.items() if members]
    chosen = config.format or (present[0] if len(present) == 1 else None)
    if chosen is None and present:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} holds files of several formats "
            f"({', '.join(present)}). Say which it is: format: {present[0]}."
        )
    if chosen is None or not kinds[chosen]:
        expected = {
            "folder": f"images ({', '.join(IMAGE_SUFFIXES)})",
            "webdataset": "tar shards (.tar)",
            "parquet": "Parquet files (.parquet)",
        }
        wanted = expected[chosen] if chosen else "no " + ", no ".join(expected.values())
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} is empty: "
            f"{'no ' + wanted if chosen else wanted} among its {len(files)} files. "
            "Check the path and the format."
        )
    side_files = _side_files(fs, root, files, config) if chosen == "webdataset" else {}
    if "nshards.txt" in side_files:
        _check_shard_count(fs.cat_file(side_files["nshards.txt"]), len(kinds[chosen]), config)
    return Listing(
        format=chosen,
        root=fs.unstrip_protocol(root) if not is_local(fs) else root,
        files=tuple(kinds[chosen]),
        versions=tuple(versions[name] for name, _ in kinds[chosen]),
        folders=_class_folders(fs, root, kinds[chosen]) if chosen == "folder" else (),
        class_names=_address(fs, side_files.get("classnames.txt")),
        templates=_address(fs, side_files.get("zeroshot_classification_templates.txt")),
    )


def _version(info: dict) -> str:
    """A file's etag, or the time of its last change, as its storage tells it."""
    return str(info.get("ETag") or info.get("mtime") or info.get("LastModified") or "").strip('"')


def make_shards(
    config: DatasetConfig, listing: Listing, labels: dict[str, int] | None = None
) -> list[Shard]:
    """The shards of a data set in a fixed order; `labels` are those of its class folders."""
    if listing.format != "folder":
        return [
            Shard(
                dataset=config.name,
                name=name,
                address=join(listing.root, name),
                format=listing.format,
                bytes=size,
                version=version,
                key=_file_key(name),
                image_column=config.image_column,
                label_column=config.label_column,
                crop_border=config.crop_border,
            )
            for (name, size), version in zip(listing.files, listing.versions, strict=True)
        ]
    shards = []
    for start in range(0, len(listing.files), FOLDER_SHARD_IMAGES):
        rows = slice(start, start + FOLDER_SHARD_IMAGES)
        images = tuple(
            (name, size, (labels or {}).get(name.split("/")[0]) if "/" in name else None)
            for name, size in listing.files[rows]
        )
        shards.append(
            Shard(
                dataset=config.name,
                name=f"images {start}..{start + len(images) - 1}",
                address=listing.root,
                format="folder",
                bytes=sum(size for _, size, _ in images),
                version=hashlib.sha256(json.dumps(listing.versions[rows]).encode()).hexdigest(),
                key=f"images-{start:09d}",
                images=images,
                crop_border=config.crop_border,
            )
        )
    return shards


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
    """
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
            yield Sample(sample_id=name, image=image, label=label, error=error, position=position)


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
                keep = extension == "cls" or (extension in IMAGE_MEMBERS and wanted(ordinal))
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
    if (text := members.get("cls")) is not None:
        try:
            label = int(text)
        except ValueError:
            error = f"the label {text[:40]!r} is no integer"
    if key in seen:
        error = "its key occurs before in the same shard"
        key = f"{key}@{position}"
    seen.add(key)
    return Sample(
        sample_id=f"{shard.name}/{key}",
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
        rows, ordinal = file.metadata.num_rows, 0
        try:
            for batch in file.iter_batches(batch_size=PARQUET_READ_ROWS, columns=columns):
                images = batch.column(image_column)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                labels = batch.column(label_column) if label_column else [None] * len(batch)
                for image, label in zip(images, labels, strict=True):
                    data = image.as_py() if wanted(ordinal) else None
                    missing = wanted(ordinal) and data is None
                    ordinal += 1
                    yield Sample(
                        sample_id=f"{shard.name}/{ordinal - 1}",
                        image=data,
                        label=label.as_py() if label is not None else None,
                        error="the row has no image bytes" if missing else None,
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
    label = shard.label_column or next((c for c in LABEL_COLUMNS if c in schema.names), None)
    if label is None:
        return image, None
    if label not in schema.names or not pa.types.is_integer(schema.field(label).type):
        found = schema.field(label).type if label in schema.names else "missing"
        raise UserError(
            f"The label column {label!r} of {shard.address!r} is {found}; expected integers. Name "
            "another with datasets[].label_column."
        )
    return image, label


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


def _file_key(name: str) -> str:
    """A readable, unique key of a shard's name."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name.rsplit(".", 1)[0]).strip("-")[-60:]
    return f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _side_files(fs, root: str, files: list[tuple[str, int]], config: DatasetConfig) -> dict:
    """Paths of the text files that clip-benchmark keeps beside the shards or above the split."""
    names = ("classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt")
    parent = posixpath.dirname(root)
    found = {n: join(parent, n) for n in names[:2] if fs.exists(join(parent, n))}
    for file, _ in files:
        name = posixpath.basename(file)
        if name == "nshards.txt" and name in found:
            raise UserError(
                f"Data set '{config.name}' at {config.path!r} holds several splits. Point its path "
                f"at one of them, like {posixpath.dirname(join(config.path, file))!r}."
            )
        if name in names:
            found[name] = join(root, file)
    return found


def _class_folders(fs, root: str, files: list[tuple[str, int]]) -> tuple[str, ...]:
    """All folders in the root: an empty class must not shift the labels after it."""
    listed = {
        posixpath.basename(entry["name"].rstrip("/"))
        for entry in fs.ls(root, detail=True)
        if entry["type"] == "directory"
    }
    used = {name.split("/")[0] for name, _ in files if "/" in name}
    return tuple(sorted({name for name in listed if not name.startswith(".")} | used))


def _address(fs, path: str | None) -> str | None:
    return path if path is None or is_local(fs) else fs.unstrip_protocol(path)


def _check_shard_count(text: bytes, found: int, config: DatasetConfig) -> None:
    try:
        expected = int(text)
    except ValueError as error:
        raise UserError(
            f"The nshards.txt of data set '{config.name}' at {config.path!r} is no number: "
            f"{text[:40]!r}. Correct it, or remove it."
        ) from error
    if found != expected:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} has {found} tar shards, but its "
            f"nshards.txt says {expected}. Copy the missing ones, or correct nshards.txt."
        )
