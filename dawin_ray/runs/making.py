"""How a part is made of its chunks: read in bulk, counted, compared, written, and noted.

Each is a task of its own, so whoever has the plan may make them in any order, at once, and again:
what is there and as it was made stays.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dawin_ray import tables
from dawin_ray.runs.broken import broken_shards
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.ledger import RowsLostError
from dawin_ray.runs.part_records import (
    ExpertsPart,
    PredictionsPart,
    ShardCount,
    content_of_experts,
    find_part,
    names_name,
    summary_name,
    write_part_record,
)
from dawin_ray.runs.parts import grouped
from dawin_ray.runs.planning import PartPlan, Piece
from dawin_ray.runs.scored import Compared, rows_of
from dawin_ray.runs.spread import write_names
from dawin_ray.runs.summing import write_summary
from dawin_ray.runs.usable import kind_of_reason
from dawin_ray.statistics import Summary, hashes_of, sum_of_hashes
from dawin_ray.storage import open_parquet
from dawin_ray.tables import EXPERTS, PREDICTIONS, REJECTS, Kind

_NO_HASHES = hashes_of([])

KEPT_REASONS = 100  # kinds of reasons of a part's rejects that its record has


@dataclass(frozen=True)
class _Chunk:
    piece: Piece
    name: str
    counts: tuple[int, int] | None  # rows and rejects, where the mark has them

    @property
    def file(self) -> tuple[str, str]:
        return self.piece.key, self.name


@dataclass
class _Made:
    """What is learnt of a part's chunks while its rows are written."""

    rows: list[int] = field(default_factory=list)  # of each chunk
    shards: list[ShardCount] = field(default_factory=list)
    rejects: list[pa.Table] = field(default_factory=list)
    ids: list[np.ndarray] = field(default_factory=list)  # sums of hashes of each chunk's rows
    names: list[np.ndarray] = field(default_factory=list)  # hashes, of the piece of a large shard


def make_experts(run: RunDirectory, plan: PartPlan) -> ExpertsPart:
    """The part's rows of pass 1 and its rejects; what its record says.

    Raises:
        UserError: a chunk's file is lost or damaged; it is made again by the same command.
        RowsLostError: a chunk has other rows than its mark says, or names are not unique.
    """
    chunks = _chunks_of(run, "experts", plan)
    digest = _digest_of(chunks)
    if (found := find_part(run, "experts", ExpertsPart, plan, digest)) is not None:
        return found
    made = _Made()
    rows = _rows_of(run, plan, chunks, made)
    experts = run.parts.write(("experts", f"dataset={plan.dataset}"), EXPERTS, rows, plan.number)
    rejects = None
    if made.rejects or not plan.place:  # the first one has the columns at least
        rejects = run.parts.write(("rejects",), REJECTS, made.rejects, plan.place)
    names = None
    if not all(piece.is_whole for piece in plan.pieces):
        names = write_names(run, names_name(plan), np.concatenate([_NO_HASHES, *made.names]))
    reasons: Counter[str] = Counter()
    for table in made.rejects:
        reasons.update(map(kind_of_reason, table["reason"].to_pylist()))
    record = ExpertsPart(
        chunks=digest,
        experts=experts,
        ids=_pair(np.sum([sum_of_hashes(_NO_HASHES), *made.ids], axis=0)),
        names=names,
        rejects=rejects,
        shards=tuple(made.shards),
        rows_of_chunks=tuple(made.rows),
        reasons=dict(reasons.most_common(KEPT_REASONS)),
        first=_first_of(made.rejects),
        broken=tuple(broken_shards(made.rejects, counted=plan.counted)),
    )
    write_part_record(run, "experts", plan, record)
    return record


def make_predictions(
    run: RunDirectory, compared: Compared, item: tuple[PartPlan, ExpertsPart]
) -> PredictionsPart:
    """The part's rows of pass 2, which are those of pass 1, and a summary; what its record says.

    Raises:
        UserError: a chunk's file or the part of pass 1 is lost or damaged; it is made again by the
            same command.
        RowsLostError: the samples are not those of pass 1.
    """
    plan, first = item
    chunks = _chunks_of(run, "predictions", plan)
    digest = _digest_of(chunks)
    if digest != first.chunks:
        raise RowsLostError(f"{_name_of(run, plan)}: pass 2 has other chunks than pass 1")
    found = find_part(run, "predictions", PredictionsPart, plan, digest)
    experts = open_parquet(pa.BufferReader(content_of_experts(run, first)))
    if found is not None:
        return found
    summaries = [Summary.identity(compared.experts, compared.methods)]
    rows = _summed(run, plan, experts, _counted(run, plan, chunks, first), compared, summaries)
    folder = ("predictions", f"dataset={plan.dataset}")
    predictions = run.parts.write(folder, PREDICTIONS, rows, plan.number)
    if predictions.rows != first.experts.rows:
        raise RowsLostError(
            f"{_name_of(run, plan)}: {first.experts.rows} samples were scored in pass 1, and "
            f"{predictions.rows} in pass 2"
        )
    summary = write_summary(run, summary_name(plan), Summary.merge(summaries))
    record = PredictionsPart(chunks=digest, predictions=predictions, summary=summary)
    write_part_record(run, "predictions", plan, record)
    return record


def log_expertise_of(run: RunDirectory, part: ExpertsPart) -> Iterator[np.ndarray]:
    """ln e of a part's samples float32 [B, M], chunk by chunk, as the passes made them.

    Raises:
        UserError: the part is lost or damaged; it is made again by the same command.
    """
    file = open_parquet(pa.BufferReader(content_of_experts(run, part)))
    column = file.read(["log_expertise"])["log_expertise"]
    if part.experts.rows:
        values_NM = tables.rows_of(column, len(column[0]))
        ends = np.cumsum(part.rows_of_chunks)
        yield from (batch for batch in np.split(values_NM, ends[:-1]) if len(batch))


