"""A sheet of example images for the report: by cluster, and by who was right.

Made on request only, as it copies images into the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.data import (
    DatasetConfig,
    Shard,
    list_files,
    make_shards,
    open_image,
    read_samples,
    without_border,
)
from dawin_ray.method import DAWIN, named_weights
from dawin_ray.report.finished import Columns

SIDE = 96  # pixels

# Samples that examples are taken from: the first ones, so that few shards are read.
FIRST = 5_000

QUALITY = 80  # of the JPEG


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image for the page: its content as an address, and what it is."""

    uri: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Example images of a group of samples."""

    group: str
    images: tuple[Thumbnail, ...]


def groups_of(columns: Columns, experts: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows among the first ones that belong to each group, by the group's name."""
    first = slice(0, FIRST)
    groups: dict[str, np.ndarray] = {}
    if columns.cluster is not None:
        for k in np.unique(columns.cluster[first]):
            groups[f"cluster {k}"] = np.flatnonzero(columns.cluster[first] == k)
    known = columns.known[first]
    if known.any():
        right = {
            name: (columns.prediction[name][first] == columns.label[first]) & known
            for name in (*experts, DAWIN)
        }
        some = np.any([right[name] for name in experts], axis=0)
        every = np.all([right[name] for name in experts], axis=0)
        cells = {
            "no expert right, DaWin right": ~some & right[DAWIN],
            "some expert right, DaWin right": some & ~every & right[DAWIN],
            "some expert right, DaWin wrong": some & ~right[DAWIN],
            "nobody right": known & ~some & ~right[DAWIN],
        }
        groups |= {name: np.flatnonzero(mask) for name, mask in cells.items() if mask.any()}
    return groups


def sheet(
    config: DatasetConfig, columns: Columns, experts: Sequence[str], count: int
) -> list[Sheet]:
    """Up to `count` examples of each group, spread over its rows.

    An image that cannot be read again is left out.
    """
    chosen = {
        name: rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]
        for name, rows in groups_of(columns, experts).items()
    }
    ids = columns.sample_id.slice(0, FIRST).to_pylist()
    wanted = {ids[row] for rows in chosen.values() for row in rows}
    uris = dict(_uris(make_shards(config, list_files(config)), wanted, config.crop_border))
    return [
        Sheet(
            group=name,
            images=tuple(
                Thumbnail(uri=uris[ids[row]], title=f"{ids[row]}{title_of(columns, row, experts)}")
                for row in rows
                if ids[row] in uris
            ),
        )
        for name, rows in chosen.items()
    ]


def title_of(columns: Columns, row: int, experts: Sequence[str]) -> str:
    """What follows a sample's id: its label, the answers, and every expert's weight."""
    label = f", label {columns.label[row]}" if columns.known[row] else ""
    answers = ", ".join(f"{name} {columns.prediction[name][row]}" for name in experts)
    weights = named_weights(experts, columns.coefficient[row].tolist())
    return f"{label}; DaWin {columns.prediction[DAWIN][row]}, {answers}; weights {weights}"


def _uris(shards: Sequence[Shard], wanted: set[str], border: int) -> Iterator[tuple[str, str]]:
    left = set(wanted)
    for shard in shards:
        for sample in read_samples(shard):
            if sample.sample_id not in left:
                continue
            left.discard(sample.sample_id)
            if sample.image is not None and (uri := _thumbnail(sample.image, border)) is not None:
                yield sample.sample_id, uri
            if not left:
                return


def _thumbnail(encoded: bytes, border: int) -> str | None:
    try:
        with open_image(encoded) as image:
            small = without_border(image.convert("RGB"), border)
            small.thumbnail((SIDE, SIDE))
    except Exception:  # noqa: BLE001  (decoders raise anything at damaged data)
        return None
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
