"""Some samples of a finished run, scored again: do its figures come out?"""

from __future__ import annotations

import bisect
import itertools
import math
import posixpath
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray.data import FATAL, Chunk, DecodeImages, Shard, chunk_name
from dawin_ray.job.prepare import Prepared
from dawin_ray.models import Precision, load_experts
from dawin_ray.passes import Predict, ScoreExperts
from dawin_ray.runs import FIGURES_OF_LABELS, Manifest, Mixtures, Part, RunDirectory, rows_between

# On the machine of the run all values come out to the last bit; another one sums in another order.
# Probabilities of lower-precision towers move by their rounding, some 2^-8 of a logit.
TOLERANCE = {"float32": 1e-4, "tf32": 5e-2, "bfloat16": 2e-1, "float16": 5e-2}

SAMPLED = "float32_prediction"  # a column that most rows have nothing in

SHOWN_ROWS = 5  # of a chunk that comes out otherwise


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """Chunks of a shard that are scored again."""

    shard: Shard
    read: int  # samples of the shard: rows and rejects
    rows: int
    place: int  # of its first row among its data set's predictions
    starts: Sequence[int]  # of the chunks, ascending

    def ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """Where the rows of each chunk are: before it, any sample may have been a reject."""
        rejects = self.read - self.rows
        for start in self.starts:
            begin, end = max(start - rejects, 0), min(start + size, self.rows)
            yield self.place + begin, self.place + max(begin, end)


def faults_of_rows(
    run: RunDirectory,
    prepared: Prepared,
    manifest: Manifest,
    sample: float,
    draw: random.Random,
) -> Iterator[str]:
    """What comes out otherwise of about `sample` of the samples, in whole chunks; a line each.

    Each shard that one is drawn of is read once, and so is each row group of the predictions.
    """
    job = prepared.job
    spec = replace(prepared.spec, precision=cast("Precision", manifest.precision))
    fits = Mixtures.read(run).of_datasets
    experts = load_experts(spec.model)
    score = ScoreExperts(spec, experts)
    predict = Predict(spec, fits, experts)
    decode = DecodeImages(prepared.preprocessing, job.compute.chunk_size, spec.classes)
    rejects = run.parts.read("rejects", columns=["reason"])
    if any(why.startswith(FATAL) for t in rejects for why in t["reason"].to_pylist()):
        decode = decode.alone()  # or the same image would end this process
    tolerance = TOLERANCE[manifest.precision]
    for dataset, of_set in _drawn(run, prepared, manifest, sample, draw).items():
        ranges = itertools.chain.from_iterable(d.ranges(decode.chunk_size) for d in of_set)
        rows, elsewhere = rows_between(run, _parts(run, manifest, dataset), ranges), []
        for drawn in of_set:
            for chunk, near in zip(_read(decode, drawn), rows, strict=False):
                if chunk is None:
                    continue
                again = predict(chunk, score(chunk))
                stored = _stored(near, again)
                there = pc.is_in(again["sample_id"], value_set=pa.array(stored, pa.string()))
                yield from _of_rows(drawn.shard, again.filter(there), stored, tolerance)
                if len(stored) < again.num_rows:
                    elsewhere.append((drawn.shard, again.filter(pc.invert(there))))
        if elsewhere:  # where rows are in another order, or are not there
            tables = run.parts.read("predictions", f"dataset={dataset}")
            stored = _stored(tables, pa.concat_tables([again for _, again in elsewhere]))
            for shard, again in elsewhere:
                yield from _of_rows(shard, again, stored, tolerance)


def _read(decode: DecodeImages, drawn: _Drawn) -> Iterator[Chunk | None]:
    """The drawn chunks of a shard, in their order; None for one that is there no more."""
    size = decode.chunk_size
    names = {chunk_name(drawn.shard, start) for start in drawn.starts}
    others = {chunk_name(drawn.shard, start) for start in range(0, drawn.read, size)} - names
    chunks = iter(decode(drawn.shard, others))
    chunk = next(chunks, None)
    for last, start in enumerate(drawn.starts, 1):
        if chunk is None or chunk.name != chunk_name(drawn.shard, start):
            yield None
            continue
        yield chunk
        chunk = next(chunks, None) if last < len(drawn.starts) else None  # the rest is not read


