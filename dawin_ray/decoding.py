"""DecodeImages: a shard becomes chunks of crops. No model, no Ray."""

from __future__ import annotations

import copy
import io
import itertools
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Protocol

import numpy as np
from PIL import Image

from dawin_ray.attempts import (
    DEATHS_BEFORE_ISOLATION,
    MOST_DEATHS_READING,
    UNCOUNTED,
    Tries,
    nth,
)
from dawin_ray.chunks import Chunk, Reject, chunk_name
from dawin_ray.classes import DatasetClasses
from dawin_ray.datasets import Shard
from dawin_ray.errors import StageError, UserError
from dawin_ray.isolated import OwnProcess
from dawin_ray.models import Preprocessing
from dawin_ray.names import shown
from dawin_ray.samples import read_samples

# What Pillow's decoders raise on damaged data. Anything else is a fault of ours and ends the run.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class Decoder(Protocol):
    """What turns an image into its crop, in this process or in another."""

    def crop_or_reason(self, encoded: bytes, border: int) -> np.ndarray | str:
        """See `DecodeImages.crop_or_reason`."""


class DecodeImages:
    """Reads a shard and yields its samples as chunks of crops, in order."""

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
        self.crop = preprocessing.crop()
        self.tries = UNCOUNTED

    def __call__(self, shard: Shard, skipped: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a shard but those whose names are skipped."""

        def wanted(ordinal: int) -> bool:
            start = ordinal - ordinal % self.chunk_size
            return not skipped or chunk_name(shard, start) not in skipped

        samples, position = enumerate(read_samples(shard, wanted)), 0
        for start in itertools.count(0, self.chunk_size):
            chunk, name = None, chunk_name(shard, start)
            with self.tries.of("read", f"{shard.dataset}/{name}") as deaths:
                if deaths:
                    self._tell(deaths, shard, start)
                taken = [sample for _, sample in itertools.islice(samples, self.chunk_size)]
                if taken and wanted(start):
                    with self._decoder(deaths) as decoder:
                        chunk = self._decode(shard, start, taken, position, decoder)
                    position = taken[-1].position
            if chunk is not None:
                yield chunk
            if len(taken) < self.chunk_size:
                return

    def counted(self, tries: Tries) -> DecodeImages:
        """The same with its tries counted, so that what kills its process is tried no more."""
        counted = copy.copy(self)
        counted.tries = tries
        return counted

    @property
    def crop_shape(self) -> tuple[int, int, int]:
        """H, W and 3."""
        return (*self.preprocessing.size, 3)

    def crop_or_reason(self, encoded: bytes, border: int) -> np.ndarray | str:
        """The crop of an encoded image, uint8 [H, W, 3], or the reason why there is none."""
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                return self.crop(_without_border(image, border))
        except DECODE_ERRORS as error:
            # PIL puts the address of its buffer into the message; no two runs would agree
            return f"cannot be decoded: {type(error).__name__}: {error}".split(" <_io.")[0]

    def _decoder(self, deaths: int) -> AbstractContextManager[Decoder]:
        """What decodes the images of a chunk: this process, or one that may die of one of them."""
        if deaths < DEATHS_BEFORE_ISOLATION:
            return nullcontext(self)
        return OwnProcess(self.counted(UNCOUNTED), self.tries.dumps)

    def _tell(self, deaths: int, shard: Shard, start: int) -> None:
        """Says that readers died at a chunk.

        Raises:
            UserError: too often.
        """
        where = (
            f"chunk {chunk_name(shard, start)} (from sample {start:,} on) of shard "
            f"'{shown(shard.name)}' of data set '{shard.dataset}'"
        )
        if deaths >= MOST_DEATHS_READING:
            raise UserError(
                f"{deaths} worker processes died one after the other while they read {where}, the "
                "last ones though each image was decoded in a process of its own. As a rule the "
                f"machine runs out of memory: lower compute.chunk_size ({self.chunk_size}), or "
                "give it more. If it does not, the file breaks what reads it: mend "
                f"{shown(shard.address)}, or take it out of the data set."
            )
        self.tries.tell(
            f"a reader died ({nth(deaths)} time) at {where}: "
            + (
                "it is read again"
                if deaths < DEATHS_BEFORE_ISOLATION
                else "its images are decoded one by one in a process of their own"
            )
        )

    def _decode(
        self, shard: Shard, start: int, samples: list, before: int, decoder: Decoder
    ) -> Chunk:
        height, width = self.preprocessing.size
        images = np.empty((len(samples), height, width, 3), dtype=np.uint8)
        ids, labels, rejects = [], [], []
        for sample in samples:
            count = self.classes[shard.dataset].count
            if sample.label is not None and not 0 <= sample.label < count:
                reason = f"label {sample.label} is outside the classes 0..{count - 1}"
                rejects.append(Reject(sample.sample_id, reason, sample.offset))
                continue
            if sample.error is not None:
                rejects.append(Reject(sample.sample_id, sample.error, sample.offset))
                continue
            try:
                crop = decoder.crop_or_reason(sample.image, shard.crop_border)
            except Exception as error:
                raise StageError(
                    f"decoding of sample '{sample.sample_id}' of data set '{shard.dataset}', shard "
                    f"{shard.name}: {type(error).__name__}: {error}"
                ) from error
            if isinstance(crop, str):
                digest = sha256(sample.image).hexdigest()
                rejects.append(Reject(sample.sample_id, crop, sample.offset, digest))
                continue
            images[len(ids)] = crop
            ids.append(sample.sample_id)
            labels.append(sample.label)
        return Chunk(
            name=chunk_name(shard, start),
            dataset=shard.dataset,
            shard=shard.name,
            shard_key=shard.key,
            sample_ids=ids,
            labels=labels,
            images=images[: len(ids)],
            rejects=rejects,
            bytes=samples[-1].position - before,
        )


def _without_border(image: Image.Image, border: int) -> Image.Image:
    """The image without `border` pixels on each side.

    Raises:
        ValueError: nothing would be left.
    """
    if not border:
        return image
    width, height = image.size
    if min(width, height) <= 2 * border:
        raise ValueError(f"{width} x {height} pixels leave nothing within a border of {border}")
    return image.crop((border, border, width - border, height - border))
