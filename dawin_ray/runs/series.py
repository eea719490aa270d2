"""A run directory that grows: which shards are new, and which rows a changed one replaces.

    <run_dir>/fingerprint.json  job.yaml                  of all batches
              ledger.json                                 which batches there are (batch_ledger.py)
              batches/2026-11-25T0600/                    a run of its own, for one batch
                      shards.jsonl                        what it scores, file by file
              predictions/dataset=NAME/batch=2026-11-25T0600/*.parquet
              report.html                                 all batches side by side
              manifest.json                               written last: nothing is under way

What is scored is in the `shards.jsonl` of the finished batches: each file by data set, path, size
and version (etag, or time of the last change). A file that they do not hold as it is now is scored
in the next batch, and so is an image that could not be read then and can be now. What was scored
before stays, though its file may be gone by now, until a batch has scored a changed file: then the
old rows are taken out of the older batch. Each of these steps can be done again, so a run that is
killed anywhere is put right by the next one.

Only what the ledger names is a batch. One of them that has lost a file, or of which one is not what
it was, stops the run; a folder that it does not name is left alone.
"""

from __future__ import annotations

import calendar
import io
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dawin_ray.data import FORMATS, GrowingFiles, Shard, Source
from dawin_ray.errors import UserError
from dawin_ray.runs.batch_ledger import BatchLedger, name_of
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import Output, Part, output_of
from dawin_ray.runs.inventory import files_of
from dawin_ray.runs.layout import (
    BATCHES,
    CSV,
    FINGERPRINT,
    JOB,
    LEDGER,
    MANIFEST,
    MIXTURE,
    PAGE,
    SHARDS,
    is_ours,
)
from dawin_ray.runs.lookup import Lookup
from dawin_ray.runs.manifest import Input, Manifest, Rows, SeriesManifest
from dawin_ray.storage import Fence, delete, files_below, filesystem, join
from dawin_ray.tables import OF_DATASETS

BATCH_NAME = "%Y-%m-%dT%H%M"  # UTC

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{4}")

ANOTHER = -1, ""  # bytes and version that no file has

UNREAD = "cannot be read:"  # begins the reason of a reject that may be none the next time

MINUTE = 60  # seconds; a batch's name has none, so two of one minute need two


