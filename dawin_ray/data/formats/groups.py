"""Samples out of tar members, as WebDataset names them: `key.extension`, one key after the other.

A key ends at the first dot of a name. The image is the member with an image's extension
(`jpg`), else the only one whose extension ends with one (`input.jpg`); the label likewise, with
`cls`, or where there is none a key of the `.json` member. `image_column` and `label_column` name
the extension where there are several. Two images under one key, or an image and a label whose names
show that they are of two samples, are never put together: such a sample has its reason instead.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence

from dawin_ray.data.datasets import Shard
from dawin_ray.data.formats.format import labeller
from dawin_ray.data.formats.tars import MAX_QUOTED, BrokenTarError, quoted
from dawin_ray.data.images import IMAGE_SUFFIXES
from dawin_ray.data.labels import NO_LABELS, label_of_json
from dawin_ray.names import escaped, shown

IMAGE_MEMBERS = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)

LABEL_MEMBER, JSON_MEMBER = "cls", "json"

REMEDY_IMAGE = (
    "a key ends at the first dot of a name, so rename the members, or name the extension of the "
    "image with datasets[].image_column"
)

REMEDY_LABEL = "name the extension of the label with datasets[].label_column"

MAX_MEMBERS = 10_000  # under one key; their names are held until the key is complete


def key_of(name: str) -> tuple[str, str] | None:
    """(key, extension) of a member's name; None where it has no stem or no extension."""
    folder, file = posixpath.split(name.removeprefix("./"))
    stem, dot, extension = file.partition(".")
    if not stem or not dot:
        return None
    return posixpath.join(folder, stem), extension.lower()


