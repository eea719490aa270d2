"""The manifest: what a finished run was made of, and what it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import dawin_ray
from dawin_ray.data import Shard
from dawin_ray.errors import UserError
from dawin_ray.records import digest
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import MANIFEST
from dawin_ray.storage import join

# Whose versions may change a digit.
LIBRARIES = (
    "torch", "open_clip_torch", "timm", "torchvision", "numpy", "pyarrow", "pillow", "ray", "scipy",
    "scikit-learn",
)  # fmt: skip


def manifest_of(
    fingerprint: Mapping[str, Any],
    shards: Mapping[str, Sequence[Shard]],
    counts: Mapping[str, Sequence[tuple[int, int]]],
    outputs: Sequence[Mapping[str, Any]],
    precision: str,
) -> dict[str, Any]:
    """What goes into manifest.json.

    Args:
        fingerprint: what the outputs depend on.
        shards: by data set.
        counts: rows and rejects of each shard of a data set, in the order of its shards.
        outputs: path, bytes and sha256 of every file, and rows of the Parquet ones.
        precision: of the towers.
    """
    content = {
        "code": dawin_ray.__version__,
        "libraries": {name: version(name) for name in LIBRARIES},
        "precision": precision,
        "fingerprint": fingerprint,
        "inputs": {
            dataset: [
                input_of(shard, rows, rejects)
                for shard, (rows, rejects) in zip(shards[dataset], of_set, strict=True)
            ]
            for dataset, of_set in counts.items()
        },
        "rows": {
            dataset: {
                "predictions": sum(rows for rows, _ in of_set),
                "rejects": sum(rejects for _, rejects in of_set),
            }
            for dataset, of_set in counts.items()
        },
        "outputs": list(outputs),
    }
    return sealed(content)


def input_of(shard: Shard, rows: int, rejects: int) -> dict[str, Any]:
    """A shard as a manifest tells it."""
    return {
        "shard": shard.name,
        "bytes": shard.bytes,
        "version": shard.version,
        "rows": rows,
        "rejects": rejects,
    }


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its seal, which replaces one that it has."""
    return {**content, "seal": seal_of(content)}


def checked(content: Mapping[str, Any], address: str) -> Mapping[str, Any]:
    """The same, if its seal holds.

    Raises:
        UserError: it does not.
    """
    if content.get("seal") != seal_of(content):
        raise UserError(
            f"{address!r} was changed: its seal is not that of its content. Restore it from a "
            "copy, give another run_dir, or start this one anew with --restart."
        )
    return content


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Hash of a manifest's content; it shows a slip, not a forger."""
    return digest({key: value for key, value in manifest.items() if key != "seal"})


def reseal(run: RunDirectory, names: Sequence[str]) -> None:
    """Bring a finished run's manifest up to date with files of it that were made again.

    Raises:
        UserError: the manifest was changed by somebody else.
    """
    manifest = checked(run.read_json(MANIFEST), join(run.address, MANIFEST))
    described = {output["path"]: output for output in manifest["outputs"]}
    described.update((entry["path"], entry) for entry in map(run.describe, names))
    run.write_json(MANIFEST, sealed({**manifest, "outputs": list(described.values())}))
