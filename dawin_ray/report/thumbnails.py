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
from dawin_ray.statistics import Rows

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


def groups_of(rows: Rows) -> dict[str, np.ndarray]:
    """Places of the rows that belong to each group, by the group's name."""
    groups: dict[str, np.ndarray] = {}
    if rows.cluster is not None:
        for k in np.unique(rows.cluster):
            groups[f"cluster {k}"] = np.flatnonzero(rows.cluster == k)
    known = rows.label >= 0
    if known.any():
        right = {
            name: (rows.prediction[name] == rows.label) & known for name in (*rows.experts, DAWIN)
        }
        some = np.any([right[name] for name in rows.experts], axis=0)
        every = np.all([right[name] for name in rows.experts], axis=0)
        cells = {
            "no expert right, DaWin right": ~some & right[DAWIN],
            "some expert right, DaWin right": some & ~every & right[DAWIN],
            "some expert right, DaWin wrong": some & ~right[DAWIN],
            "nobody right": known & ~some & ~right[DAWIN],
        }
        groups |= {name: np.flatnonzero(mask) for name, mask in cells.items() if mask.any()}
    return groups


def sheet(config: DatasetConfig, ids: Sequence[str], rows: Rows, count: int) -> list[Sheet]:
    """Up to `count` examples of each group, spread over the rows, which have these ids.

    An image that cannot be read again is left out.
    """
    chosen = {
        name: places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
        for name, places in groups_of(rows).items()
    }
    wanted = {ids[place] for places in chosen.values() for place in places}
    uris = dict(_uris(make_shards(config, list_files(config)), wanted, config.crop_border))
    return [
        Sheet(
            group=name,
            images=tuple(
                Thumbnail(uri=uris[ids[place]], title=f"{ids[place]}{title_of(rows, place)}")
                for place in places
                if ids[place] in uris
            ),
        )
        for name, places in chosen.items()
    ]


def title_of(rows: Rows, place: int) -> str:
    """What follows a sample's id: its label, the answers, and every expert's weight."""
    label = f", label {rows.label[place]}" if rows.label[place] >= 0 else ""
    answers = ", ".join(f"{name} {rows.prediction[name][place]}" for name in rows.experts)
    weights = named_weights(rows.experts, rows.coefficient[place].tolist())
    return f"{label}; DaWin {rows.prediction[DAWIN][place]}, {answers}; weights {weights}"


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
