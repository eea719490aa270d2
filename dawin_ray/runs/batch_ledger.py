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
from typing import Any

from dawin_ray.errors import UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import BATCHES, LEDGER, MANIFEST, SHARDS
from dawin_ray.runs.manifest import checked, sealed
from dawin_ray.storage import join


@dataclass(frozen=True, kw_only=True)
class BatchLedger:
    """What ledger.json says."""

    batches: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    under_way: str | None = None  # begun, and not known to be finished
    altering: tuple[str, ...] = ()  # rows are taken out of them, or their reports are made again

    @classmethod
    def read(cls, run: RunDirectory) -> BatchLedger:
        """Of a run directory; an empty one where nothing is there yet.

        Raises:
            UserError: it is damaged, or lost while there are batches.
        """
        whole = None
        if run.exists(MANIFEST):
            whole = checked(run.read_json(MANIFEST), join(run.address, MANIFEST))
        listed = {} if whole is None else whole.get("batches", {})
        if run.exists(LEDGER):
            found = checked(run.read_json(LEDGER), join(run.address, LEDGER))
            if lost := sorted(listed.keys() - found["batches"].keys()):
                raise UserError(
                    f"The {LEDGER} of {run.address!r} lacks batches that its {MANIFEST} has: "
                    f"{', '.join(lost)}. It is an older copy: delete it, and it is made again of "
                    f"{MANIFEST}."
                )
            return cls(
                batches=found["batches"],
                under_way=found["under_way"],
                altering=tuple(found["altering"]),
            )
        if unknown := sorted(set(run.folders(BATCHES)) - listed.keys()):
            raise UserError(
                f"The run_dir {run.address!r} has no {LEDGER}, and its {MANIFEST} does not list "
                f"these folders of {BATCHES}/: {', '.join(unknown[:10])}. Nothing was read or "
                "deleted. Let the version that began a batch finish it, or move them elsewhere."
            )
        return cls(batches={name: {"manifest": s, "shards": None} for name, s in listed.items()})

    def write(self, run: RunDirectory) -> None:
        """Into a run directory."""
        content = {
            "batches": dict(self.batches),
            "under_way": self.under_way,
            "altering": list(self.altering),
        }
        run.write_json(LEDGER, sealed(content))

    def began(self, name: str | None) -> BatchLedger:
        """The same with a batch under way, or with none."""
        return replace(self, under_way=name)

    def alters(self, name: str) -> BatchLedger:
        """The same with a batch that is being altered."""
        return replace(self, altering=tuple(dict.fromkeys((*self.altering, name))))

    def knows(self, batch: RunDirectory) -> BatchLedger:
        """The same with a batch as it is now, finished and not being altered."""
        return replace(
            self,
            batches={**self.batches, batch.batch: seals_of(batch)},
            under_way=None if self.under_way == batch.batch else self.under_way,
            altering=tuple(name for name in self.altering if name != batch.batch),
        )

    def check(self, batch: RunDirectory) -> dict[str, Any]:
        """The manifest of a batch that is listed, or that was under way and is finished.

        Raises:
            UserError: it has lost a file, or one is not what was noted of it.
        """
        for name in (MANIFEST, SHARDS):
            if not batch.exists(name):
                raise self._spoilt(batch, f"has lost its {name}")
        manifest = checked(batch.read_json(MANIFEST), join(batch.address, MANIFEST))
        noted = self.batches.get(batch.batch)
        own = join(BATCHES, batch.batch, SHARDS)
        told = {o["path"]: o["sha256"] for o in manifest["outputs"]}.get(own)
        known, expected = _hash_of(batch), {told}
        if noted is not None:
            if batch.batch in self.altering:
                expected.add(noted["shards"])
            else:
                expected = {noted["shards"]}
                if manifest["seal"] != noted["manifest"]:
                    raise self._spoilt(batch, f"has another {MANIFEST} than {LEDGER} says")
        if None not in expected and known not in expected:
            raise self._spoilt(batch, f"has another {SHARDS} than was written")
        return manifest

    def _spoilt(self, batch: RunDirectory, what: str) -> UserError:
        return UserError(
            f"The batch {batch.batch} of {batch.root!r} {what}. Nothing was read or deleted. "
            "Restore its folder from a copy, or begin another run_dir."
        )


def seals_of(batch: RunDirectory) -> dict[str, str]:
    """What is noted of a finished batch."""
    return {"manifest": batch.read_json(MANIFEST)["seal"], "shards": _hash_of(batch)}


def _hash_of(batch: RunDirectory) -> str:
    fs, path = batch.path(SHARDS)
    return hashlib.sha256(fs.cat_file(path)).hexdigest()
