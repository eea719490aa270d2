"""The run directory: claim it, resume or refuse, read what it was made of, clear it.

    <run_dir>/job.yaml                                     the job, resolved
              fingerprint.json                             what the outputs depend on
              data.jsonl.gz                                the data's files, with size and version
              mixture.json                                 offsets and mixtures
              work/                                        while it runs (work.py)
              <kind>/dataset=NAME/part-00000.parquet       compacted; kind: experts, predictions
              rejects/part-00000.parquet                   samples that could not be used, and why
              report.json
              classes.json                                 names of the data sets' classes
              fit.json                                     the fits, for jobs that apply them
              audit.json  report.html  csv/                from the above, by `report` too
              manifest.json                                written last: the run is complete, and
                                                           these are the hashes of all its files

A run directory that grows (`mode: append`) holds a run of this kind for each batch, of which only
the compacted parts lie elsewhere, so that one read of `predictions/` has them all (see series.py):

    <run_dir>/job.yaml  fingerprint.json  ledger.json  manifest.json  report.html
              batches/<batch>/                             as above
              <kind>/dataset=NAME/batch=<batch>/part-00000.parquet
              rejects/batch=<batch>/part-00000.parquet
"""

from __future__ import annotations

import gzip
import json
import posixpath
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from dawin_ray.errors import UserError
from dawin_ray.records import take_version
from dawin_ray.runs import inventory
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.inventory import Files
from dawin_ray.runs.layout import (
    BATCHES,
    DATA,
    FINGERPRINT,
    FOLDERS,
    JOB,
    LEDGER,
    MANIFEST,
    MIXTURE,
    SHARDS,
    is_ours,
    is_temporary,
)
from dawin_ray.runs.parts import Parts
from dawin_ray.runs.work import Work
from dawin_ray.storage import LOCK, Fence, delete, files_below, filesystem, join, unreadable

State = Literal["new", "unfinished", "finished"]

VERSION = 1  # of fingerprint.json, whose other keys are what the job's outputs depend on

CLAIMED = (SHARDS, DATA)  # written before the fingerprint, which claims the directory

SHOWN_NAMES = 10  # of files that are not a run's

ABSENT = "absent"  # in the list of differences, of which MAX_DIFFERENCES are shown

MAX_DIFFERENCES = 20


