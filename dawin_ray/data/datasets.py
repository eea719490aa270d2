"""What is known of a data set's files, its shards and its samples, before and while it is read.

A *shard* is one tar, one Parquet file, or a fixed range of a folder's sorted images. A sample's
name depends on where it lies and nothing else: `class/image.jpg`, `shard.tar/key`,
`file.parquet/row`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dawin_ray.data.files import Files, FolderImage, Images
from dawin_ray.data.labels import Labelling
from dawin_ray.data.texts import Texts
from dawin_ray.names import shown
from dawin_ray.records import digest, digest_of_texts

Beside = tuple[str, int, str]  # a file that is read with another one: address, bytes, version


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a data set: shards for tars and Parquet, images for a folder."""

    format: str  # a name of `formats.registry.FORMATS`
    root: str
    files: Files  # raw names relative to root, sorted
    beside: Mapping[str, Beside] = field(default_factory=dict)  # by name: a file's labels
    labels: tuple[int | None, ...] | None = None  # of each image, where annotations tell them
    folders: tuple[str, ...] = ()  # folder: the class folders, empty ones too, sorted
    class_names: str | None = None  # address of classnames.txt, where the set brings one
    templates: str | None = None  # address of zeroshot_classification_templates.txt
    names: tuple[str, ...] | None = None  # of the classes, as the data's ClassLabel has them
    names_from: str = ""  # where they stand, for messages
    labelling: Labelling | None = None  # of Parquet files, and of Hive folders
    notes: tuple[str, ...] = ()  # for a person: what is left out, missing or guessed

    @property
    def versions(self) -> Texts:
        """Of each file: see `versions`."""
        return self.files.versions

    def only(self, folders: Collection[str]) -> Listing:
        """The same without files of other class folders."""
        inside = {shown(folder) for folder in folders}
        kept = self.where(lambda name, size, version: name.split("/")[0] in inside)
        return dataclasses.replace(
            kept, folders=tuple(folder for folder in self.folders if folder in folders)
        )

    def where(self, wanted: Callable[[str, int, str], bool]) -> Listing:
        """The same with some of its files: those of a name, bytes and version that is `wanted`.

        Names are as `shown`, as in `Shard.files`.
        """
        return self.take(
            array(
                "q",
                (
                    place
                    for place, (name, size, version) in enumerate(self.files.rows())
                    if wanted(shown(name), size, version)
                ),
            )
        )

    def take(self, places: array[int]) -> Listing:
        """The same with its files at these places."""
        return dataclasses.replace(
            self,
            files=self.files.take(places),
            labels=self.labels and tuple(self.labels[place] for place in places),
        )

    def identity(self) -> str:
        """A hash of what the data are: names, bytes, versions, and the labels beside them."""

        def parts() -> Iterator[str]:
            yield from map(json.dumps, self.files)
            yield from self.files.versions
            for name in sorted(self.beside):
                yield json.dumps([name, *self.beside[name][1:]])
            if self.labels is not None:
                yield json.dumps(self.labels)

        return digest_of_texts(parts())

    @property
    def empty_folders(self) -> frozenset[str]:
        """Class folders without an image."""
        return frozenset(self.folders) - {name.split("/", 1)[0] for name in self.files.names}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One unit of reading; cheap to send to a worker."""

    dataset: str
    name: str  # raw, relative to the data set
    address: str  # of the tar or Parquet file; of the folder for a folder's range
    format: str  # a name of `formats.registry.FORMATS`
    bytes: int
    version: str = ""  # of its file, or a digest of its images' versions; "" is not checked
    key: str  # safe in a file name, unique in the data set; begins the names of its chunks
    images: Sequence[FolderImage] = ()  # folder: (raw name, bytes, label)
    versions: Sequence[str] = ()  # folder: of its images
    beside: Beside | None = None  # the file of its labels, where that is another one
    image_column: str | None = None
    label_column: str | None = None  # NO_LABELS: labels are not read
    label: int | None = None  # of all samples that have none of their own, as of `label=3/`
    label_names: tuple[str, ...] = ()  # of the classes, where labels are written as names
    crop_border: int = 0

    def to_json(self) -> str:
        """As text, for the way to a worker; `from_json` is its inverse."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({**fields, "images": [*self.images], "versions": [*self.versions]})

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """The shard that `to_json` wrote."""
        values = json.loads(text)
        values["images"] = Images.of(values["images"])
        values["versions"] = Texts.of(values.get("versions", ()))
        values["label_names"] = tuple(values.get("label_names", ()))
        if values.get("beside") is not None:
            values["beside"] = tuple(values["beside"])
        return cls(**values)

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Bytes and version of each of its files: its one, or its images. By name, as shown."""
        if not self.images:
            return {shown(self.name): (self.bytes, self.version)}
        return {
            shown(name): (size, version)
            for (name, size, _), version in zip(self.images, self.versions, strict=True)
        }

    def without(self, names: Collection[str]) -> Shard | None:
        """What is left of it without some of its files, by name; None where that is nothing."""
        if not self.images:
            return None if shown(self.name) in names else self
        kept = [i for i, (name, _, _) in enumerate(self.images) if shown(name) not in names]
        return self.take(kept) if kept else None

    def take(self, ordinals: Sequence[int]) -> Shard:
        """Of a folder's shard, that of some of its images alone, by their ordinals."""
        images = Images.of(self.images).take(ordinals)
        versions = Texts.of(self.versions).take(np.array(ordinals))
        return dataclasses.replace(
            self,
            images=images,
            versions=versions,
            bytes=sum(size for _, size, _ in images),
            version=digest([*versions]),
        )


class Start(NamedTuple):
    """Where the reading of a shard can be taken up, and goes on as if it had come there."""

    samples: int  # that come before what is read from there
    place: tuple[int, ...]  # as the format has it


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
    start: Start | None = None  # the last one before it; None where the shard is read in one go


KEY_STEM = 40  # characters of a shard's name that its key begins with, for people


def file_key(name: str) -> str:
    """A key of a raw name: its end, for people, and the whole hash, which no two names share."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name.rsplit(".", 1)[0]).strip("-")[-KEY_STEM:]
    raw = name.encode("utf-8", "surrogateescape" if _is_bytes(name) else "surrogatepass")
    return f"{stem}-{hashlib.sha256(raw).hexdigest()}"


def _is_bytes(name: str) -> bool:
    """Whether its lone surrogates, if any, are the bytes that Python escaped."""
    return not any("\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff" for c in name)
