"""The crop cache: pass 2 reads pass 1's crops instead of decoding them again.

    <root>/<key of the data set>/<chunk>.crops    one chunk: MAGIC, a header as JSON, the pixels
                                 <shard>.json     names of a shard's chunks: all of them are there

The files are plain bytes and JSON: others may write where they lie, and nothing in them may be more
than values (Arrow's own format can name types that run code). Each carries checksums and the key
(preprocessing, chunk size, libraries that decode, the data set's files with size and version); one
with another key, or a damaged one, counts as missing: the cache may be lost or stale at any time,
and the worst that happens is that images are decoded again. A folder that no job names is made for
its owner alone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import struct
import tempfile
import time
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from dawin_ray.attempts import Tries
from dawin_ray.data.chunks import Chunk, chunk_name, from_text, to_text
from dawin_ray.data.datasets import Shard
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.slices import Slice
from dawin_ray.errors import UserError
from dawin_ray.records import digest
from dawin_ray.storage import filesystem, is_local, write_whole

logger = logging.getLogger(__name__)

# No file is written where less than this share of the disk would be left free: a full disk breaks
# more than a run.
FREE_SHARE = 0.1

MAGIC = b"crops of dawin_ray, 1\n"

# CRC-32 of header and pixels, and the header's bytes. It finds what a disk does to a file, at the
# speed of reading it; who may write to the folder may put other crops there in any case.
LENGTHS = struct.Struct("<III")

KEY_FIELD = b"dawin_ray.cache_key"  # of the header

SUFFIX = ".crops"

DIGITS = 18  # at most, of the number in a chunk's name

TEMPORARY = "dawin_ray-"  # begins the names of folders that are made for remote run directories

PRIVATE = 0o700


def cache_key(preprocessing: Mapping[str, Any], chunk_size: int, files: str) -> str:
    """What the crops of a data set depend on; `files` stands for its files and their versions."""
    import torchvision  # takes seconds, which no reader of a cache needs to wait for

    return digest([preprocessing, chunk_size, files, PIL.__version__, torchvision.__version__])


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Where the cache is, if anywhere, and why, in words for a person."""

    root: str | None
    why: str
    temporary: bool = False  # made under a name that must be noted to be found again


def plan_cache(
    asked: str,
    run_dir: str,
    *,
    needed: int | None,
    nodes: int,
    passes: int,
    noted: str | None = None,
) -> CachePlan:
    """Choose the cache's folder: `asked` is auto, off or a path that all nodes share.

    `needed` are the bytes of all crops, None where the samples are not counted yet; `noted` is what
    an earlier start of a run with a remote run_dir used. The folder of `auto` is made.
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
    local = is_local(filesystem(run_dir)[0])
    above, able = room_beside(run_dir)
    size = "crops of uncounted images" if needed is None else f"{needed / 1e9:.2f} GB of crops"
    if needed is not None and needed > able:
        return CachePlan(
            root=None, why=f"off: {size} do not fit the {max(able, 0) / 1e9:.1f} GB of {above}"
        )
    try:
        root = _local_root(above) if local else _temporary_root(noted)
    except OSError as error:
        return CachePlan(root=None, why=f"off: no folder for it can be made: {error}")
    why = f"at {root}: {size}, {max(able, 0) / 1e9:.1f} GB may be used"
    return CachePlan(root=str(root), why=why, temporary=not local)


def room_beside(run_dir: str) -> tuple[Path, float]:
    """Where the cache of a run would lie on this machine, and the bytes that it may have there."""
    fs, path = filesystem(run_dir)
    above = Path(path if is_local(fs) else tempfile.gettempdir())
    disk = shutil.disk_usage(next(p for p in (above, *above.parents) if p.exists()))
    return above, disk.free - FREE_SHARE * disk.total


def _local_root(run_dir: Path) -> Path:
    root = run_dir / "cache"
    root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if not _is_ours(root, mode=None):
        raise OSError(f"{root} is a link, or belongs to another user")
    return root


def _temporary_root(noted: str | None) -> Path:
    """The folder that an earlier start of the run made here, or a new one of a random name.

    Where anybody may write, a name that can be guessed may be taken, by a link to elsewhere too.
    """
    above = Path(tempfile.gettempdir())
    if noted is not None:
        earlier = Path(noted)
        ours = earlier.parent == above and earlier.name.startswith(TEMPORARY)
        if ours and _is_ours(earlier, mode=PRIVATE):
            return earlier
    return Path(tempfile.mkdtemp(prefix=TEMPORARY))


def _is_ours(folder: Path, mode: int | None) -> bool:
    """Whether it is a folder, no link, of this user, and of that mode if any is asked for."""
    try:
        found = folder.lstat()
    except (OSError, ValueError):  # ValueError: a name that no folder can have
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and mode in (None, stat.S_IMODE(found.st_mode))
    )


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
        pixels = np.ascontiguousarray(chunk.images).data
        untimed = replace(chunk, read_seconds=0.0, decode_seconds=0.0)  # it was this once
        values = {KEY_FIELD.decode(): self.keys[chunk.dataset], "chunk": to_text(untimed)}
        header = json.dumps(values).encode()
        lengths = LENGTHS.pack(zlib.crc32(header), zlib.crc32(pixels), len(header))
        temporary = folder / f".{chunk.name}.{uuid.uuid4().hex}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(folder)
            if disk.free - pixels.nbytes < FREE_SHARE * disk.total:
                return False
            try:
                with open(temporary, "xb") as sink:
                    for part in (MAGIC, lengths, header, pixels):
                        sink.write(part)
                temporary.replace(folder / f"{chunk.name}{SUFFIX}")
            finally:
                temporary.unlink(missing_ok=True)
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
            names = json.loads(_read_file(self._folder(shard.dataset) / f"{shard.key}.json"))
        except (OSError, ValueError, RecursionError):
            return None
        # a name becomes a path: it is one that this shard's chunks can have, or none is believed
        begin = f"{shard.key}-"
        if not isinstance(names, list) or not all(
            isinstance(n, str)
            and len(n) <= len(begin) + DIGITS
            and n.startswith(begin)
            and n.removeprefix(begin).isdecimal()
            for n in names
        ):
            return None
        return names

    def read(self, dataset: str, name: str) -> Chunk | None:
        """A chunk; None where it is missing, damaged or stale.

        Read, not mapped: what was checked cannot change or be cut behind the check.
        """
        try:
            content = memoryview(_read_file(self._folder(dataset) / f"{name}{SUFFIX}"))
            if content[: len(MAGIC)] != MAGIC:
                return None
            of_header, of_pixels, length = LENGTHS.unpack_from(content, len(MAGIC))
            start = len(MAGIC) + LENGTHS.size
            header, pixels = content[start : start + length], content[start + length :]
            if (zlib.crc32(header), zlib.crc32(pixels)) != (of_header, of_pixels):
                return None
            values = json.loads(bytes(header))
            if values[KEY_FIELD.decode()] != self.keys[dataset]:
                return None
            chunk = from_text(values["chunk"], pixels)
        except Exception:  # noqa: BLE001  (whatever is wrong with it, it is not there)
            return None
        count = len(chunk.images)
        same = (chunk.name, chunk.dataset, len(chunk.sample_ids)) == (name, dataset, count)
        return chunk if same and len(chunk.labels) == count else None

    def remove(self) -> None:
        """Delete the run's crops, and the root if nothing else is in it."""
        for dataset in self.keys:
            shutil.rmtree(self._folder(dataset), ignore_errors=True)
        try:
            Path(self.root).rmdir()
        except OSError:
            logger.debug("the folder of the crop cache %s is gone or holds others", self.root)


