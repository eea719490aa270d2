"""A finished run, opened to be looked at: its sealed Parquet files, names, fits and data."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dawin_ray.data import DatasetConfig, Shard, list_files, make_shards
from dawin_ray.errors import UserError
from dawin_ray.method import Mixture
from dawin_ray.models import Preprocessing
from dawin_ray.report import FinishedRun, Report
from dawin_ray.runs import FINGERPRINT, MANIFEST, Manifest, Part, RunDirectory, Series
from dawin_ray.storage import filesystem, is_local, join
from dawin_ray.tables import TABLES

OPEN_CLIP = "open_clip"  # its version, among a fingerprint's preprocessing


@dataclass(frozen=True, kw_only=True)
class SuiteRow:
    """What a run counted of a data set, over all of its batches."""

    dataset: str
    rows: int
    rejects: int
    labelled: int
    accuracy: Mapping[str, float | None]  # by method
    mean_coefficient: tuple[float, ...]  # [M]; empty without rows


@dataclass(frozen=True, kw_only=True)
class StoredPart:
    """A Parquet file of a run, and whose rows it has."""

    address: str
    dataset: str  # "" of rejects, which have it as a column
    batch: str


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """One run directory, with all its batches where it grows."""

    address: str
    number: int  # among those that are opened, from 0
    batches: Mapping[str, FinishedRun]  # by name; "" of a run that does not grow
    files: Mapping[str, Sequence[StoredPart]]  # by table
    rows: int
    suite: tuple[SuiteRow, ...]
    preprocessing: Preprocessing
    _shards: dict[str, tuple[Shard, ...]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, address: str, number: int = 0) -> OpenedRun:
        """A run directory.

        Raises:
            UserError: it is none, is unfinished or was changed.
        """
        run = RunDirectory.at(address)
        parts = {batch.batch or "": batch for batch in _finished(run)}
        batches = {name: FinishedRun.of(part) for name, part in parts.items()}
        files: dict[str, list[StoredPart]] = {kind: [] for kind in TABLES}
        rows = 0
        for batch, part in parts.items():
            for output in Manifest.read(part).outputs:
                kind, *folders = output.path.split("/")
                if isinstance(output, Part) and kind in files:
                    fs, path = part.output(output.path)
                    found = StoredPart(
                        address=path if is_local(fs) else fs.unstrip_protocol(path),
                        dataset="" if kind == "rejects" else folders[0].removeprefix("dataset="),
                        batch=batch,
                    )
                    files[kind].append(found)
                    rows += output.rows if kind == "predictions" else 0
        return cls(
            address=run.address,
            number=number,
            batches=batches,
            files=files,
            rows=rows,
            suite=_suite([Report.read(part) for part in parts.values()]),
            preprocessing=_preprocessing(run),
        )

    @property
    def last(self) -> FinishedRun:
        """The run, or its last batch: experts and classes are those of all."""
        return list(self.batches.values())[-1]

    @property
    def experts(self) -> tuple[str, ...]:
        """Their names, in the order of the columns."""
        return self.last.experts

    @property
    def datasets(self) -> tuple[str, ...]:
        """Their names, as the job has them."""
        return tuple(row.dataset for row in self.suite)

    @property
    def grows(self) -> bool:
        """Whether it has batches."""
        return "" not in self.batches

    @property
    def clusters(self) -> int:
        """The most that a data set's mixture has; 0 in the exact mode."""
        return max(
            (
                len(mixture.weights)
                for batch in self.batches.values()
                for mixture in batch.mixtures.values()
                if mixture is not None
            ),
            default=0,
        )

    def class_names(self, dataset: str) -> Sequence[str] | None:
        """Names of a data set's classes by number, where they are known."""
        of_batches = (batch.class_names.get(dataset) for batch in self.batches.values())
        return next((names for names in of_batches if names is not None), None)

    def mixture(self, dataset: str, batch: str = "") -> Mixture | None:
        """Of a data set in a batch; None in the exact mode, and of what there is not."""
        found = self.batches.get(batch)
        return None if found is None else found.mixtures.get(dataset)

    def config(self, dataset: str) -> DatasetConfig | None:
        """What the job says of a data set; None of one that it does not have."""
        return next((d for d in self.last.job.datasets if d.name == dataset), None)

    def shards(self, dataset: str) -> tuple[Shard, ...]:
        """A data set's shards as they lie now; listed when they are asked for first.

        Raises:
            UserError: the data are not where they were.
        """
        with self._lock:
            if dataset not in self._shards:
                config = self.config(dataset)
                assert config is not None, "asked for data sets that there are"
                listing = list_files(config, may_be_empty=True)
                self._shards[dataset] = tuple(make_shards(config, listing))
            return self._shards[dataset]

    def inputs(self, dataset: str) -> dict[str, tuple[int, str]]:
        """Bytes and version of the shards that were scored, by name."""
        return {
            entry.shard: (entry.bytes, entry.version)
            for batch in self.batches.values()
            for entry in Manifest.read(batch.run).inputs.get(dataset, ())
        }


