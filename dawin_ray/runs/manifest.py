"""The manifest: what a finished run was made of, and what it made. Written last, and sealed.

A seal is the hash of a file's other content. It shows a slip of the hand, not a forger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, ClassVar, Protocol, TypeVar

import dawin_ray
from dawin_ray.data import Shard
from dawin_ray.errors import UserError
from dawin_ray.records import Record, digest, of_json, to_json
from dawin_ray.runs.folder import Output, Part, RunFolder
from dawin_ray.runs.layout import MANIFEST
from dawin_ray.storage import join

# Whose versions may change a digit.
LIBRARIES = (
    "torch", "open_clip_torch", "timm", "torchvision", "numpy", "pyarrow", "pillow", "ray", "scipy",
    "scikit-learn",
)  # fmt: skip


class Sealed(Record, Protocol):
    """A record with the seal that its file has."""

    @property
    def seal(self) -> str:
        """Hash of the file's other content."""


S = TypeVar("S", bound=Sealed)


@dataclass(frozen=True, kw_only=True)
class Input:
    """A shard that was scored: which file it was, and what came of it."""

    shard: str
    bytes: int
    version: str
    rows: int
    rejects: int

    @classmethod
    def of(cls, shard: Shard, rows: int, rejects: int) -> Input:
        """A shard with its counts."""
        return cls(
            shard=shard.name, bytes=shard.bytes, version=shard.version, rows=rows, rejects=rejects
        )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many samples of a data set were scored, and how many could not be used."""

    predictions: int
    rejects: int

    @classmethod
    def of(cls, inputs: Sequence[Input]) -> Rows:
        """Those of all shards together."""
        return cls(
            predictions=sum(entry.rows for entry in inputs),
            rejects=sum(entry.rejects for entry in inputs),
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """manifest.json of a run, or of a batch."""

    VERSION: ClassVar[int] = 1
    code: str
    libraries: dict[str, str]
    precision: str  # of the towers
    fingerprint: dict[str, Any]  # what the outputs depend on
    inputs: dict[str, tuple[Input, ...]]  # by data set
    rows: dict[str, Rows]
    outputs: tuple[Part | Output, ...]
    seal: str = ""

    @classmethod
    def read(cls, run: RunFolder) -> Manifest:
        """Raises as `read_sealed`."""
        return read_sealed(cls, run, MANIFEST)

    def write(self, run: RunFolder) -> None:
        """Into a run, which is finished by that."""
        write_sealed(run, MANIFEST, self)

    def with_outputs(self, outputs: Sequence[Part | Output]) -> Manifest:
        """The same with files that were written again, or besides."""
        by_path = {output.path: output for output in (*self.outputs, *outputs)}
        return replace(self, outputs=tuple(by_path.values()))


@dataclass(frozen=True, kw_only=True)
class SeriesManifest:
    """manifest.json of a directory that grows: seals of its batches, hashes of its own files."""

    VERSION: ClassVar[int] = 1
    code: str
    batches: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Part | Output, ...]
    seal: str = ""

    @classmethod
    def read(cls, run: RunFolder) -> SeriesManifest:
        """Raises as `read_sealed`."""
        return read_sealed(cls, run, MANIFEST)

    def write(self, run: RunFolder) -> None:
        """Into the run directory."""
        write_sealed(run, MANIFEST, self)


def manifest_of(
    fingerprint: Mapping[str, Any],
    shards: Mapping[str, Sequence[Shard]],
    counts: Mapping[str, Sequence[tuple[int, int]]],
    outputs: Sequence[Part | Output],
    precision: str,
) -> Manifest:
    """What a run writes when it is finished.

    Args:
        fingerprint: what the outputs depend on.
        shards: by data set.
        counts: rows and rejects of each shard of a data set, in the order of its shards.
        outputs: all files.
        precision: of the towers.
    """
    inputs = {
        dataset: tuple(
            Input.of(shard, *counted)
            for shard, counted in zip(shards[dataset], of_set, strict=True)
        )
        for dataset, of_set in counts.items()
    }
    return Manifest(
        code=dawin_ray.__version__,
        libraries={name: version(name) for name in LIBRARIES},
        precision=precision,
        fingerprint=dict(fingerprint),
        inputs=inputs,
        rows={dataset: Rows.of(entries) for dataset, entries in inputs.items()},
        outputs=tuple(outputs),
    )


def reseal(run: RunFolder, names: Sequence[str]) -> None:
    """Bring a finished run's manifest up to date with files of it that were made again.

    Raises:
        UserError: the manifest was changed by somebody else.
    """
    Manifest.read(run).with_outputs([run.describe(name) for name in names]).write(run)


def seal_of(content: Mapping[str, Any]) -> str:
    """Hash of a file's content without its seal."""
    return digest({key: value for key, value in content.items() if key != "seal"})


def write_sealed(run: RunFolder, name: str, record: Sealed) -> None:
    """Write a record with a seal, which replaces the one that it has."""
    content = to_json(record)
    run.write_json(name, {**content, "seal": seal_of(content)})


def read_sealed(kind: type[S], run: RunFolder, name: str) -> S:
    """Read a record of a run whose seal holds.

    Raises:
        UserError: it is damaged, was changed, or a newer version wrote it.
    """
    content, address = run.read_json(name), join(run.address, name)
    if content.get("seal") != seal_of(content):
        raise UserError(
            f"{address!r} was changed: its seal is not that of its content. Restore it from a "
            "copy, give another run_dir, or start this one anew with --restart."
        )
    return of_json(kind, content, address)