def _read_file(path: Path) -> bytes:
    """A regular file's bytes; a link is not followed, and nothing is waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no regular file")
        return stream.read()


class ReadChunks:
    """A slice's chunks, from the cache where they are there, decoded and cached where not."""

    def __init__(self, decode: DecodeImages, cache: CropCache | None = None):
        """`decode` makes what is missing."""
        self.decode, self.cache = decode, cache

    def counted(self, tries: Tries) -> ReadChunks:
        """The same with its tries counted (see `attempts`)."""
        return ReadChunks(self.decode.counted(tries), self.cache)

    def __call__(self, part: Slice, finished: Collection[str] = ()) -> Iterator[Chunk]:
        """The chunks of a slice but the finished ones."""
        finished, shard = set(finished), part.shard
        if self.cache is None:
            yield from self.decode.of(part, finished)
            return
        there = self._cached(part)
        for name in there or ():
            if name in finished:
                continue
            began = time.perf_counter()
            if (chunk := self.cache.read(shard.dataset, name)) is None:
                break
            finished.add(name)
            yield replace(chunk, read_seconds=time.perf_counter() - began)
        else:
            if there is not None:
                return
        complete, last = not finished, None
        for chunk in self.decode.of(part, finished):
            complete = self.cache.write(chunk) and complete
            last = chunk.name
            yield chunk
        if complete and last is not None and part.last is None:
            # a chunk of another slice may not be there after all: then it is decoded
            count = self._ordinal(last) + 1
            self.cache.finish(shard, [self._name(shard, i) for i in range(count)])

    def _cached(self, part: Slice) -> list[str] | None:
        """Names of a slice's chunks, which may be in the cache; None where its end is not known."""
        assert self.cache is not None, "nothing is asked for without one"
        if part.last is not None:
            return [self._name(part.shard, i) for i in range(part.first, part.last + 1)]
        names = self.cache.chunks(part.shard)
        return names and [name for name in names if part.holds(self._ordinal(name))]

    def _name(self, shard: Shard, chunk: int) -> str:
        return chunk_name(shard, chunk * self.decode.chunk_size)

    def _ordinal(self, name: str) -> int:
        return int(name.rpartition("-")[2]) // self.decode.chunk_size