def _finished(run: RunDirectory) -> list[RunDirectory]:
    """The run itself, or the batches of one that grows.

    Raises:
        UserError: it has not come to its end.
    """
    fs, path = filesystem(run.address, "run_dir")
    if not fs.exists(path):
        raise UserError(f"There is no run directory {run.address!r}: give that of a finished run.")
    if run.grows():
        if batches := Series(run.address).batches():
            return batches
        raise UserError(
            f"The run_dir {run.address!r} has no finished batch yet. Finish one with dawin-ray run."
        )
    if not run.exists(MANIFEST):
        raise UserError(
            f"The run in {run.address!r} is not finished, as it has no {MANIFEST}: only finished "
            "runs are shown. Finish it with dawin-ray run, or give another directory."
        )
    return [run]


def _preprocessing(run: RunDirectory) -> Preprocessing:
    """What the run made of an image.

    Raises:
        UserError: another version wrote it in another way.
    """
    try:
        values = dict(run.read_json(FINGERPRINT)["preprocessing"])
        values.pop(OPEN_CLIP, None)
        return Preprocessing.of(values)
    except (KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{join(run.address, FINGERPRINT)!r} tells no preprocessing that this version knows: "
            f"{error!r}. Show the run by the version of dawin_ray that scored it."
        ) from error


def _suite(reports: Sequence[Report]) -> tuple[SuiteRow, ...]:
    names = dict.fromkeys(row.dataset for report in reports for row in report.datasets)
    suite = []
    for name in names:
        found = [row for report in reports for row in report.datasets if row.dataset == name]
        labelled, rows = sum(r.labelled for r in found), sum(r.rows for r in found)
        accuracy: dict[str, float | None] = {}
        for method in dict.fromkeys(m for row in found for m in row.accuracy):
            right = sum((row.accuracy.get(method) or 0) * row.labelled for row in found)
            accuracy[method] = right / labelled if labelled else None
        shares = [(row.mean_coefficient, row.rows) for row in found if row.mean_coefficient]
        columns = zip(*([c * count for c in share] for share, count in shares), strict=True)
        suite.append(
            SuiteRow(
                dataset=name,
                rows=rows,
                rejects=sum(row.rejects for row in found),
                labelled=labelled,
                accuracy=accuracy,
                mean_coefficient=tuple(sum(c) / rows for c in columns) if rows else (),
            )
        )
    return tuple(suite)


def open_runs(addresses: Sequence[str]) -> tuple[OpenedRun, ...]:
    """Several run directories, in their order. Raises as `OpenedRun.of`."""
    return tuple(OpenedRun.of(address, number) for number, address in enumerate(addresses))


def folder_of(address: str) -> str:
    """A folder's end, for a title."""
    return join(*address.rstrip("/").split("/")[-2:])
