"""Which files of a run directory are a run's own, by their names. Nothing else is ever deleted."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dawin_ray.locking import LOCK
from dawin_ray.storage import is_local, join

FINGERPRINT, MIXTURE, MANIFEST = "fingerprint.json", "mixture.json", "manifest.json"
CLASSES, AUDIT, PAGE, CSV = "classes.json", "audit.json", "report.html", "csv"
WORK, CACHE = "work", "cache"
BATCHES, SHARDS, LEDGER = "batches", "shards.jsonl", "ledger.json"
DATA = "data.jsonl.gz"

_FILES = {
    FINGERPRINT, MIXTURE, MANIFEST, CLASSES, AUDIT, PAGE, SHARDS, LEDGER, DATA, "job.yaml",
    "report.json", "fit.json",
}  # fmt: skip
# Folders in which a file of somebody else's would be taken for one of the run's.
FOLDERS = ("experts", "predictions", "rejects", CSV, BATCHES)
PART = re.compile(r"part-\d{5}\.parquet")
_PART = re.compile(
    rf"((experts|predictions)/dataset=[^/]+|rejects)(/batch=(?P<batch>[^/]+))?/{PART.pattern}"
)
_OTHER = re.compile(
    rf"{CSV}/(scores|differences|clusters|classes|drift)\.csv"
    rf"|{WORK}/(experts|predictions|rejects)/[^/]+/[^/]+/[^/]+\.parquet"
    rf"|{WORK}/marks/(experts|predictions|rejects)/[^/]+/[^/]+\.json"
    rf"|{WORK}/cache\.json|{CACHE}/[0-9a-f]{{32}}/[^/]+"
)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # of `storage.write_whole`, where it was killed
THREADS = 16  # that delete at once on a remote storage


def is_temporary(path: str) -> bool:
    """Whether a file is a lock, or one that a killed run had not written in full."""
    name = posixpath.basename(path)
    return name == LOCK or name.startswith(f"{LOCK}.") or bool(_TEMPORARY.fullmatch(name))


def is_transient(path: str) -> bool:
    """Whether a file is temporary, or of those that are none of a finished run."""
    return is_temporary(path) or bool(re.match(rf"({BATCHES}/[^/]+/)?({WORK}|{CACHE})/", path))


def is_ours(path: str, batches: Collection[str] = ()) -> bool:
    """Whether a path, from the root of a run directory, is of a file that runs write.

    `batches` are the names of those that the directory has.
    """
    if _TEMPORARY.fullmatch(posixpath.basename(path)):
        return True
    if path.startswith(f"{BATCHES}/"):
        _, name, *rest = path.split("/")
        return name in batches and _is_of_a_run("/".join(rest))
    if part := _PART.fullmatch(path):
        return part["batch"] is None or part["batch"] in batches
    return _is_of_a_run(path)


def _is_of_a_run(path: str) -> bool:
    return path in _FILES or _OTHER.fullmatch(path) is not None


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


def delete(fs: Any, root: str, paths: Iterable[str]) -> None:
    """Delete files, given from `root`, and the folders below it that are empty then."""
    paths = list(paths)
    if not is_local(fs):
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda path: _remove(fs, join(root, path)), paths))
        return
    for path in paths:
        Path(root, path).unlink(missing_ok=True)
    above = {str(folder) for path in paths for folder in Path(path).parents if folder != Path(".")}
    for folder in sorted(above, key=len, reverse=True):
        try:
            Path(root, folder).rmdir()
        except OSError:
            continue  # it holds something else, or is gone


def _remove(fs: Any, path: str) -> None:
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
