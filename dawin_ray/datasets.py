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
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from dawin_ray.errors import UserError
from dawin_ray.settings import Settings
from dawin_ray.storage import filesystem, is_local, join, unreadable

logger = logging.getLogger(__name__)

Format = Literal["folder", "webdataset", "parquet"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# Images of a folder that one reading task takes. Fixed, because chunk names depend on it; small
# enough that a few thousand images keep several cores busy.
FOLDER_SHARD_IMAGES = 512


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
    versions: tuple[str, ...] = ()  # folder: of its images
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
        images = tuple(tuple(image) for image in values["images"])
        return cls(**values | {"images": images, "versions": tuple(values["versions"])})

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Bytes and version of each of its files: its one, or its images. By name."""
        if self.format != "folder":
            return {self.name: (self.bytes, self.version)}
        return {
            name: (size, version)
            for (name, size, _), version in zip(self.images, self.versions, strict=True)
        }

    def without(self, names: Collection[str]) -> Shard | None:
        """What is left of it without some of its files; None where that is nothing."""
        if self.format != "folder":
            return None if self.name in names else self
        kept = [i for i, (name, _, _) in enumerate(self.images) if name not in names]
        if not kept:
            return None
        images = tuple(self.images[i] for i in kept)
        versions = tuple(self.versions[i] for i in kept)
        return dataclasses.replace(
            self,
            images=images,
            versions=versions,
            bytes=sum(size for _, size, _ in images),
            version=_digest(versions),
        )


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a data set: shards for tars and Parquet, images for a folder."""

    format: Format
    root: str
    files: tuple[tuple[str, int], ...]  # (name relative to root, bytes), sorted
    versions: tuple[str, ...]  # of each file: its etag, or the time of its last change
    folders: tuple[str, ...] = ()  # folder: the class folders, empty ones too, sorted
    class_names: str | None = None  # address of classnames.txt, where the set brings one
    names: tuple[str, ...] | None = None  # of the classes, as the data's ClassLabel has them
    templates: str | None = None  # address of zeroshot_classification_templates.txt

    def only(self, folders: Collection[str]) -> Listing:
        """The same without files of other class folders."""
        kept = self.where(lambda name, size, version: name.split("/")[0] in folders)
        return dataclasses.replace(
            kept, folders=tuple(folder for folder in self.folders if folder in folders)
        )

    def where(self, wanted: Callable[[str, int, str], bool]) -> Listing:
        """The same with some of its files: those of a name, bytes and version that is `wanted`."""
        kept = [
            i for i, (name, size) in enumerate(self.files) if wanted(name, size, self.versions[i])
        ]
        return dataclasses.replace(
            self,
            files=tuple(self.files[i] for i in kept),
            versions=tuple(self.versions[i] for i in kept),
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that was found, and all that its shards are made of."""

    config: DatasetConfig
    listing: Listing
    labels: Mapping[str, int] | None  # of its class folders

    def shards(self, wanted: Callable[[str, int, str], bool] | None = None) -> tuple[Shard, ...]:
        """Its shards, or those of the files that are `wanted` (see `Listing.where`)."""
        listing = self.listing if wanted is None else self.listing.where(wanted)
        return tuple(make_shards(self.config, listing, self.labels))


def list_files(config: DatasetConfig, *, may_be_empty: bool = False) -> Listing:
    """Find a data set's files and format.

    A folder that `may_be_empty` is there, but has no files of the format that `config` gives.

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
    if chosen is None or not (kinds[chosen] or may_be_empty):
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
            + (" Where it may be empty, say its format." if may_be_empty else "")
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
    config: DatasetConfig, listing: Listing, labels: Mapping[str, int] | None = None
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
                version=_digest(listing.versions[rows]),
                key=f"images-{start:09d}",
                images=images,
                versions=listing.versions[rows],
                crop_border=config.crop_border,
            )
        )
    return shards


def _digest(versions: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(versions).encode()).hexdigest()


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
