"""Are the files of a finished run those that its manifest lists, and no others?

Everything is looked at: hashes and rows of the files, that figures are numbers, and what lies below
the run directory though nothing lists it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import BATCHES, MANIFEST, is_transient
from dawin_ray.runs.manifest import seal_of
from dawin_ray.storage import (
    ParquetFileError,
    content_errors,
    files_below,
    filesystem,
    join,
    open_parquet,
    unreadable,
)

OF_LABELS = ("nll", "brier")  # figures that are no number where there is no label

SHOWN_STRANGERS = 20


def of_manifest(manifest: Mapping[str, Any], keys: Collection[str] = ()) -> Iterator[str]:
    """Whether a manifest is what was written, and has what one must have."""
    if manifest.get("seal") != seal_of(manifest):
        yield f"{MANIFEST} was changed: its seal is not that of its content"
    elif lacking := [key for key in keys if key not in manifest]:
        yield f"{MANIFEST} is none of a finished run: it has no {', no '.join(lacking)}"


def of_outputs(run: RunDirectory, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Whether the files that a manifest lists are there and as they were, and hold numbers."""
    rows: dict[str, int] = {}
    for output in manifest["outputs"]:
        fs, path = run.output(output["path"])
        try:
            data = fs.cat_file(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            yield f"{output['path']} is missing"
            continue
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(path, "file of the run", error) from error
        if hashlib.sha256(data).hexdigest() != output["sha256"]:
            yield f"{output['path']} was changed: its sha256 is not the manifest's"
            continue
        if "rows" in output:
            try:
                with content_errors():
                    file = open_parquet(pa.BufferReader(data))
                    empty = _no_numbers(file)
            except ParquetFileError as error:
                yield f"{output['path']} is no Parquet that a run wrote: {error}"
                continue
            found = file.metadata.num_rows
            if found != output["rows"]:
                yield f"{output['path']} has {found} rows; the manifest says {output['rows']}"
            folder = output["path"].rsplit("/", 1)[0]
            rows[folder] = rows.get(folder, 0) + found
            for column, count in empty.items():
                yield f"{output['path']}: {column} of {count:,} rows is no number"
    for dataset, counts in manifest.get("rows", {}).items():
        for kind in ("experts", "predictions"):
            found = rows.get(run.folder(kind, f"dataset={dataset}"), 0)
            if found != counts["predictions"]:
                yield f"{kind} of '{dataset}': {found} rows; the manifest says {counts}"
    if "rows" in manifest:
        rejects = sum(counts["rejects"] for counts in manifest["rows"].values())
        found = rows.get(run.folder("rejects"), 0)
        if found != rejects:
            yield f"rejects: {found} rows; the manifest says {rejects}"


def of_strangers(
    root: str, listed: Collection[str], unknown: Collection[str] = ()
) -> Iterator[str]:
    """Files below a run directory, at any depth, that no manifest lists.

    Of batches whose manifests are `unknown`, nothing can be said.
    """
    of_unknown = {join(BATCHES, name) for name in unknown} | {f"batch={n}" for n in unknown}
    fs, path = filesystem(root)
    found = [
        name
        for name in files_below(fs, path, follow=True)
        if name not in listed
        and not is_transient(name)
        and not any(
            part in of_unknown for part in ("/".join(name.split("/")[:2]), *name.split("/"))
        )
    ]
    for name in found[:SHOWN_STRANGERS]:
        yield f"{name} is not in the manifest"
    if len(found) > SHOWN_STRANGERS:
        yield f"and {len(found) - SHOWN_STRANGERS:,} more files are not in the manifest"


def _no_numbers(file: pq.ParquetFile) -> dict[str, int]:
    """Columns with NaN or infinities that have no reason, and the number of such rows."""
    names = [field.name for field in file.schema_arrow if _is_floating(field.type)]
    labelled = "label" in file.schema_arrow.names
    counts: dict[str, int] = {}
    for group in range(file.num_row_groups if names else 0):
        table = file.read_row_group(group, columns=[*names, *(["label"] if labelled else [])])
        for name in names:
            column = table[name].combine_chunks()
            if name.rpartition("_")[2] in OF_LABELS:
                if not labelled:
                    continue
                column = column.filter(pc.is_valid(table["label"].combine_chunks()))
            values = column.flatten() if pa.types.is_list(column.type) else column
            bad = pc.sum(pc.invert(pc.is_finite(values.drop_null()))).as_py() or 0
            if bad:
                counts[name] = counts.get(name, 0) + bad
    return counts


def _is_floating(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind.value_type if pa.types.is_list(kind) else kind)
