"""Decoding an image against reading its crop back from the cache. One core."""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dawin_ray.bench import BenchConfig, Figure, interleaved, median_ratio
from dawin_ray.data import Chunk, CropCache, ImageDecoder, cache_key
from dawin_ray.models import ModelConfig, Preprocessing, create_model

IMAGES = 128
SIDE = 256  # pixels of a synthetic JPEG; ImageNet's are larger and cost several times as much
QUALITY = 90


def jpegs(count: int, side: int = SIDE, seed: int = 0) -> list[bytes]:
    """Synthetic JPEGs with detail at several scales."""
    rng, encoded = np.random.default_rng(seed), []
    for _ in range(count):
        layers = [
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
                    (side, side), Image.Resampling.BICUBIC
                ),
                dtype=np.float32,
            )
            for n in (4, 16, 64)
        ]
        buffer = io.BytesIO()
        mixed = (0.6 * layers[0] + 0.3 * layers[1] + 0.1 * layers[2]).astype(np.uint8)
        Image.fromarray(mixed).save(buffer, format="JPEG", quality=QUALITY)
        encoded.append(buffer.getvalue())
    return encoded


def read(cache: CropCache) -> Chunk:
    """The chunk that was written before."""
    chunk = cache.read("d", "c")
    assert chunk is not None
    return chunk


def figures(config: BenchConfig) -> Iterator[Figure]:
    """Milliseconds for each image: decode and crop, write to the cache, read back."""
    visual = create_model(ModelConfig(architecture=config.architecture)).visual
    preprocessing = Preprocessing.of(visual.preprocess_cfg)
    crop, encoded = ImageDecoder(preprocessing), jpegs(IMAGES)

    def decode() -> np.ndarray:
        return np.stack([crop(data) for data in encoded])

    chunk = Chunk(
        name="c", dataset="d", shard="s", shard_key="s", images=decode(), labels=[None] * IMAGES,
        sample_ids=[str(i) for i in range(IMAGES)],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cache = CropCache(folder, {"d": cache_key({}, IMAGES, "bench")})
        functions = {
            "decode and crop": decode,
            "write to the crop cache": lambda: cache.write(chunk),
            # a batch is copied out of the mapped file, as the model's feed does
            "read from the crop cache": lambda: read(cache).images.copy(),
        }
        seconds = interleaved(functions, config.rounds)
    for name, times in seconds.items():
        yield Figure(
            section="data",
            name=name,
            value=1e3 * statistics.median(times) / IMAGES,
            unit="ms/image",
            ratio=median_ratio(times, seconds["decode and crop"]),
            against="decode",
            note=f"{SIDE}-pixel JPEGs of {sum(map(len, encoded)) // IMAGES // 1000} kB",
        )
