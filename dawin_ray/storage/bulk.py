"""Many files at once: one request each, several of them under way, and deletes in batches."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dawin_ray.storage.files import is_local

THREADS = 16  # that delete at once on a remote storage

# Where a read may end, beyond any file: of a range no client asks for the size first, as it does
# for a whole file.
BEYOND = 1 << 40

BATCH = 1000  # keys that S3's DeleteObjects takes


def read_many(fs: Any, paths: Sequence[str]) -> list[bytes | Exception]:
    """The content of each file, or what its reading raised; a request a file."""
    if is_local(fs):
        return [_read(fs, path) for path in paths]
    found = fs.cat_ranges(list(paths), 0, BEYOND, on_error="return")
    return [
        # an empty file has no range
        content if isinstance(content, bytes | FileNotFoundError) else _read(fs, path)
        for path, content in zip(paths, found, strict=True)
    ]


def remove_many(fs: Any, paths: Sequence[str]) -> None:
    """Delete files of a remote storage; one that is not there is none to delete."""
    with ThreadPoolExecutor(THREADS) as pool:
        if hasattr(fs, "call_s3"):
            batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
            done = pool.map(lambda batch: _remove_batch(fs, batch), batches)
            paths = [path for left in done for path in left]
        list(pool.map(lambda path: _remove(fs, path), paths))


def _read(fs: Any, path: str) -> bytes | Exception:
    try:
        content: bytes = fs.cat_file(path)
    except Exception as error:  # noqa: BLE001  (whoever asked knows whether it is one)
        return error
    return content


def _remove_batch(fs: Any, paths: Sequence[str]) -> Sequence[str]:
    """Those that are left: some storages that speak S3 do not know the request."""
    bucket = fs.split_path(paths[0])[0]
    keys = {fs.split_path(path)[1]: path for path in paths}
    objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        answer = fs.call_s3("delete_objects", Bucket=bucket, Delete=objects)
    except Exception:  # noqa: BLE001  (each storage has its own; one by one they say which file)
        return paths
    return [keys[error["Key"]] for error in answer.get("Errors", []) if error.get("Key") in keys]


def _remove(fs: Any, path: str) -> None:
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
