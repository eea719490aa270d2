"""DecodeImages: a shard becomes chunks of crops. No model, no Ray."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256

import numpy as np
from PIL import Image

from dawin_ray.chunks import Chunk, Reject, chunk_name
from dawin_ray.classes import DatasetClasses
from dawin_ray.datasets import Shard
from dawin_ray.errors import StageError
from dawin_ray.models import Preprocessing
from dawin_ray.samples import read_samples

# What Pillow's decoders raise on damaged data. Anything else is a fault of ours and ends the run.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


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

    def __call__(self, shard: Shard, skipped: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a shard but those whose names are skipped."""

        def wanted(ordinal: int) -> bool:
            start = ordinal - ordinal % self.chunk_size
            return not skipped or chunk_name(shard, start) not in skipped

        samples, start, position = [], 0, 0
        for ordinal, sample in enumerate(read_samples(shard, wanted)):
            if ordinal == start + self.chunk_size:
                if samples:
                    yield self._decode(shard, start, samples, position)
                    position = samples[-1].position
                samples, start = [], ordinal
            if wanted(ordinal):
                samples.append(sample)
        if samples:
            yield self._decode(shard, start, samples, position)

    def _decode(self, shard: Shard, start: int, samples: list, before: int) -> Chunk:
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
                of = (sample.broken, sample.lost)
                rejects.append(Reject(sample.sample_id, sample.error, sample.offset, None, *of))
                continue
            try:
                with Image.open(io.BytesIO(sample.image)) as image:
                    crop = self.crop(_without_border(image, shard.crop_border))
            except DECODE_ERRORS as error:
                reason = f"cannot be decoded: {type(error).__name__}: {error}"
                # PIL puts the address of its buffer into the message; no two runs would agree
                reason, digest = reason.split(" <_io.")[0], sha256(sample.image).hexdigest()
                rejects.append(Reject(sample.sample_id, reason, sample.offset, digest))
                continue
            except Exception as error:
                raise StageError(
                    f"decoding of sample '{sample.sample_id}' of data set '{shard.dataset}', shard "
                    f"{shard.name}: {type(error).__name__}: {error}"
                ) from error
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
