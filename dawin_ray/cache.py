"""The crop cache: pass 2 reads pass 1's crops instead of decoding them again.

    <root>/<key of the data set>/<chunk>.arrow    one chunk, as `chunks.pack` makes it, uncompressed
                                 <shard>.json     names of a shard's chunks: all of them are there

An Arrow file is mapped into memory and its pixels are used where they lie. Each file carries the
key (preprocessing, chunk size, libraries that decode, the data set's files with size and version);
one with another key, or a damaged one, counts as missing: the cache may be lost or stale at any
time, and the worst that happens is that images are decoded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa
import torchvision

from dawin_ray.attempts import Tries
from dawin_ray.chunks import Chunk, pack, unpack
from dawin_ray.datasets import Shard
from dawin_ray.decoding import DecodeImages
from dawin_ray.errors import UserError
from dawin_ray.storage import filesystem, is_local, write_whole

logger = logging.getLogger(__name__)

# No file is written where less than this share of the disk would be left free: a full disk breaks
# more than a run.
FREE_SHARE = 0.1
KEY_FIELD = b"dawin_ray.cache_key"


def cache_key(preprocessing: Mapping[str, Any], chunk_size: int, files: str) -> str:
    """What the crops of a data set depend on; `files` stands for its files and their versions."""
    parts = [preprocessing, chunk_size, files, PIL.__version__, torchvision.__version__]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Where the cache is, if anywhere, and why, in words for a person."""

    root: str | None
    why: str


def plan_cache(
    asked: str, run_dir: str, *, needed: int | None, nodes: int, passes: int
) -> CachePlan:
    """Choose the cache's folder: `asked` is auto, off or a path that all nodes share.

    `needed` are the bytes of all crops, None where the samples are not counted yet.
    """
    if passes == 1:
        return CachePlan(root=None, why="off: one pass decodes each image once")
    if asked == "off":
        return CachePlan(root=None, why="off: compute.cache is off")
    if asked != "auto":
        return CachePlan(root=asked, why=f"at {asked}, as compute.cache says")
    if nodes > 1:
        return CachePlan(
            root=None, why=f"off: {nodes} nodes share no disk; give compute.cache a shared path"
        )
    fs, path = filesystem(run_dir)
    root = Path(path if is_local(fs) else tempfile.gettempdir(), "cache" if is_local(fs) else "")
    if not is_local(fs):
        root = root / f"dawin_ray-{hashlib.sha256(run_dir.encode()).hexdigest()[:12]}"
    disk = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists()))
    able = disk.free - FREE_SHARE * disk.total
    size = "crops of uncounted images" if needed is None else f"{needed / 1e9:.2f} GB of crops"
    if needed is not None and needed > able:
        return CachePlan(
            root=None,
            why=f"off: {size} do not fit the {max(able, 0) / 1e9:.1f} GB of {root.parent}",
        )
    return CachePlan(root=str(root), why=f"at {root}: {size}, {able / 1e9:.1f} GB may be used")


class CropCache:
    """The cache of a run; cheap to make and to pickle."""

    def __init__(self, root: str, keys: Mapping[str, str]):
        """`keys` maps a data set to its `cache_key`."""
        self.root, self.keys = root, dict(keys)

    def _folder(self, dataset: str) -> Path:
        return Path(self.root, self.keys[dataset][:32])

    def write(self, chunk: Chunk) -> bool:
        """Add a chunk; False where the disk is too full or refuses."""
        folder = self._folder(chunk.dataset)
        row = pack(chunk)
        schema = pa.schema(
            [("chunk", pa.large_string()), ("images", pa.large_binary())],
            metadata={KEY_FIELD: self.keys[chunk.dataset].encode()},
        )
        table = pa.table({name: [value] for name, value in row.items()}, schema=schema)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(folder)
            if disk.free - table.nbytes < FREE_SHARE * disk.total:
                return False
            temporary = folder / f".{chunk.name}.{uuid.uuid4().hex}.tmp"
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                writer.write_table(table)
            temporary.replace(folder / f"{chunk.name}.arrow")
        except OSError as error:
            logger.warning("the crop cache cannot be written and is left out: %s", error)
            return False
        return True

    def finish(self, shard: Shard, chunks: Collection[str]) -> None:
        """Note that all chunks of a shard are there."""
        path = self._folder(shard.dataset) / f"{shard.key}.json"
        try:
            write_whole(*filesystem(str(path)), json.dumps(sorted(chunks)).encode())
        except UserError as error:
            logger.warning("the crop cache cannot be written and is left out: %s", error)

    def chunks(self, shard: Shard) -> list[str] | None:
        """Names of a shard's chunks, in order; None where not all of them are there."""
        try:
            return json.loads((self._folder(shard.dataset) / f"{shard.key}.json").read_text())
        except (OSError, ValueError):
            return None

    def read(self, dataset: str, name: str) -> Chunk | None:
        """A chunk, its pixels mapped into memory; None where it is missing, damaged or stale."""
        try:
            with pa.memory_map(str(self._folder(dataset) / f"{name}.arrow")) as source:
                table = pa.ipc.open_file(source).read_all()
            if table.schema.metadata.get(KEY_FIELD) != self.keys[dataset].encode():
                return None
            chunk = unpack(table)
        except (OSError, ValueError, KeyError, AttributeError, AssertionError, pa.ArrowException):
            return None
        return chunk if (chunk.name, chunk.dataset) == (name, dataset) else None

    def remove(self) -> None:
        """Delete the run's crops, and the root if nothing else is in it."""
        for dataset in self.keys:
            shutil.rmtree(self._folder(dataset), ignore_errors=True)
        try:
            Path(self.root).rmdir()
        except OSError:
            logger.debug("the folder of the crop cache %s is gone or holds others", self.root)


class ReadChunks:
    """A shard's chunks, from the cache where they are there, decoded and cached where not."""

    def __init__(self, decode: DecodeImages, cache: CropCache | None = None):
        """`decode` makes what is missing."""
        self.decode, self.cache = decode, cache

    def counted(self, tries: Tries) -> ReadChunks:
        """The same with its tries counted (see `attempts`)."""
        return ReadChunks(self.decode.counted(tries), self.cache)

    def __call__(self, shard: Shard, finished: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a shard but the finished ones."""
        finished = set(finished)
        if self.cache is None:
            yield from self.decode(shard, finished)
            return
        for name in self.cache.chunks(shard) or ():
            if name in finished:
                continue
            if (chunk := self.cache.read(shard.dataset, name)) is None:
                break
            finished.add(name)
            yield chunk
        else:
            if self.cache.chunks(shard) is not None:
                return
        complete, names = not finished, []
        for chunk in self.decode(shard, finished):
            complete = self.cache.write(chunk) and complete
            names.append(chunk.name)
            yield chunk
        if complete:
            self.cache.finish(shard, names)
