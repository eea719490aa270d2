"""Crops on their way to the device, in batches of about one size.

Shapes: n samples of a chunk, B batch, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from dawin_ray.models import Preprocessing


class PixelFeed:
    """Crops to normalised pixels on the device; there the next batch is copied meanwhile."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype):
        """`dtype` is the towers'; pixels are normalised in float32 first.

        `reached` is called behind each batch, with the images that are done and all of them.
        """
        self.preprocessing, self.device, self.dtype = preprocessing, device, dtype
        self.reached: Callable[[int, int], None] = lambda done, total: None
        self.copies: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.copies = torch.cuda.Stream(device)

    def __call__(
        self, images_nHW3: np.ndarray, batches: Sequence[slice | np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Pixels [B, 3, H, W] of each batch of rows of the crops uint8 [n, H, W, 3]."""
        done = 0
        for pixels in self._pixels(images_nHW3, batches):
            yield pixels
            done += len(pixels)
            self.reached(done, len(images_nHW3))

    def _pixels(
        self, images_nHW3: np.ndarray, batches: Sequence[slice | np.ndarray]
    ) -> Iterator[torch.Tensor]:
        ahead = None
        for rows in batches:
            # a copy: crops come from shared, read-only memory, and torch wants to own what it reads
            crops = torch.tensor(images_nHW3[rows])
            following = self._begin_copy(crops)
            if ahead is not None:
                yield self._finish(*ahead)
            ahead = following
        if ahead is not None:
            yield self._finish(*ahead)

    def _begin_copy(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        if self.copies is None:
            return crops, None
        with torch.cuda.stream(self.copies):
            copied = crops.pin_memory().to(self.device, non_blocking=True)
            return copied, self.copies.record_event()

    def _finish(self, crops: torch.Tensor, copied: torch.cuda.Event | None) -> torch.Tensor:
        if copied is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            crops.record_stream(stream)  # its memory is not given away before this stream is done
        return self.preprocessing.normalise(crops).to(self.dtype)


def equal_parts(count: int, batch_size: int) -> list[np.ndarray]:
    """Rows 0..count - 1 in the fewest batches of at most `batch_size`, all of about one size.

    So no forward is much smaller than the others, and which samples share one depends on the chunk
    alone: a chunk that is scored again gives the same bits.
    """
    if not count:
        return []
    return np.array_split(np.arange(count), math.ceil(count / batch_size))
