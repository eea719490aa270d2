"""A run directory that grows: which shards are new, and which rows a changed one replaces.

    <run_dir>/fingerprint.json  job.yaml                  of all batches
              batches/2026-11-25T0600/                    a run of its own, for one batch
                      shards.jsonl                        what it scores, file by file
              predictions/dataset=NAME/batch=2026-11-25T0600/*.parquet
              report.html                                 all batches side by side
              manifest.json                               written last: nothing is under way

The ledger is the `shards.jsonl` of the batches that have a manifest: each file by data set, path,
size and version (etag, or time of the last change). A file that it does not hold as it is now is
scored in the next batch. What was scored before stays, though its file may be gone by now, until a
batch has scored a changed file: then the old rows are taken out of the older batch. Each of these
steps can be done again, so a run that is killed anywhere is put right by the next one.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray.datasets import Shard, Source
from dawin_ray.manifest import input_of, sealed
from dawin_ray.runs import BATCHES, MANIFEST, MIXTURE, SHARDS, RunDirectory
from dawin_ray.storage import join

BATCH_NAME = "%Y-%m-%dT%H%M"  # UTC
MINUTE = 60  # seconds; a batch's name has none, so two of one minute need two

Files = dict[str, dict[str, tuple[int, str]]]  # data set -> file -> its bytes and version


class Series:
    """The batches of a run directory. Methods that write want its lock to be held."""

    def __init__(self, address: str):
        """Touches nothing yet."""
        self.address = address
        self.run = RunDirectory(address)

    def exists(self) -> bool:
        """Whether the directory is one that grows."""
        return self.run.exists(BATCHES)

    def batch(self, name: str) -> RunDirectory:
        """The run of a batch, which may not be there yet."""
        return RunDirectory(join(self.address, BATCHES, name), series=self.address)

    def batches(self, *, finished: bool | None = True) -> list[RunDirectory]:
        """Those that have a manifest, those that have none, or (None) all; the oldest first."""
        found = map(self.batch, self.run.folders(BATCHES))
        return [b for b in found if finished is None or b.exists(MANIFEST) == finished]

    def begun(self) -> RunDirectory | None:
        """The batch that was begun and is not finished, if any."""
        return next(iter(self.batches(finished=False)), None)

    def unscored(self, sources: Mapping[str, Source]) -> dict[str, tuple[Shard, ...]]:
        """Shards of the files that no finished batch has scored as they are, by data set."""
        scored: Files = {}
        for batch in self.batches():
            for dataset, shards in shards_of(batch).items():
                for shard in shards:
                    scored.setdefault(dataset, {}).update(shard.files)
        found = {}
        for dataset, source in sources.items():
            known = scored.get(dataset, {})
            shards = source.shards(
                lambda name, size, version, known=known: known.get(name) != (size, version)
            )
            if shards:
                found[dataset] = shards
        return found

    def begin(self, shards: Mapping[str, tuple[Shard, ...]]) -> RunDirectory:
        """A batch for these shards: that which was begun, or a new one.

        Of one that was begun before, the work on shards that are still the same is kept.
        """
        batch = self.begun()
        if batch is not None:
            batch.remove_parts()
            batch.remove(MIXTURE)  # it is of the rows that there were
            new = {(s.dataset, s.key): s.to_json() for of_set in shards.values() for s in of_set}
            for of_set in shards_of(batch).values():
                for old in of_set:
                    if new.get((old.dataset, old.key)) != old.to_json():
                        batch.remove_shard(old.dataset, old.key)
        else:
            batch = self.batch(_name_after(self.run.folders(BATCHES)))
        _write_shards(batch, shards)
        return batch

    def abandon(self) -> None:
        """Delete a batch that was begun, as all that it was to score is gone or scored."""
        if (batch := self.begun()) is not None:
            batch.remove_parts()
            fs, path = batch.path()
            fs.rm(path, recursive=True)

    def settle(self) -> int:
        """Take rows out of older batches whose files a younger one has scored; how many files."""
        younger: dict[str, set[str]] = {}
        count = 0
        for batch in reversed(self.batches()):
            shards = shards_of(batch)
            files = {d: {f for s in of_set for f in s.files} for d, of_set in shards.items()}
            again = {d: names & younger.get(d, set()) for d, names in files.items()}
            if any(again.values()):
                _take_out(batch, shards, again)
                count += sum(map(len, again.values()))
            for dataset, names in files.items():
                younger.setdefault(dataset, set()).update(names)
        return count

    def finish(self, code: str) -> None:
        """Write the manifest of the whole: the seals of its batches."""
        seals = {batch.batch: batch.read_json(MANIFEST)["seal"] for batch in self.batches()}
        self.run.write_json(MANIFEST, sealed({"code": code, "batches": seals}))


def _name_after(names: Sequence[str]) -> str:
    """The minute it is, or the first one after all `names`.

    The order of the names is that of the batches, even where a clock was wrong.
    """
    name = time.strftime(BATCH_NAME, time.gmtime())
    if names and name <= max(names):
        last = calendar.timegm(time.strptime(max(names), BATCH_NAME))
        name = time.strftime(BATCH_NAME, time.gmtime(last + MINUTE))
    return name


def shards_of(batch: RunDirectory) -> dict[str, list[Shard]]:
    """What a batch scores, by data set; nothing where it was killed before it knew."""
    found: dict[str, list[Shard]] = {}
    if batch.exists(SHARDS):
        for line in batch.read_text(SHARDS).splitlines():
            shard = Shard.from_json(line)
            found.setdefault(shard.dataset, []).append(shard)
    return found


def _write_shards(batch: RunDirectory, shards: Mapping[str, Collection[Shard]]) -> None:
    lines = [shard.to_json() + "\n" for of_set in shards.values() for shard in of_set]
    batch.write_text(SHARDS, "".join(lines))


def _take_out(
    batch: RunDirectory, shards: Mapping[str, list[Shard]], again: Mapping[str, set[str]]
) -> None:
    """Remove the rows of files that were scored again from a batch: parts, manifest, ledger.

    The ledger goes last: until then the same is done once more.
    """
    manifest = batch.read_json(MANIFEST)
    described = {output["path"]: output for output in manifest["outputs"]}
    left = {
        dataset: [kept for shard in of_set if (kept := shard.without(again[dataset]))]
        for dataset, of_set in shards.items()
    }

    def rewrite(folder: tuple[str, ...], keep: Callable[[pa.Table], pa.Array]) -> None:
        described.update((part["path"], part) for part in batch.rewrite_parts(folder, keep))

    rewrite(("rejects",), lambda table: pc.invert(_of_files(table, shards, again)))
    for dataset in shards:
        for kind in ("experts", "predictions"):
            folder = (kind, f"dataset={dataset}")
            rewrite(folder, lambda table, d=dataset: pc.invert(_of_files(table, shards, again, d)))
    inputs, rows = manifest["inputs"], manifest["rows"]
    for dataset, of_set in left.items():
        inputs[dataset] = _inputs(batch, dataset, of_set, inputs[dataset])
        rows[dataset] = {
            "predictions": sum(entry["rows"] for entry in inputs[dataset]),
            "rejects": sum(entry["rejects"] for entry in inputs[dataset]),
        }
    batch.write_json(MANIFEST, sealed({**manifest, "outputs": list(described.values())}))
    _write_shards(batch, left)


def _of_files(
    table: pa.Table,
    shards: Mapping[str, list[Shard]],
    files: Mapping[str, Collection[str]],
    dataset: str | None = None,
) -> pa.Array:
    """Which rows are of some files; `dataset` is that of a table without such a column."""
    mask = pa.array(np.zeros(table.num_rows, dtype=bool))
    for name in files if dataset is None else [dataset]:
        ids = table["sample_id"]
        if shards[name][0].format == "folder":
            found = pc.is_in(ids, value_set=pa.array(sorted(files[name]), pa.string()))
        else:
            found = pa.array(np.zeros(table.num_rows, dtype=bool))
            for file in files[name]:
                found = pc.or_(found, pc.starts_with(ids, f"{file}/"))
        if dataset is None:
            found = pc.and_(found, pc.equal(table["dataset"], name))
        mask = pc.or_(mask, found)
    return mask


def _inputs(
    batch: RunDirectory, dataset: str, shards: list[Shard], before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The manifest's entries for what is left of a data set's shards."""
    known = {entry["shard"]: entry for entry in before}
    rejected: set[str] | None = None
    entries = []
    for shard in shards:
        entry = known[shard.name]
        if entry["version"] != shard.version:  # a folder's, of which some images are gone
            if rejected is None:
                tables = batch.read_parts("rejects", columns=["dataset", "sample_id"])
                rejected = {
                    row["sample_id"]
                    for table in tables
                    for row in table.to_pylist()
                    if row["dataset"] == dataset
                }
            lost = sum(name in rejected for name in shard.files)
            entry = input_of(shard, len(shard.files) - lost, lost)
        entries.append(entry)
    return entries
