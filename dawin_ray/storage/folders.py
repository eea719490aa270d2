"""What is in a folder or below it, and deleting some of that with what is left empty."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dawin_ray.storage.bulk import remove_many
from dawin_ray.storage.files import is_local, join


def files_below(fs: Any, root: str, *, follow: bool = False) -> list[str]:
    """Paths of all files below a folder, from there, sorted; hidden ones too.

    A link to a folder is a file here, unless it is to be followed.
    """
    if is_local(fs):
        return sorted(_local_files(root, follow))
    fs.invalidate_cache()
    try:
        found = fs.find(root, refresh=True)
    except FileNotFoundError:
        return []
    return sorted(posixpath.relpath(path, root) for path in found if path.rstrip("/") != root)


def pages_below(fs: Any, root: str) -> Iterator[list[str]]:
    """The same as `files_below`, in S3's pages of 1,000: of millions, only a page is held.

    fsspec makes a record of 1.4 kB of each and keeps all of them.
    """
    if not hasattr(fs, "call_s3"):
        yield files_below(fs, root)
        return
    bucket, key, _ = fs.split_path(root)
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    while True:
        page = fs.call_s3("list_objects_v2", **asked)
        keys = [entry["Key"].removeprefix(asked["Prefix"]) for entry in page.get("Contents", [])]
        yield [key for key in keys if key and not key.endswith("/")]
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def first_entries(fs: Any, folder: str, most: int) -> tuple[list[dict[str, Any]], bool]:
    """What is directly in a remote folder, as fsspec tells it: no more than `most`, and if there is
    more.

    S3 is asked for no more than that, in pages; another storage lists the whole folder.
    """
    entries = _s3_entries(fs, folder) if hasattr(fs, "call_s3") else fs.ls(folder, detail=True)
    found = list(itertools.islice(entries, most + 1))
    return found[:most], len(found) > most


def _s3_entries(fs: Any, folder: str) -> Iterator[dict[str, Any]]:
    """Of a folder; a page of 1,000 is asked for when it is needed."""
    bucket, key, _ = fs.split_path(folder)
    prefix = f"{key}/" if key else ""
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
    while True:
        page = fs.call_s3("list_objects_v2", **asked)
        for entry in page.get("CommonPrefixes", []):
            yield {"name": f"{bucket}/{entry['Prefix']}".rstrip("/"), "type": "directory"}
        for entry in page.get("Contents", []):
            if entry["Key"] != prefix:  # a folder's own mark
                told = {"name": f"{bucket}/{entry['Key']}", "type": "file", "size": entry["Size"]}
                yield entry | told
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _local_files(root: str, follow: bool) -> Iterator[str]:
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=follow):
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        if follow and (real := os.path.realpath(folder)) in seen:
            names.clear()  # a link to a folder above
            continue
        elif follow:
            seen.add(real)
        for name in files if follow else [*files, *links]:
            yield os.path.relpath(os.path.join(folder, name), root)


def files_in(fs: Any, folder: str, suffix: str) -> list[str]:
    """Paths of the files in a folder whose names end so, sorted; none where it is not there.

    No glob: the names of folders may hold `[` or `*`.
    """
    try:
        found = fs.ls(folder, detail=False, refresh=True)  # other processes write there
    except FileNotFoundError:
        return []
    return sorted(path for path in found if path.endswith(suffix))


def folders_in(fs: Any, folder: str) -> list[str]:
    """Paths of the folders in a folder, sorted; none where it is not there."""
    try:
        found = fs.ls(folder, detail=True, refresh=True)
    except FileNotFoundError:
        return []
    return sorted(entry["name"].rstrip("/") for entry in found if entry["type"] == "directory")


def delete(fs: Any, root: str, paths: Iterable[str]) -> None:
    """Delete files, given from `root`, and the folders below it that are empty then."""
    paths = list(paths)
    if not is_local(fs):
        remove_many(fs, [join(root, path) for path in paths])
        return
    for path in paths:
        Path(root, path).unlink(missing_ok=True)
    above = {str(folder) for path in paths for folder in Path(path).parents if folder != Path(".")}
    for folder in sorted(above, key=len, reverse=True):
        try:
            Path(root, folder).rmdir()
        except OSError:
            continue  # it holds something else, or is gone