class Series:
    """The batches of a run directory. Methods that write want its lock to be held."""

    def __init__(self, address: str, fence: Fence | None = None):
        """Touches nothing yet; its writes pass the `fence`."""
        self.address, self.fence = address, fence
        self.run = RunDirectory(address, fence=fence)

    def exists(self) -> bool:
        """Whether the directory is one that grows."""
        return self.run.grows()

    def batch(self, name: str) -> RunDirectory:
        """The run of a batch, which may not be there yet."""
        address = join(self.address, BATCHES, name)
        return RunDirectory(address, series=self.address, fence=self.fence)

    def names(self) -> list[str]:
        """Of all batches: those that the ledger lists, and one that is under way."""
        ledger = BatchLedger.read(self.run)
        return sorted({*ledger.batches, *filter(None, [ledger.under_way])})

    def names_to_clear(self) -> list[str]:
        """As `names`; where the ledger is damaged, those of the folders that are called so."""
        try:
            return self.names() if self.exists() else []
        except UserError:
            return [name for name in self.run.folders(BATCHES) if _NAME.fullmatch(name)]

    def batches(self) -> list[RunDirectory]:
        """Those that are finished, the oldest first.

        Raises:
            UserError: one of them has lost a file or was changed, or the ledger was.
        """
        ledger = BatchLedger.read(self.run)
        found = [self.batch(name) for name in sorted(ledger.batches)]
        if ledger.under_way is not None:
            begun = self.batch(ledger.under_way)
            found += [begun] if begun.exists(MANIFEST) else []
        for batch in found:
            ledger.check(batch)
        return sorted(found, key=name_of)

    def strangers(self) -> list[str]:
        """Names in batches/ that are none of the directory's batches."""
        fs, path = self.run.path(BATCHES)
        return sorted({name.split("/")[0] for name in files_below(fs, path)} - set(self.names()))

    def begun(self) -> RunDirectory | None:
        """The batch that was begun and is not finished, if any."""
        name = BatchLedger.read(self.run).under_way
        batch = None if name is None else self.batch(name)
        return None if batch is None or batch.exists(MANIFEST) else batch

    def unscored(self, sources: Mapping[str, Source]) -> dict[str, tuple[Shard, ...]]:
        """Shards of the files that no finished batch has scored as they are, by data set."""
        scored = {dataset: GrowingFiles() for dataset in sources}
        for batch in self.batches():
            shards = shards_of(batch)
            of_batch = files_of(shards)
            for dataset in of_batch.keys() & scored.keys():
                for name, (size, version) in of_batch[dataset].items():
                    scored[dataset].add(name, size, version)
            for dataset, name in _unread(batch, shards):
                if dataset in sources and _can_be_read(sources[dataset], name):
                    scored[dataset].add(name, *ANOTHER)
        found = {}
        for dataset, source in sources.items():
            known = Lookup(scored[dataset])
            if of_set := source.shards(partial(_is_other, known)):
                found[dataset] = of_set
        return found

    def begin(self, shards: Mapping[str, tuple[Shard, ...]]) -> RunDirectory:
        """A batch for these shards: that which was begun, or a new one.

        Of one that was begun before, the work on shards that are still the same is kept.
        """
        self.adopt()
        batch = self.begun()
        if batch is not None:
            batch.parts.remove()
            batch.remove(MIXTURE)  # it is of the rows that there were
            new = {(s.dataset, s.key): s.to_json() for of_set in shards.values() for s in of_set}
            for of_set in shards_of(batch).values():
                for old in of_set:
                    if new.get((old.dataset, old.key)) != old.to_json():
                        batch.work.remove_shard(old.dataset, old.key)
        else:
            ledger = BatchLedger.read(self.run)
            names = {*self.run.folders(BATCHES), *ledger.batches}
            batch = self.batch(_name_after([name for name in names if _NAME.fullmatch(name)]))
            ledger.began(batch.batch).write(self.run)
        _write_shards(batch, shards)
        return batch

    def adopt(self) -> None:
        """List a batch that was under way and is finished."""
        ledger = BatchLedger.read(self.run)
        if ledger.under_way is not None:
            batch = self.batch(ledger.under_way)
            if batch.exists(MANIFEST):
                ledger.check(batch)
                ledger.knows(batch).write(self.run)

    def abandon(self) -> None:
        """Delete a batch that was begun, as all that it was to score is gone or scored."""
        if (batch := self.begun()) is not None:
            batch.parts.remove()
            fs, root = filesystem(self.address)
            name = name_of(batch)
            folder = join(BATCHES, name)
            found = [join(folder, path) for path in files_below(fs, join(root, folder))]
            delete(fs, root, [path for path in found if is_ours(path, [name])])
            BatchLedger.read(self.run).began(None).write(self.run)

    def settle(self) -> int:
        """Take rows out of older batches whose files a younger one has scored; how many files."""
        self.adopt()
        count, batches = 0, self.batches()
        last = _last_batches(batches)
        for place, batch in enumerate(batches[:-1]):
            shards = shards_of(batch)
            again = {
                dataset: {name for name in files if last[dataset].get(name) != (place, "")}
                for dataset, files in files_of(shards).items()
            }
            if any(again.values()):
                with self.altering(batch):
                    _take_out(batch, shards, again)
                count += sum(map(len, again.values()))
        for name in BatchLedger.read(self.run).altering:  # of a run that was killed at the end
            with self.altering(self.batch(name)):
                pass
        return count

    @contextmanager
    def altering(self, batch: RunDirectory) -> Iterator[None]:
        """Note that a batch is altered, before and after."""
        BatchLedger.read(self.run).alters(name_of(batch)).write(self.run)
        yield
        BatchLedger.read(self.run).knows(batch).write(self.run)

    def finish(self, code: str) -> None:
        """Write the manifest of the whole: seals of its batches, hashes of its own files."""
        self.adopt()
        noted = BatchLedger.read(self.run).batches
        own = (JOB, FINGERPRINT, LEDGER, PAGE, join(CSV, "drift.csv"))
        SeriesManifest(
            code=code,
            batches={name: of_batch.manifest for name, of_batch in sorted(noted.items())},
            outputs=tuple(self.run.describe(name) for name in own if self.run.exists(name)),
        ).write(self.run)


def _last_batches(batches: Sequence[RunDirectory]) -> dict[str, Lookup]:
    """The last batch that has scored each file, by its place; for each data set."""
    growing: dict[str, GrowingFiles] = {}
    for place, batch in enumerate(batches):
        for dataset, files in files_of(shards_of(batch)).items():
            for name in files:
                growing.setdefault(dataset, GrowingFiles()).add(name, place, "")
    return {dataset: Lookup(files) for dataset, files in growing.items()}


