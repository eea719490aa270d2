"""The images themselves, read from their shards by sample id: nothing is copied.

What goes to the browser was decoded here and encoded again: a JPEG or PNG of pixels, whatever the
file was. One of a few kinds: a thumbnail, the whole image, or the crop that the model saw.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from dawin_ray.data import (
    FORMATS,
    ImageDecoder,
    NoSuchSampleError,
    Sample,
    SamplesById,
    open_image,
    without_border,
)
from dawin_ray.errors import UserError
from dawin_ray.view.opened import OpenedRun

Kind = Literal["thumb", "whole", "crop"]

SIDES: dict[Kind, int] = {"thumb": 128, "whole": 1024}  # pixels, at most; a crop has its own

QUALITY = 85  # of JPEG

CACHE_BYTES = 64 << 20  # of encoded images


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image for the browser, its content and type."""

    content: bytes
    type: str


class Images:
    """The images of a run's data sets. May be asked by several threads."""

    def __init__(self, run: OpenedRun):
        """Reads nothing yet."""
        self.run, self.decode = run, ImageDecoder(run.preprocessing)
        self._samples: dict[str, SamplesById] = {}
        self._inputs: dict[str, dict[str, tuple[int, str]]] = {}
        self._cache: OrderedDict[tuple[str, str, Kind], Picture] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def picture(self, dataset: str, sample_id: str, kind: Kind) -> Picture:
        """A sample's image.

        Raises:
            UserError: there is none, or no longer the one that was scored.
        """
        key = (dataset, sample_id, kind)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        sample = self.sample(dataset, sample_id)
        if sample.image is None:
            raise UserError(f"The sample has no image: {sample.error}")
        config = self.run.config(dataset)
        border = config.crop_border if config else 0
        if kind == "crop":
            picture = self._crop(sample.image, border)
        else:
            picture = _smaller(sample.image, border, SIDES[kind])
        self._keep(key, picture)
        return picture

    def sample(self, dataset: str, sample_id: str) -> Sample:
        """A sample as it lies in its shard. Raises as `picture`."""
        samples = self._of(dataset)
        try:
            self._check(dataset, samples, sample_id)
            return samples.read(sample_id)
        except NoSuchSampleError as error:
            raise UserError(
                "The data have no sample of this id any more: their files were moved or changed "
                "since they were scored."
            ) from error

    def samples(self, dataset: str, sample_ids: Iterable[str]) -> Iterator[Sample]:
        """Those of some ids that are there, shard by shard. Raises as `picture`."""
        samples = self._of(dataset)

        def unchanged() -> Iterator[str]:
            for sample_id in sample_ids:
                try:
                    self._check(dataset, samples, sample_id)
                except NoSuchSampleError:
                    continue
                yield sample_id

        yield from samples.read_many(unchanged())

    def _of(self, dataset: str) -> SamplesById:
        if self.run.config(dataset) is None:
            raise UserError("There is no such data set.")
        shards = self.run.shards(dataset)
        with self._lock:
            if dataset not in self._samples:
                self._samples[dataset] = SamplesById(shards)
                self._inputs[dataset] = self.run.inputs(dataset)
            return self._samples[dataset]

    def _check(self, dataset: str, samples: SamplesById, sample_id: str) -> None:
        """Refuse a shard that is another one by now; a batch's ranges of images are its own."""
        shard = samples.shard_of(sample_id)
        if self.run.grows and FORMATS[shard.format].of_images:
            return
        then = self._inputs[dataset].get(shard.name)
        if then is not None and then != (shard.bytes, shard.version):
            raise UserError("Its file has changed since it was scored.")

    def _crop(self, encoded: bytes, border: int) -> Picture:
        crop = self.decode(encoded, border)
        if isinstance(crop, str):
            raise UserError(f"The image {crop}")
        return _encoded(Image.fromarray(crop), "PNG")

    def _keep(self, key: tuple[str, str, Kind], picture: Picture) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = picture
                self._cached += len(picture.content)
            while self._cached > CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1].content)


def _smaller(encoded: bytes, border: int, side: int) -> Picture:
    try:
        with open_image(encoded) as image:
            small = without_border(image.convert("RGB"), border)
            small.thumbnail((side, side))
    except Exception as error:  # decoders raise anything at damaged data
        raise UserError(f"The image cannot be decoded: {type(error).__name__}") from error
    return _encoded(small, "JPEG", quality=QUALITY)


def _encoded(image: Image.Image, kind: str, **options: int) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return Picture(content=buffer.getvalue(), type=f"image/{kind.lower()}")
