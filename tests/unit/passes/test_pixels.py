"""Crops on their way to the device."""

import numpy as np
import torch

from dawin_ray.models import Preprocessing
from dawin_ray.passes import PixelFeed, equal_parts


def test_pixels_come_by_batches_and_it_is_said_how_far():
    preprocessing = Preprocessing.of({"size": (4, 4)})
    crops = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    feed, told = PixelFeed(preprocessing, torch.device("cpu"), torch.float32), []
    feed.reached = lambda done, total: told.append((done, total))
    batches = list(feed(crops, equal_parts(20, 8)))
    assert [len(batch) for batch in batches] == [7, 7, 6]
    assert told == [(7, 20), (14, 20), (20, 20)]
    whole = preprocessing.normalise(torch.from_numpy(crops))
    torch.testing.assert_close(torch.cat(batches), whole, rtol=0, atol=0)
