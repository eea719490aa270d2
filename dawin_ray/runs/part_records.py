"""What is noted of each part that is made, so that a run that was killed need not make it again.

    work/parts/experts/<data set>/part-00000.json         behind the part and its rejects
    work/parts/experts/<data set>/part-00000.names        before it; see `spread`
    work/parts/predictions/<data set>/part-00000.json     behind the part and its summary

A record holds for a part while the part is of the same chunks and its files have the same hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.records import Record, write_record
from dawin_ray.runs.broken import BrokenShard
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Output, Part
from dawin_ray.runs.layout import WORK
from dawin_ray.runs.planning import PartPlan
from dawin_ray.runs.work import MADE_AGAIN
from dawin_ray.storage import join
from dawin_ray.tables import Kind


@dataclass(frozen=True, kw_only=True)
class ShardCount:
    """Rows and rejects of a shard, or of the piece of it that a part has."""

    key: str
    rows: int
    rejects: int


@dataclass(frozen=True, kw_only=True)
class ExpertsPart:
    """A part of the first pass: what came of its samples."""

    VERSION: ClassVar[int] = 2
    chunks: str  # a hash of their names
    experts: Part
    ids: tuple[int, int]  # `sum_of_hashes` of its rows' ids
    names: Output | None  # of a shard that other parts have pieces of too
    rejects: Part | None  # None where there are none
    shards: tuple[ShardCount, ...]
    rows_of_chunks: tuple[int, ...]
    reasons: dict[str, int]  # the most frequent kinds of reasons of rejects
    first: tuple[str, str] | None  # id and reason of the first reject
    broken: tuple[BrokenShard, ...]

    @property
    def outputs(self) -> tuple[Part, ...]:
        """Its files."""
        return (self.experts,) if self.rejects is None else (self.experts, self.rejects)

    def check(self, run: RunDirectory) -> None:
        """Its files are there as they were made. Raises as `RunFolder.content`."""
        for part in self.outputs:
            run.parts.content(part)
        if self.names is not None:
            run.content(run.path(self.names.path), self.names)


@dataclass(frozen=True, kw_only=True)
class PredictionsPart:
    """A part of the second pass."""

    VERSION: ClassVar[int] = 1
    chunks: str
    predictions: Part

    summary: Output

    @property
    def outputs(self) -> tuple[Part, ...]:
        """Its file among those of the run."""
        return (self.predictions,)

    def check(self, run: RunDirectory) -> None:
        """Its files are there as they were made. Raises as `RunFolder.content`."""
        run.parts.content(self.predictions)
        run.content(run.path(self.summary.path), self.summary)


class _PartRecord(Record, Protocol):
    @property
    def chunks(self) -> str: ...
    def check(self, run: RunDirectory) -> None: ...


R = TypeVar("R", bound=_PartRecord)


def write_part_record(
    run: RunDirectory, kind: Kind, plan: PartPlan, record: ExpertsPart | PredictionsPart
) -> None:
    """Note that a part is made; behind its files."""
    run.write(run.path(record_name(kind, plan)), write_record(record))


def find_part(
    run: RunDirectory, kind: Kind, record: type[R], plan: PartPlan, chunks: str
) -> R | None:
    """A part that is there as it was made, and of the same chunks; None where it is not."""
    try:
        found = run.read_record(record, record_name(kind, plan))
        if found.chunks == chunks:
            found.check(run)
            return found
    except (FileNotFoundError, UserError):
        pass
    return None


def content_of_experts(run: RunDirectory, part: ExpertsPart) -> bytes:
    """The Parquet file of a part of pass 1, as it was made.

    Raises:
        UserError: it is lost or damaged; it is made again by the same command.
    """
    try:
        return run.parts.content(part.experts)
    except (FileNotFoundError, DamagedFileError) as error:
        what = f"damaged ({error.reason})" if isinstance(error, DamagedFileError) else "missing"
        address = join(run.root, part.experts.path)
        raise UserError(f"The file {address!r} of this run is {what}. {MADE_AGAIN}") from error


def record_name(kind: Kind, plan: PartPlan) -> str:
    """Where a part's record is."""
    return join(WORK, "parts", kind, plan.dataset, f"part-{plan.number:05d}.json")


def names_name(plan: PartPlan) -> str:
    """Where the names of a part are, if they are kept."""
    return record_name("experts", plan).removesuffix(".json") + ".names"


def summary_name(plan: PartPlan) -> str:
    """Where the summary of a part is."""
    return record_name("predictions", plan).removesuffix(".json") + ".summary"
