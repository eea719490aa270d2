"""DecodeImages: a shard becomes chunks of crops. No model, no Ray."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256

import numpy as np

from dawin_ray.chunks import Chunk, Reject, chunk_name
from dawin_ray.classes import DatasetClasses
from dawin_ray.datasets import Shard
from dawin_ray.images import ImageDecoder
from dawin_ray.models import Preprocessing
from dawin_ray.samples import Sample, read_samples


class DecodeImages:
    """Reads a shard and yields its samples as chunks of crops, in order.

    `image` decodes one image; whoever wants that done elsewhere puts another in its place.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        chunk_size: int,
        classes: Mapping[str, DatasetClasses],
    ):
        """`classes` are those of each data set, for the check of labels."""
        self.preprocessing = preprocessing
        self.chunk_size = chunk_size
        self.classes = classes
        self.image = ImageDecoder(preprocessing)

    def __call__(self, shard: Shard, skipped: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a shard but those whose names are skipped."""

        def wanted(ordinal: int) -> bool:
            start = ordinal - ordinal % self.chunk_size
            return not skipped or chunk_name(shard, start) not in skipped

        pending, start, position = None, 0, 0
        for ordinal, sample in enumerate(read_samples(shard, wanted)):
            if ordinal == start + self.chunk_size:
                if pending is not None:
                    yield pending.chunk(position)
                    position = pending.position
                pending, start = None, ordinal
            if wanted(ordinal):
                if pending is None:
                    pending = _Pending(self, shard, start)
                pending.add(sample)
        if pending is not None:
            yield pending.chunk(position)


class _Pending:
    """A chunk that is being filled: crops only, so that one encoded image is held at a time."""

    def __init__(self, decode: DecodeImages, shard: Shard, start: int):
        self.decode, self.shard, self.start = decode, shard, start
        height, width = decode.preprocessing.size
        self.images = np.empty((decode.chunk_size, height, width, 3), dtype=np.uint8)
        self.ids: list[str] = []
        self.labels: list[int | None] = []
        self.rejects: list[Reject] = []
        self.position = 0

    def add(self, sample: Sample) -> None:
        """One more sample: a crop, or a reject."""
        self.position = sample.position
        count = self.decode.classes[self.shard.dataset].count
        if sample.label is not None and not 0 <= sample.label < count:
            self._reject(sample, f"label {sample.label} is outside the classes 0..{count - 1}")
        elif sample.error is not None:
            self._reject(sample, sample.error)
        elif isinstance(crop := self.decode.image(sample.image, self.shard.crop_border), str):
            self._reject(sample, crop, sha256(sample.image).hexdigest())
        else:
            self.images[len(self.ids)] = crop
            self.ids.append(sample.sample_id)
            self.labels.append(sample.label)

    def _reject(self, sample: Sample, reason: str, digest: str | None = None) -> None:
        self.rejects.append(
            Reject(sample.sample_id, reason, sample.offset, digest, sample.broken, sample.lost)
        )

    def chunk(self, before: int) -> Chunk:
        """What was added; `before` is the position that the chunk begins at."""
        return Chunk(
            name=chunk_name(self.shard, self.start),
            dataset=self.shard.dataset,
            shard=self.shard.name,
            shard_key=self.shard.key,
            sample_ids=self.ids,
            labels=self.labels,
            images=self.images[: len(self.ids)],
            rejects=self.rejects,
            bytes=self.position - before,
        )
