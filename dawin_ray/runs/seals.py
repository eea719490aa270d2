"""Are the files of a finished run those that its manifest lists, and no others?

Everything is looked at: hashes and rows of the files, that figures are numbers, and what lies below
the run directory though nothing lists it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Output, Part, RunFolder
from dawin_ray.runs.layout import BATCHES, MANIFEST, is_transient
from dawin_ray.runs.manifest import Rows, seal_of
from dawin_ray.storage import (
    ParquetFileError,
    content_errors,
    files_below,
    filesystem,
    join,
    open_parquet,
    unreadable,
)
from dawin_ray.tables import OF_DATASETS

FIGURES_OF_LABELS = ("nll", "brier")  # figures that are no number where there is no label

SHOWN_STRANGERS = 20


def faults_of_manifest(manifest: Mapping[str, Any], keys: Collection[str] = ()) -> Iterator[str]:
    """Whether a manifest is what was written, and has what one must have."""
    if manifest.get("seal") != seal_of(manifest):
        yield f"{MANIFEST} was changed: its seal is not that of its content"
    elif lacking := [key for key in keys if key not in manifest]:
        yield f"{MANIFEST} is none of a finished run: it has no {', no '.join(lacking)}"


def faults_of_outputs(
    run: RunDirectory,
    outputs: Iterable[Part | Output],
    rows: Mapping[str, Rows] | None = None,
) -> Iterator[str]:
    """Whether the files that a manifest lists are there and as they were, and hold numbers.

    With `rows`, also whether they hold as many of each data set as the manifest says.
    """
    found: Counter[str] = Counter()
    for output in outputs:
        content = _content(run, output)
        if content is None:
            yield f"{output.path} is missing"
        elif hashlib.sha256(content).hexdigest() != output.sha256:
            yield f"{output.path} was changed: its sha256 is not the manifest's"
        elif isinstance(output, Part):
            found[posixpath.dirname(output.path)] += yield from _of_part(output, content)
    if rows is not None:
        yield from _of_counts(run, found, rows)


def unlisted_files(
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


def _content(run: RunFolder, output: Output) -> bytes | None:
    fs, path = run.output(output.path)
    try:
        content: bytes = fs.cat_file(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(path, "file of the run", error) from error
    return content


def _of_part(part: Part, content: bytes) -> Generator[str, None, int]:
    """Faults of a part; how many rows it has."""
    try:
        with content_errors():
            file = open_parquet(pa.BufferReader(content))
            empty = _no_numbers(file)
    except ParquetFileError as error:
        yield f"{part.path} is no Parquet that a run wrote: {error}"
        return 0
    rows = int(file.metadata.num_rows)
    if rows != part.rows:
        yield f"{part.path} has {rows} rows; the manifest says {part.rows}"
    for column, count in empty.items():
        yield f"{part.path}: {column} of {count:,} rows is no number"
    return rows


def _of_counts(run: RunDirectory, found: Counter[str], rows: Mapping[str, Rows]) -> Iterator[str]:
    for dataset, counts in rows.items():
        for kind in OF_DATASETS:
            there = found[run.parts.folder(kind, f"dataset={dataset}")]
            if there != counts.predictions:
                yield f"{kind} of '{dataset}': {there} rows; the manifest says {asdict(counts)}"
    rejects = sum(counts.rejects for counts in rows.values())
    there = found[run.parts.folder("rejects")]
    if there != rejects:
        yield f"rejects: {there} rows; the manifest says {rejects}"


def _no_numbers(file: pq.ParquetFile) -> dict[str, int]:
    """Columns with NaN or infinities that have no reason, and the number of such rows."""
    names = [field.name for field in file.schema_arrow if _is_floating(field.type)]
    labelled = "label" in file.schema_arrow.names
    counts: dict[str, int] = {}
    for group in range(file.num_row_groups if names else 0):
        table = file.read_row_group(group, columns=[*names, *(["label"] if labelled else [])])
        for name in names:
            column = table[name].combine_chunks()
            if name.rpartition("_")[2] in FIGURES_OF_LABELS:
                if not labelled:
                    continue
                column = column.filter(pc.is_valid(table["label"].combine_chunks()))
            values = column.flatten() if pa.types.is_list(column.type) else column
            bad = pc.sum(pc.invert(pc.is_finite(values.drop_null()))).as_py() or 0
            if bad:
                counts[name] = counts.get(name, 0) + bad
    return counts


def _is_floating(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_list(kind) else kind))