class RunDirectory(RunFolder):
    """One run's outputs."""

    @classmethod
    def at(cls, address: str, fence: Fence | None = None) -> RunDirectory:
        """A run, or a batch where the address is `<run_dir>/batches/<batch>`."""
        above, folder, name = address.rstrip("/").rpartition(f"/{BATCHES}/")
        series = above if folder and name else None
        return cls(address.rstrip("/") if series else address, series=series, fence=fence)

    @property
    def work(self) -> Work:
        """What it has done so far, while it is under way."""
        return Work(self)

    @property
    def parts(self) -> Parts:
        """Its tables, when it has ended."""
        return Parts(self)

    def grows(self) -> bool:
        """Whether it is a directory of batches."""
        return self.exists(LEDGER) or (self.exists(BATCHES) and not self.exists(MIXTURE))

    def state(self, fingerprint: Mapping[str, Any], files: Files | None = None) -> State:
        """What is there, without claiming it; keys that `fingerprint` lacks are not compared.

        Raises:
            UserError: as `open`.
        """
        try:
            if not self.exists(FINGERPRINT):
                return "new"
            theirs = self.read_json(FINGERPRINT)
            take_version(theirs, VERSION, join(self.address, FINGERPRINT))
            finished = self.exists(MANIFEST)
        except UserError:
            raise
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        ours = json.loads(json.dumps(fingerprint))
        compared = {k: v for k, v in theirs.items() if k in ours}
        self._check_same(*({**values, "data": None} for values in (compared, ours)))
        self._check_data(files, finished)
        self._check_same(compared, ours)
        if finished:
            self.read_json(MANIFEST)  # a damaged one is told
        return "finished" if finished else "unfinished"

    def open(
        self,
        fingerprint: Mapping[str, Any],
        job_yaml: str,
        files: Files | None = None,
        *,
        cleared: bool = False,
    ) -> State:
        """Claim the directory for a job: new, or the same job again.

        Args:
            fingerprint: what the outputs depend on.
            job_yaml: the job, for people and `verify`.
            files: the data, whose listing is kept.
            cleared: it was a run directory until `clear`, and what is left may stay.

        Raises:
            UserError: it holds the run of another job or of other data (the message shows what
                differs), or files of something else, or is damaged, or cannot be written.
        """
        state = self.state(fingerprint, files)
        try:
            if state == "new":
                if not cleared:
                    self._check_empty()
                self._keep(files)
                self.write_json(FINGERPRINT, {"version": VERSION, **fingerprint})
            if not self.exists(JOB):  # a new run, or a claim that was cut short
                self.write_text(JOB, job_yaml)
            if state == "unfinished" and not self.exists(DATA):
                self._keep(files)
        except UserError:
            raise
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.address, "run_dir", error) from error
        return state

    def files(self) -> Files | None:
        """The data's files as they were when the run began; None where that was not kept.

        Raises:
            UserError: the listing is damaged.
        """
        if not self.exists(DATA):
            return None
        content = self.read_bytes(DATA)
        try:
            return inventory.unpack(content)
        except (ValueError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.damaged(DATA, error) from error

    def clear(self, batches: Collection[str] = ()) -> None:
        """Delete a run's files, and no others; `batches` are the names of those that it has.

        Raises:
            UserError: there are files, but it is no run directory, or files of somebody else's
                would be among those of the next run. Nothing is deleted then.
        """
        fs, root = filesystem(self.address)
        found = [path for path in files_below(fs, root) if path != LOCK]
        if FINGERPRINT not in found and any(
            path not in (*CLAIMED, LEDGER) and not is_temporary(path) for path in found
        ):
            raise UserError(
                f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no run "
                "directory, and nothing in it was deleted. Give another run_dir."
            )
        ours = [path for path in found if is_ours(path, batches)]
        among = sorted(p for p in set(found) - set(ours) if p.split("/")[0] in FOLDERS)
        if among:
            more = f" and {len(among) - SHOWN_NAMES:,} more" if len(among) > SHOWN_NAMES else ""
            raise UserError(
                f"The run_dir {self.address!r} holds files that no run wrote, which would be among "
                f"those of the next one: {', '.join(among[:SHOWN_NAMES])}{more}. Nothing was "
                "deleted. Move them elsewhere, or give another run_dir."
            )
        self.guard(closely=True)
        # the fingerprint last: until then it is a run directory, and this can be done again
        delete(fs, root, [path for path in ours if path != FINGERPRINT])
        delete(fs, root, [path for path in ours if path == FINGERPRINT])

    def _check_empty(self) -> None:
        fs, root = self.path()
        found = fs.ls(root, detail=False) if fs.exists(root) else []
        names = [posixpath.basename(path.rstrip("/")) for path in found]
        if [name for name in names if name not in CLAIMED and not is_temporary(name)]:
            raise UserError(
                f"The run_dir {self.address!r} holds files, but no {FINGERPRINT}: it is no run "
                "directory. Give another run_dir, or empty this one."
            )

    def _keep(self, files: Files | None) -> None:
        if files is not None:
            self.write(self.path(DATA), inventory.pack(files))

    def _check_data(self, files: Files | None, finished: bool) -> None:
        then = None if files is None else self.files()
        if files is None or then is None or not (lines := inventory.changed_files(then, files)):
            return
        raise UserError(
            f"The run in {self.address!r} is {'' if finished else 'un'}finished, and its data are "
            "not what they were when it began; rows of both must not mix:\n"
            + "".join(f"  data: {line}\n" for line in lines)
            + "Restore these files (with their times: a copy is as new as its copying), give "
            "another run_dir, or start this one anew with --restart."
        )

    def _check_same(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        there, here = dict(_flat(theirs)), dict(_flat(ours))
        differing = [k for k in {**there, **here} if there.get(k, ABSENT) != here.get(k, ABSENT)]
        if differing:
            lines = [
                f"  {key}: {there.get(key, ABSENT)} there, {here.get(key, ABSENT)} here"
                for key in differing[:MAX_DIFFERENCES]
            ]
            if len(differing) > MAX_DIFFERENCES:
                lines.append(f"  and {len(differing) - MAX_DIFFERENCES} more")
            if differing == ["precision"] and "precision" in there:
                lines.append(
                    "The precision auto goes by the devices, which are others now: "
                    f"compute.precision={there['precision']} goes on with that run."
                )
            raise UserError(
                f"The run_dir {self.address!r} holds the run of another job, and their outputs "
                "must not mix. Give another run_dir, or start this one "
                "anew with --restart. They differ in:\n" + "\n".join(lines)
            )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, with dotted keys."""
    if isinstance(value, Mapping | list) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
