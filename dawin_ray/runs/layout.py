"""Which files of a run directory are a run's own, by their names. Nothing else is ever deleted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

from dawin_ray.storage import LOCK
from dawin_ray.tables import OF_DATASETS, TABLES

JOB, FINGERPRINT, MIXTURE, MANIFEST = (
    "job.yaml", "fingerprint.json", "mixture.json", "manifest.json",
)  # fmt: skip

CLASSES, FIT, AUDIT, PAGE, CARD, CSV = (
    "classes.json", "fit.json", "audit.json", "report.html", "report.svg", "csv",
)  # fmt: skip

WORK, CACHE = "work", "cache"

INDEX = f"{WORK}/index"  # of where the chunks of large shards begin

BATCHES, SHARDS, LEDGER = "batches", "shards.jsonl", "ledger.json"

DATA = "data.jsonl.gz"

TASKS = f"{WORK}/tasks"  # while it runs: see `task_lists`

_FILES = {
    JOB, FINGERPRINT, MIXTURE, MANIFEST, CLASSES, FIT, AUDIT, PAGE, CARD, SHARDS, LEDGER,
    DATA, "report.json",
}  # fmt: skip

# Folders in which a file of somebody else's would be taken for one of the run's.
FOLDERS = (*TABLES, CSV, BATCHES)

PART = re.compile(r"part-\d{5}\.parquet")

_PART = re.compile(
    rf"(({'|'.join(OF_DATASETS)})/dataset=[^/]+|rejects)(/batch=(?P<batch>[^/]+))?/{PART.pattern}"
)

_OTHER = re.compile(
    rf"{CSV}/(scores|differences|clusters|classes|confusions|weights|costs|drift)\.csv"
    rf"|{WORK}/({'|'.join(TABLES)})/[^/]+/[^/]+/[^/]+\.parquet"
    rf"|{WORK}/marks/({'|'.join(TABLES)})/[^/]+/[^/]+\.json"
    rf"|{WORK}/parts/({'|'.join(OF_DATASETS)})/[^/]+/part-\d{{5}}\.(json|names|summary)"
    rf"|{WORK}/summaries/[^/]+/\d+-\d+\.summary"
    rf"|{TASKS}/[a-z_]+-\d{{5}}"
    rf"|{INDEX}/[^/]+/[^/]+\.json"
    rf"|{WORK}/cache\.json|{CACHE}/[0-9a-f]{{32}}/[^/]+"
)

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # of `storage.write_whole`, where it was killed


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