class Group:
    """The members of one key. Of the images, at most one is held: that which may be used."""

    def __init__(self, key: str, offset: int, shard: Shard):
        """`shard` says which extensions the job names, and what a written label means."""
        self.key, self.offset = key, offset
        image, label = shard.image_column, shard.label_column
        self._named_image = image.lower() if image else None
        self._named_label, self._asked = label.lower() if label else None, label
        self._label_of = labeller(shard)
        self._json_label: int | float | str | None = None
        self._jsons = 0
        self._images: dict[str, list[str | None]] = {}  # extension -> the fault of each member
        self._labels: dict[str, list[str | None]] = {}
        self._others: set[str] = set()
        self._texts: dict[str, bytes | None] = {}  # of labels, where they were read
        self._image: bytes | None = None
        self.size = 0  # members

    def kind_of(self, extension: str) -> str | None:
        """Whether a member is an "image", a "label", a "json" that may hold one, or (None) none."""
        last = extension.rpartition(".")[2]
        if self._named_label is not None and extension == self._named_label:
            return "label"
        if extension == self._named_image or (self._named_image is None and last in IMAGE_MEMBERS):
            return "image"
        if self._named_label is None and last == LABEL_MEMBER:
            return "label"
        return "json" if extension == JSON_MEMBER and self._asked != NO_LABELS else None

    def add(self, extension: str, fault: str | None, data: bytes | None) -> None:
        """Take note of a member; `data` are those of a label, or of an image that is wanted.

        Raises:
            BrokenTarError: the key has more members than any sample.
        """
        self.size += 1
        if self.size > MAX_MEMBERS:
            raise BrokenTarError(
                f"more than {MAX_MEMBERS:,} members have the key {quoted(self.key)}"
            )
        kind = self.kind_of(extension)
        if kind is None or kind == "json":
            self._others.add(extension)
            self._jsons += kind == "json"
            if kind == "json" and data is not None:
                self._json_label = label_of_json(data, self._asked)
        elif kind == "label":
            self._labels.setdefault(extension, []).append(fault)
            self._texts[extension] = data
        else:
            before = self._only(self._images)
            self._images.setdefault(extension, []).append(fault)
            only = self._only(self._images)
            if only == extension and only != before:
                self._image = data
            elif only is None:
                self._image = None

    @property
    def has_image(self) -> bool:
        """Whether an image is there, of whatever kind."""
        return bool(self._images)

    @property
    def has_label(self) -> bool:
        """Whether a label is there."""
        return bool(self._labels) or self._json_label is not None

    def samples(self) -> Iterator[tuple[str, bytes | None, int | None, str | None]]:
        """(key, image, label, error): of one sample, and of each image that is lost beside it."""
        image = self._only(self._images)
        plain = [extension for extension in self._images if "." not in extension]
        if image is None and self._images and not plain:
            # a name with more dots, such as 22.05.png: each of them is a sample that is told
            for extension in self._images:
                yield f"{self.key}.{extension}", None, None, self._too_many("images", self._images)
            return
        error = self._image_error(image)
        label, label_error = self._label(image)
        error = label_error or error
        yield self.key, None if error else self._image, label, error
        for extension in self._images:
            # beside a.jpg, a.mask.png is something else of the sample, but a.02.jpg another image
            if image is not None and extension != image and _is_numbered(extension):
                yield (
                    f"{self.key}.{extension}", None, None,
                    f"it shares its key with {_listed([image])}: {REMEDY_IMAGE}",
                )  # fmt: skip

    def _image_error(self, image: str | None) -> str | None:
        if image is not None:
            faults = self._images[image]
            if len(faults) > 1:
                return self._again(image, len(faults))
            return faults[0]
        if self._images:
            return self._too_many("images", self._images)
        wanted = self._named_image or ", ".join(IMAGE_MEMBERS)
        return f"no image member ({wanted}) among {_listed(self._others | self._labels.keys())}"

    def _label(self, image: str | None) -> tuple[int | None, str | None]:
        if not self._labels:
            if self._jsons > 1 and self._json_label is not None:
                return None, self._again(JSON_MEMBER, self._jsons)
            return self._read_label(self._json_label)
        label = self._only(self._labels)
        if label is None:
            return None, self._too_many("labels", self._labels)
        faults = self._labels[label]
        if len(faults) > 1:
            return None, self._again(label, len(faults))
        if faults[0]:
            return None, faults[0]
        if image is not None and not _belong(image, label):
            return None, (
                f"its image and its label have names of two samples, {_listed([image, label])}: "
                "a key ends at the first dot of a name, so rename the members"
            )
        return self._read_label(self._texts[label])

    def _read_label(self, written: bytes | float | str | None) -> tuple[int | None, str | None]:
        try:
            return self._label_of(written), None
        except ValueError as error:
            return None, str(error)

    def _again(self, extension: str, times: int) -> str:
        return f"its member {quoted(f'{self.key}.{extension}')} is there {times} times"

    def _too_many(self, what: str, found: Collection[str]) -> str:
        plain = [extension for extension in found if "." not in extension]
        remedy = REMEDY_IMAGE if what == "images" else REMEDY_LABEL
        return f"{len(plain or found)} {what} under one key, {_listed(plain or found)}: {remedy}"

    @staticmethod
    def _only(found: Mapping[str, Sequence[str | None]]) -> str | None:
        """The extension that is used: the only plain one, or where there is none the only one."""
        plain = [extension for extension in found if "." not in extension]
        able = plain or list(found)
        return able[0] if len(able) == 1 else None


def _is_numbered(extension: str) -> bool:
    return any(character.isdigit() for character in _inner(extension))


def _inner(extension: str) -> str:
    """`05` of `05.png`: what stands between the key and the last dot."""
    return extension.rpartition(".")[0]


def _belong(image: str, label: str) -> bool:
    """Whether `input.jpg` and `output.cls` may be of one sample; `05.png` and `06.cls` are not."""
    return _inner(image) == _inner(label) or not (
        _inner(label) and (_is_numbered(image) or _is_numbered(label))
    )


def _listed(extensions: Collection[str]) -> str:
    text = ", ".join(map(escaped, sorted(extensions, key=shown)))
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
