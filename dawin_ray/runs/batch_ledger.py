"""ledger.json of a run directory that grows: which batches it has, and what is under way.

    {"batches": {NAME: {"manifest": its seal, "shards": sha256 of its shards.jsonl}},
     "under_way": NAME or null, "altering": [NAME, ...], "seal": ...}

A folder in batches/ that it does not name is none of the directory's, whatever is in it. A batch is
named before its folder is made, and again when it is altered, so that a run that was killed between
two steps is told from a folder that somebody has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from dawin_ray.errors import UserError
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import BATCHES, LEDGER, MANIFEST, SHARDS
from dawin_ray.runs.manifest import Manifest, SeriesManifest, read_sealed, write_sealed
from dawin_ray.storage import join

SHOWN_FOLDERS = 10


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What is noted of a finished batch."""

    manifest: str  # its seal
    shards: str | None  # sha256 of its shards.jsonl; None where only a manifest told of the batch


@dataclass(frozen=True, kw_only=True)
class BatchLedger:
    """What ledger.json says."""

    VERSION: ClassVar[int] = 1
    batches: dict[str, Noted] = field(default_factory=dict)
    under_way: str | None = None  # begun, and not known to be finished
    altering: tuple[str, ...] = ()  # rows are taken out of them, or their reports are made again
    seal: str = ""

    @classmethod
    def read(cls, run: RunFolder) -> BatchLedger:
        """Of a run directory; an empty one where nothing is there yet.

        Raises:
            UserError: it is damaged, or lost while there are batches.
        """
        listed: Mapping[str, str] = {}
        if run.exists(MANIFEST):
            listed = SeriesManifest.read(run).batches
        if run.exists(LEDGER):
            found = read_sealed(cls, run, LEDGER)
            if lost := sorted(listed.keys() - found.batches.keys()):
                raise UserError(
                    f"The {LEDGER} of {run.address!r} lacks batches that its {MANIFEST} has: "
                    f"{', '.join(lost)}. It is an older copy: delete it, and it is made again of "
                    f"{MANIFEST}."
                )
            return found
        if unknown := sorted(set(run.folders(BATCHES)) - listed.keys()):
            raise UserError(
                f"The run_dir {run.address!r} has no {LEDGER}, and its {MANIFEST} does not list "
                f"these folders of {BATCHES}/: {', '.join(unknown[:SHOWN_FOLDERS])}. Nothing was "
                "read or deleted. Let the version that began a batch finish it, or move them "
                "elsewhere."
            )
        return cls(batches={name: Noted(manifest=s, shards=None) for name, s in listed.items()})

    def write(self, run: RunFolder) -> None:
        """Into a run directory."""
        write_sealed(run, LEDGER, self)

    def began(self, name: str | None) -> BatchLedger:
        """The same with a batch under way, or with none."""
        return replace(self, under_way=name)

    def alters(self, name: str) -> BatchLedger:
        """The same with a batch that is being altered."""
        return replace(self, altering=tuple(dict.fromkeys((*self.altering, name))))

    def knows(self, batch: RunFolder) -> BatchLedger:
        """The same with a batch as it is now, finished and not being altered."""
        name = name_of(batch)
        noted = Noted(manifest=Manifest.read(batch).seal, shards=_hash_of(batch))
        return replace(
            self,
            batches={**self.batches, name: noted},
            under_way=None if self.under_way == name else self.under_way,
            altering=tuple(other for other in self.altering if other != name),
        )

    def check(self, batch: RunFolder) -> None:
        """A batch that is listed, or that was under way and is finished, is what was written.

        Raises:
            UserError: it has lost a file, or one is not what was noted of it.
        """
        for file in (MANIFEST, SHARDS):
            if not batch.exists(file):
                raise _spoilt(batch, f"has lost its {file}")
        manifest, name = Manifest.read(batch), name_of(batch)
        own = join(BATCHES, name, SHARDS)
        expected = {{output.path: output.sha256 for output in manifest.outputs}.get(own)}
        if (noted := self.batches.get(name)) is not None:
            if name in self.altering:
                expected.add(noted.shards)
            else:
                expected = {noted.shards}
                if manifest.seal != noted.manifest:
                    raise _spoilt(batch, f"has another {MANIFEST} than {LEDGER} says")
        if None not in expected and _hash_of(batch) not in expected:
            raise _spoilt(batch, f"has another {SHARDS} than was written")


def name_of(batch: RunFolder) -> str:
    """A batch's name in its run directory."""
    assert batch.batch is not None, f"{batch.address} is no batch"
    return batch.batch


def _spoilt(batch: RunFolder, what: str) -> UserError:
    return UserError(
        f"The batch {batch.batch} of {batch.root!r} {what}. Nothing was read or deleted. "
        "Restore its folder from a copy, or begin another run_dir."
    )


def _hash_of(batch: RunFolder) -> str:
    return hashlib.sha256(batch.read_bytes(SHARDS)).hexdigest()
