"""Shards: what one task reads, and which files it consists of.

A file's name comes from a file system or a listing and may hold bytes that are no UTF-8. The raw
name opens the file; what is stored or shown of it is as `names.shown` writes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from dawin_ray.names import shown

Format = Literal["folder", "webdataset", "parquet"]

NO_LABELS = "none"  # as a label column: the labels are not read
KEY_STEM = 40  # characters of a shard's name that its key begins with, for people


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One unit of reading; cheap to send to a worker."""

    dataset: str
    name: str  # raw, relative to the data set
    address: str  # of the tar or Parquet file; of the folder for a folder's range
    format: Format
    bytes: int
    version: str = ""  # of its file, or a digest of its images' versions; "" is not checked
    key: str  # safe in a file name, unique in the data set; begins the names of its chunks
    images: tuple[tuple[str, int, int | None], ...] = ()  # folder: (raw name, bytes, label)
    versions: tuple[str, ...] = ()  # folder: of its images
    image_column: str | None = None
    label_column: str | None = None  # NO_LABELS: labels are not read
    label: int | None = None  # of all samples that have none of their own, as of `label=3/`
    label_names: tuple[str, ...] = ()  # of the classes, where labels are written as names
    crop_border: int = 0

    def to_json(self) -> str:
        """As text, for the way to a worker; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """The shard that `to_json` wrote."""
        values = json.loads(text)
        values["images"] = tuple(tuple(image) for image in values["images"])
        for field in ("versions", "label_names"):
            values[field] = tuple(values.get(field, ()))
        return cls(**values)

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Bytes and version of each of its files: its one, or its images. By name, as shown."""
        if self.format != "folder":
            return {shown(self.name): (self.bytes, self.version)}
        return {
            shown(name): (size, version)
            for (name, size, _), version in zip(self.images, self.versions, strict=True)
        }

    def without(self, names: Collection[str]) -> Shard | None:
        """What is left of it without some of its files, by name; None where that is nothing."""
        if self.format != "folder":
            return None if shown(self.name) in names else self
        kept = [i for i, (name, _, _) in enumerate(self.images) if shown(name) not in names]
        if not kept:
            return None
        images = tuple(self.images[i] for i in kept)
        versions = tuple(self.versions[i] for i in kept)
        return dataclasses.replace(
            self,
            images=images,
            versions=versions,
            bytes=sum(size for _, size, _ in images),
            version=digest_of(versions),
        )


def digest_of(versions: tuple[str, ...]) -> str:
    """One version for many."""
    return hashlib.sha256(json.dumps(versions).encode()).hexdigest()


def file_key(name: str) -> str:
    """A key of a raw name: its end, for people, and the whole hash, which no two names share."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name.rsplit(".", 1)[0]).strip("-")[-KEY_STEM:]
    raw = name.encode("utf-8", "surrogateescape" if _is_bytes(name) else "surrogatepass")
    return f"{stem}-{hashlib.sha256(raw).hexdigest()}"


def _is_bytes(name: str) -> bool:
    """Whether its lone surrogates, if any, are the bytes that Python escaped."""
    return not any("\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff" for c in name)