def _is_other(known: Lookup, name: str, size: int, version: str) -> bool:
    return known.get(name) != (size, version)


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
        try:
            for line in io.BytesIO(batch.read_bytes(SHARDS)):
                shard = Shard.from_json(line.decode())
                found.setdefault(shard.dataset, []).append(shard)
        except (ValueError, TypeError, KeyError) as error:
            raise batch.damaged(SHARDS, error) from error
    return found


def _text_of(shards: Mapping[str, Collection[Shard]]) -> str:
    return "".join(shard.to_json() + "\n" for of_set in shards.values() for shard in of_set)


def _write_shards(batch: RunDirectory, shards: Mapping[str, Collection[Shard]]) -> None:
    batch.write_text(SHARDS, _text_of(shards))


def _unread(
    batch: RunDirectory, shards: Mapping[str, Sequence[Shard]]
) -> Iterator[tuple[str, str]]:
    """Data sets and names of the images of folders that could not be read."""
    folders = {d for d, of_set in shards.items() if FORMATS[of_set[0].format].of_images}
    for table in batch.parts.read("rejects", columns=["dataset", "sample_id", "reason"]):
        for row in table.to_pylist():
            if row["dataset"] in folders and (row["reason"] or "").startswith(UNREAD):
                yield row["dataset"], row["sample_id"]


def _can_be_read(source: Source, name: str) -> bool:
    fs, root = filesystem(source.listing.root)
    try:
        with fs.open(join(root, name), "rb") as stream:
            stream.read(1)
    except Exception:  # noqa: BLE001  (every storage client has its own; it stays a reject)
        return False
    return True


def _take_out(
    batch: RunDirectory, shards: Mapping[str, list[Shard]], again: Mapping[str, set[str]]
) -> None:
    """Remove the rows of files that were scored again from a batch: parts, manifest, ledger.

    The ledger goes last: until then the same is done once more.
    """
    manifest = Manifest.read(batch)
    left = {
        dataset: [kept for shard in of_set if (kept := shard.without(again[dataset]))]
        for dataset, of_set in shards.items()
    }

    def others(dataset: str | None, table: pa.Table) -> pa.Array:
        return pc.invert(_of_files(table, shards, again, dataset))

    outputs: list[Part | Output] = []
    outputs += batch.parts.rewrite(("rejects",), partial(others, None))
    for dataset in shards:
        for kind in OF_DATASETS:
            folder = (kind, f"dataset={dataset}")
            outputs += batch.parts.rewrite(folder, partial(others, dataset))
    own = join(BATCHES, name_of(batch), SHARDS)
    if own in {output.path for output in manifest.outputs}:
        outputs.append(output_of(own, _text_of(left).encode()))
    entries = {
        dataset: _inputs(batch, dataset, of_set, manifest.inputs[dataset])
        for dataset, of_set in left.items()
    }
    replace(
        manifest.with_outputs(outputs),
        inputs={**manifest.inputs, **entries},
        rows={**manifest.rows, **{name: Rows.of(found) for name, found in entries.items()}},
    ).write(batch)
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
        found = FORMATS[shards[name][0].format].rows(table["sample_id"], files[name])
        if dataset is None:
            found = pc.and_(found, pc.equal(table["dataset"], name))
        mask = pc.or_(mask, found)
    return mask


def _inputs(
    batch: RunDirectory, dataset: str, shards: list[Shard], before: Sequence[Input]
) -> tuple[Input, ...]:
    """The manifest's entries for what is left of a data set's shards."""
    known = {entry.shard: entry for entry in before}
    rejected: set[str] | None = None
    entries = []
    for shard in shards:
        entry = known[shard.name]
        if entry.version != shard.version:  # a folder's, of which some images are gone
            if rejected is None:
                rejected = _rejected(batch, dataset)
            lost = sum(name in rejected for name in shard.files)
            entry = Input.of(shard, len(shard.files) - lost, lost)
        entries.append(entry)
    return tuple(entries)


def _rejected(batch: RunDirectory, dataset: str) -> set[str]:
    """Names of a data set's rejects."""
    return {
        row["sample_id"]
        for table in batch.parts.read("rejects", columns=["dataset", "sample_id"])
        for row in table.to_pylist()
        if row["dataset"] == dataset
    }