def _chunks_of(run: RunDirectory, kind: Kind, plan: PartPlan) -> list[_Chunk]:
    marks = run.work.read_marks(kind, plan.dataset, [piece.key for piece in plan.pieces])
    return [
        _Chunk(piece, name, mark.chunks[name])
        for piece, mark in zip(plan.pieces, marks, strict=True)
        for name in sorted(mark.chunks)[piece.first : piece.last]
    ]


def _digest_of(chunks: Sequence[_Chunk]) -> str:
    names = json.dumps([chunk.file for chunk in chunks])
    return hashlib.sha256(names.encode()).hexdigest()


def _rows_of(
    run: RunDirectory, plan: PartPlan, chunks: Sequence[_Chunk], made: _Made
) -> Iterator[pa.Table]:
    """The chunks' tables, once they are counted; behind a shard's its names, which are unique."""
    refused = _rejects_of(run, plan, chunks)
    found = run.work.read_many("experts", plan.dataset, [chunk.file for chunk in chunks])
    for piece, of_piece in groupby(chunks, key=lambda chunk: chunk.piece):
        ids: list[pa.ChunkedArray] = []
        rows = 0
        for chunk in of_piece:
            table, rejects = next(found), refused.get(chunk.file, REJECTS.empty_table())
            counts = table.num_rows, rejects.num_rows
            if chunk.counts is not None and counts != tuple(chunk.counts):
                raise RowsLostError(
                    f"{_name_of(run, plan, piece)}: of chunk {chunk.name} {chunk.counts[0]} "
                    f"samples were scored and {chunk.counts[1]} rejected, but there are "
                    f"{counts[0]} rows and {counts[1]} rejects"
                )
            made.rows.append(table.num_rows)
            rows += table.num_rows
            ids += [table["sample_id"], rejects["sample_id"]]
            hashes = hashes_of(table["sample_id"].to_pylist())
            made.ids.append(sum_of_hashes(hashes))
            if not piece.is_whole:
                made.names += [hashes, hashes_of(rejects["sample_id"].to_pylist())]
            if rejects.num_rows:
                made.rejects.append(rejects)
            yield tables.completed(table, EXPERTS)
        count = sum(map(len, ids))
        distinct = pc.count_distinct(
            pa.chunked_array([c for i in ids for c in i.chunks], pa.string())
        )
        if distinct.as_py() != count:
            raise RowsLostError(
                f"{_name_of(run, plan, piece)}: {count} samples have only {distinct} names"
            )
        made.shards.append(ShardCount(key=piece.key, rows=rows, rejects=count - rows))


def _rejects_of(
    run: RunDirectory, plan: PartPlan, chunks: Sequence[_Chunk]
) -> dict[tuple[str, str], pa.Table]:
    """The rejects of each chunk that has some, in the order of chunks."""
    known = [chunk.file for chunk in chunks if chunk.counts is not None and chunk.counts[1]]
    unknown = [chunk.file for chunk in chunks if chunk.counts is None]
    there = {*known, *run.work.committed("rejects", plan.dataset, unknown)}
    files = [chunk.file for chunk in chunks if chunk.file in there]
    return dict(zip(files, run.work.read_many("rejects", plan.dataset, files), strict=True))


def _counted(
    run: RunDirectory, plan: PartPlan, chunks: Sequence[_Chunk], first: ExpertsPart
) -> Iterator[pa.Table]:
    """The predictions of each chunk, as many as pass 1 had rows."""
    found = run.work.read_many("predictions", plan.dataset, [chunk.file for chunk in chunks])
    for chunk, rows, table in zip(chunks, first.rows_of_chunks, found, strict=True):
        if table.num_rows != rows:
            raise RowsLostError(
                f"{_name_of(run, plan, chunk.piece)}: of chunk {chunk.name} {rows} samples were "
                f"scored in pass 1, but there are {table.num_rows} predictions"
            )
        yield table


def _summed(
    run: RunDirectory,
    plan: PartPlan,
    experts: pq.ParquetFile,
    chunks: Iterable[pa.Table],
    compared: Compared,
    summaries: list[Summary],
) -> Iterator[pa.Table]:
    """Row groups of predictions, whose samples are those of pass 1's; their summary behind them."""
    for number, group in enumerate(grouped(chunks)):
        beside = experts.read_row_group(number, columns=compared.of_experts)
        try:
            summary = Summary.of(rows_of(beside, group, compared))
        except ValueError as error:
            raise RowsLostError(f"{_name_of(run, plan)}: {error}") from error
        summaries[:] = [Summary.merge([*summaries, summary])]
        yield group


def _pair(sums: np.ndarray) -> tuple[int, int]:
    return int(sums[0]), int(sums[1])


def _first_of(rejects: Sequence[pa.Table]) -> tuple[str, str] | None:
    if not rejects:
        return None
    row = rejects[0].select(["sample_id", "reason"]).slice(0, 1).to_pylist()[0]
    return row["sample_id"], row["reason"]


def _name_of(run: RunDirectory, plan: PartPlan, piece: Piece | None = None) -> str:
    """For people: the shard, or the part's shards."""
    first, *others = plan.pieces
    shard = first.shard if piece is None else piece.shard
    more = f" and {len(others)} more" if others and piece is None else ""
    return f"shard '{shard}'{more} of data set '{plan.dataset}' in {run.address}"
