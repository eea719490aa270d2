"""Data sets: files are found, classes settled, and samples become chunks of crops.

The way of a sample: `list_files` finds a data set's files, in one of FORMATS; `resolve_classes` and
`settle` say which label each sample has, which makes a `Source`; its `Shard`s are read
(`read_samples`), and `DecodeImages` makes `Chunk`s of them, which a `CropCache` may keep.

Imports `models` for how an image is cropped, `storage`, and what lies below. Knows neither runs nor
Ray: passes, runs, the engine and the job import it.
"""

from dawin_ray.data.by_id import NoSuchSampleError, SamplesById
from dawin_ray.data.chunks import (
    Chunk, ChunkSummary, chunk_name, end_of, from_row, pack, to_row, unpack,
)  # fmt: skip
from dawin_ray.data.class_order import in_order_of
from dawin_ray.data.classes import (
    KNOWN_SUBSETS, NAMED, DatasetClasses, folder_way, folders_without_a_name, label_folders,
    named_folders, resolve_classes,
)  # fmt: skip
from dawin_ray.data.config import NO_TEXT, DatasetConfig
from dawin_ray.data.crop_cache import CropCache, ReadChunks, cache_key, plan_cache
from dawin_ray.data.datasets import Listing, Sample, Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.files import Files, GrowingFiles
from dawin_ray.data.formats.registry import FORMATS, count_samples, read_samples
from dawin_ray.data.found import Found
from dawin_ray.data.images import ImageDecoder, open_image, without_border
from dawin_ray.data.isolated import FATAL
from dawin_ray.data.listing import (
    check_address, formats_in, list_files, listing_of, split_paths,
)  # fmt: skip
from dawin_ray.data.looking import find_some, spread
from dawin_ray.data.shard_index import CountChunks, Indexes
from dawin_ray.data.slices import Slice, Task, slices_of, to_text
from dawin_ray.data.sources import Source, check_apart, make_shards, settle
from dawin_ray.data.splits import SPLITS
from dawin_ray.data.splitting import forecast, large_above, tasks_of

__all__ = [
    "FATAL", "FORMATS", "KNOWN_SUBSETS", "NAMED", "NO_TEXT", "SPLITS", "Chunk", "ChunkSummary",
    "CountChunks", "CropCache", "DatasetClasses", "DatasetConfig", "DecodeImages", "Files", "Found",
    "GrowingFiles", "ImageDecoder", "Indexes", "Listing", "NoSuchSampleError", "ReadChunks",
    "Sample", "SamplesById", "Shard", "Slice", "Source", "Task", "cache_key", "check_address",
    "check_apart", "chunk_name", "count_samples", "end_of", "find_some", "folder_way",
    "folders_without_a_name", "forecast", "formats_in", "from_row", "in_order_of", "label_folders",
    "large_above", "list_files", "listing_of", "make_shards", "named_folders", "open_image", "pack",
    "plan_cache", "read_samples", "resolve_classes", "settle", "slices_of", "split_paths", "spread",
    "tasks_of", "to_row", "to_text", "unpack", "without_border",
]  # fmt: skip
