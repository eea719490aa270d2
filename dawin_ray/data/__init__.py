"""TODO face data."""

from dawin_ray.data.attempts import (
    MOST_DEATHS_LOADING,
    MOST_DEATHS_SCORING,
    UNCOUNTED,
    Attempts,
    Tries,
    loading,
    nth,
)
from dawin_ray.data.chunks import (
    Chunk,
    ChunkSummary,
    chunk_name,
    end_of,
    from_row,
    pack,
    to_row,
    unpack,
)  # fmt: skip
from dawin_ray.data.class_order import in_order_of
from dawin_ray.data.classes import DatasetClasses, folders_without_a_name, resolve_classes
from dawin_ray.data.crop_cache import CropCache, ReadChunks, cache_key, plan_cache
from dawin_ray.data.datasets import DatasetConfig, Sample, Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.formats.registry import count_samples, read_samples
from dawin_ray.data.images import ImageDecoder, open_image, without_border
from dawin_ray.data.isolated import FATAL
from dawin_ray.data.listing import Listing, list_files
from dawin_ray.data.shards import Source, make_shards
from dawin_ray.data.sources import check_apart, settle

__all__ = [
    "FATAL",
    "MOST_DEATHS_LOADING",
    "MOST_DEATHS_SCORING",
    "UNCOUNTED",
    "Attempts",
    "Chunk",
    "ChunkSummary",
    "CropCache",
    "DatasetClasses",
    "DatasetConfig",
    "DecodeImages",
    "ImageDecoder",
    "Listing",
    "ReadChunks",
    "Sample",
    "Shard",
    "Source",
    "Tries",
    "cache_key",
    "check_apart",
    "chunk_name",
    "count_samples",
    "end_of",
    "folders_without_a_name",
    "from_row",
    "in_order_of",
    "list_files",
    "loading",
    "make_shards",
    "nth",
    "open_image",
    "pack",
    "plan_cache",
    "read_samples",
    "resolve_classes",
    "settle",
    "to_row",
    "unpack",
    "without_border",
]
