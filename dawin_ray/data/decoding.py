"""DecodeImages: a shard becomes chunks of crops. No model, no Ray."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256

import numpy as np

from dawin_ray.attempts import (
    DEATHS_BEFORE_ISOLATION,
    MOST_DEATHS_READING,
    UNCOUNTED,
    Tries,
    nth,
)
from dawin_ray.data.chunks import Chunk, Reject, chunk_name
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.datasets import Sample, Shard
from dawin_ray.data.images import ImageDecoder
from dawin_ray.data.isolated import OwnProcess
from dawin_ray.data.reading import Reading
from dawin_ray.data.shard_index import Indexes
from dawin_ray.data.slices import Slice
from dawin_ray.errors import UserError
from dawin_ray.models import Preprocessing
from dawin_ray.names import shown

# An image's bytes and border to its crop, or to the reason why there is none.
Decoder = Callable[[bytes, int], "np.ndarray | str"]


class DecodeImages:
    """Reads a shard and yields its samples as chunks of crops, in order.

    `image` decodes one image; whoever wants that done elsewhere puts another in its place.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        chunk_size: int,
        classes: Mapping[str, DatasetClasses],
        indexes: Indexes | None = None,
    ):
        """`classes` are those of each data set, for the check of labels.

        With `indexes`, slices of large shards begin where they lie; without, their readers come by
        all that is before them.
        """
        self.preprocessing = preprocessing
        self.chunk_size = chunk_size
        self.classes = classes
        self.indexes = indexes
        self.image = ImageDecoder(preprocessing)
        self.tries = UNCOUNTED

    def __call__(self, shard: Shard, skipped: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a shard but those whose names are skipped."""
        return self.of(Slice(shard=shard), skipped)

    def of(self, part: Slice, skipped: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a slice but those whose names are skipped; the same as of its whole shard.

        Raises:
            UserError: the shard's index is not that of its file, so that a slice does not end where
                the next one begins.
        """
        shard, size = part.shard, self.chunk_size

        def wanted(chunk: int) -> bool:
            return part.holds(chunk) and (
                not skipped or chunk_name(shard, chunk * size) not in skipped
            )

        reading = Reading(part, size, wanted, self.indexes)
        position = reading.position
        for ordinal in itertools.count(reading.first):
            if reading.is_over:
                return
            begin, made, began = ordinal * size, None, time.perf_counter()
            name = f"{shard.dataset}/{chunk_name(shard, begin)}"
            # a try is all that is done for a chunk, as any of it may end the process
            with (
                self.tries.of("read", name) as deaths,
                self._decoder(deaths, shard, begin) as image,
            ):
                pending = _Pending(self, shard, begin, image) if wanted(ordinal) else None
                for sample in reading.chunk(ordinal):
                    if pending is not None:
                        pending.add(sample)
                if pending is not None and pending.count:
                    made = pending.chunk(position, time.perf_counter() - began)
                    position = pending.position
            if made is not None:
                yield made

    def counted(self, tries: Tries) -> DecodeImages:
        """The same with its tries counted, so that what kills its process is not tried for ever."""
        counted = copy.copy(self)
        counted.tries = tries
        return counted

    def alone(self) -> DecodeImages:
        """The same with each image decoded in a process of its own, as one is known to be fatal."""

        def call(*_: object) -> int:
            return DEATHS_BEFORE_ISOLATION

        return self.counted(Tries(call, call))

    def _decoder(self, deaths: int, shard: Shard, start: int) -> AbstractContextManager[Decoder]:
        """What decodes a chunk's images: this process, or one that may die of one of them.

        Raises:
            UserError: even that did not help.
        """
        if not deaths:
            return nullcontext(self.image)
        where = (
            f"samples {start:,} to {start + self.chunk_size - 1:,} of shard '{shown(shard.name)}' "
            f"of data set '{shard.dataset}'"
        )
        if deaths >= MOST_DEATHS_READING:
            raise UserError(
                f"{deaths} worker processes died one after the other while they read {where}, the "
                "last ones though each image was decoded in a process of its own. As a rule the "
                f"machine runs out of memory: lower compute.chunk_size (now {self.chunk_size}), or "
                "give it more. If it does not, the file breaks what reads it: mend "
                f"{shown(shard.address)}, or take it out of the data set."
            )
        alone, again = deaths >= DEATHS_BEFORE_ISOLATION, "it is read again"
        self.tries.tell(
            f"a reader died ({nth(deaths)} time) at {where}: "
            + ("its images are tried one by one in a process of their own" if alone else again),
            again="reading",
        )
        return OwnProcess(self.image) if alone else nullcontext(self.image)


class _Pending:
    """A chunk that is being filled: crops only, so that one encoded image is held at a time."""

    def __init__(self, decode: DecodeImages, shard: Shard, start: int, image: Decoder):
        self.decode, self.shard, self.start, self.image = decode, shard, start, image
        height, width = decode.preprocessing.size
        self.images = np.empty((decode.chunk_size, height, width, 3), dtype=np.uint8)
        self.ids: list[str] = []
        self.labels: list[int | None] = []
        self.rejects: list[Reject] = []
        self.position = 0
        self.decode_seconds = 0.0

    @property
    def count(self) -> int:
        """Samples that were added."""
        return len(self.ids) + len(self.rejects)

    def add(self, sample: Sample) -> None:
        """One more sample: a crop, or a reject."""
        self.position = sample.position
        count = self.decode.classes[self.shard.dataset].count
        if sample.label is not None and not 0 <= sample.label < count:
            self._reject(sample, f"label {sample.label} is outside the classes 0..{count - 1}")
        elif sample.error is not None:
            self._reject(sample, sample.error)
        else:
            assert sample.image is not None, "a sample without an error has an image"
            began = time.perf_counter()
            crop = self.image(sample.image, self.shard.crop_border)
            self.decode_seconds += time.perf_counter() - began
            if isinstance(crop, str):
                self._reject(sample, crop, sha256(sample.image).hexdigest())
                return
            self.images[len(self.ids)] = crop
            self.ids.append(sample.sample_id)
            self.labels.append(sample.label)

    def _reject(self, sample: Sample, reason: str, digest: str | None = None) -> None:
        self.rejects.append(
            Reject(sample.sample_id, reason, sample.offset, digest, sample.broken, sample.lost)
        )

    def chunk(self, before: int, seconds: float) -> Chunk:
        """What was added in so many seconds; `before` is the position that the chunk begins at."""
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
            read_seconds=seconds - self.decode_seconds,
            decode_seconds=self.decode_seconds,
        )
