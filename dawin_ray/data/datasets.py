"""What a job file says of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from dawin_ray.names import shown
from dawin_ray.settings import Settings

# What readers of Hive partitions (pandas, polars, DuckDB) take for something else than text.
NO_TEXT = re.compile(
    r"[^A-Za-z]*|\d[\d._]*e[+-]?\d+|inf(inity)?|nan|true|false|null|none|na|nil|"
    r"0x[0-9a-f]+|0b[01]+|0o[0-7]+|\d{4}-?\d\d-?\d\dt[\d.]*z?",
    re.IGNORECASE,
)


class DatasetConfig(Settings):
    """Where a data set is and which of the head's classes it has.

    `class_names` and `templates` are for a zero-shot head of the data set's own; without them the
    model's head serves all data sets. `image_column` and `label_column` name columns of Parquet, or
    extensions of a tar's members, such as `input.jpg` (a label also a key of `.json`);
    `label_column: none` reads no labels. `skip_other_folders` leaves out class folders that are
    named by none of `classes`; `crop_border` pixels are cut from each side before anything else.
    Both are for ObjectNet.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The outputs lie in folders dataset=NAME."""
    path: str
    """Its folder, tar or Parquet file, at any fsspec address."""
    format: Format | None = None
    """Null: as the files' suffixes say."""
    classes: str | None = None
    """Null: the head's; else imagenet-a, imagenet-r, a text file with an index or a name a line, or
    a JSON file of groups."""
    class_names: str | None = None
    templates: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    skip_other_folders: bool = False
    crop_border: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if NO_TEXT.fullmatch(name):
            raise ValueError(
                f"'{name}' would come back from dataset={name}/ as a number, a date or nothing, as "
                f"pandas, polars and DuckDB read such folders. Give a name with letters, like "
                f"'set-{name}'"
            )
        return name


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