def _drawn(
    run: RunDirectory, prepared: Prepared, manifest: Manifest, sample: float, draw: random.Random
) -> dict[str, list[_Drawn]]:
    """By data set and in the order of its shards: chunks with about `sample` of the samples."""
    size = prepared.job.compute.chunk_size
    whole = list(_whole(run, prepared, manifest))
    ends = list(itertools.accumulate(len(shard.starts) for shard in whole))  # in chunks
    chunks, wanted = ends[-1] if ends else 0, math.ceil(sample * sum(s.read for s in whole))
    found: dict[int, list[int]] = {}
    count = min(chunks, math.ceil(sample * chunks))
    while wanted > 0 and count:
        left, found = wanted, {}
        for chunk in draw.sample(range(chunks), count):
            if left <= 0:
                break
            place = bisect.bisect_right(ends, chunk)
            start = whole[place].starts[chunk - ends[place]]  # counted from its last
            found.setdefault(place, []).append(start)
            left -= min(size, whole[place].read - start)
        if left <= 0 or count == chunks:
            break
        count = min(chunks, 2 * count)  # many of them were a shard's last, which are smaller
    drawn: dict[str, list[_Drawn]] = {}
    for place, starts in sorted(found.items()):
        shard = replace(whole[place], starts=sorted(starts))
        drawn.setdefault(shard.shard.dataset, []).append(shard)
    return drawn


def _whole(run: RunDirectory, prepared: Prepared, manifest: Manifest) -> Iterator[_Drawn]:
    """All chunks of the shards whose files are still as they were when they were scored."""
    for dataset, shards in prepared.shards.items():
        now = _files_now(prepared, dataset) if run.batch else {}
        place = 0
        for shard, entry in zip(shards, manifest.inputs[dataset], strict=True):
            read = entry.rows + entry.rejects
            # those of a run that is no batch have been compared, all of them
            if not run.batch or all(now.get(file) == at for file, at in shard.files.items()):
                yield _Drawn(
                    shard=shard,
                    read=read,
                    rows=entry.rows,
                    place=place,
                    starts=range(0, read, prepared.job.compute.chunk_size),
                )
            place += entry.rows


def _files_now(prepared: Prepared, dataset: str) -> dict[str, tuple[int, str]]:
    shards = prepared.sources[dataset].shards()
    return {file: at for shard in shards for file, at in shard.files.items()}


def _parts(run: RunDirectory, manifest: Manifest, dataset: str) -> list[Part]:
    """Of a data set's predictions, in the order of their rows."""
    folder = run.parts.folder("predictions", f"dataset={dataset}")
    parts = [output for output in manifest.outputs if isinstance(output, Part)]
    found = [part for part in parts if posixpath.dirname(part.path) == folder]
    return sorted(found, key=lambda part: part.path)


def _stored(tables: Iterable[pa.Table], again: pa.Table) -> dict[str, dict[str, Any]]:
    """The rows of these samples in the run's predictions, by id."""
    ids = again["sample_id"].combine_chunks()
    return {
        row["sample_id"]: row
        for table in tables
        for row in table.filter(pc.is_in(table["sample_id"], value_set=ids)).to_pylist()
    }


def _of_rows(
    shard: Shard, again: pa.Table, stored: Mapping[str, Mapping[str, Any]], tolerance: float
) -> Iterator[str]:
    told = 0
    for row in again.to_pylist():
        there = stored.get(row["sample_id"])
        if there is not None and there[SAMPLED] is None:
            row.pop(SAMPLED)  # which rows it samples depends on the batch's shards as they were
        where = f"sample '{row['sample_id']}' of data set '{shard.dataset}'"
        if there is None:
            line = f"{where} has no prediction"
        elif nothing := [k for k in row if _is_no_number(k, there)]:
            line = f"{where}: {nothing[0]} is no number"
        elif differing := [k for k in row if not _same(row[k], there[k], tolerance)]:
            column = differing[0]
            line = f"{where}: {column} is {there[column]}, scored again {row[column]}"
        else:
            continue
        told += 1
        if told > SHOWN_ROWS:
            yield f"and more samples of shard '{shard.name}'"
            return
        yield line


def _is_no_number(column: str, row: Mapping[str, Any]) -> bool:
    """NaN or an infinity, where it does not stand for a missing label."""
    value = row[column]
    if value is None or isinstance(value, str):
        return False
    if row["label"] is None and column.rpartition("_")[2] in FIGURES_OF_LABELS:
        return False
    return not np.isfinite(np.asarray(value, dtype=np.float64)).all()


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if one is None or other is None or isinstance(one, str):
        return bool(one == other)
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "i":
        return bool((a == b).all())
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))
