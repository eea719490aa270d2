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
from dawin_ray.report.finished import FinishedRun
from dawin_ray.statistics import Rows

SIDE = 96  # pixels

# Samples that examples are taken from: the first ones, so that few shards are read.
FIRST = 5_000

QUALITY = 80  # of the JPEG


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model says of an image: a class, how sure, and whether that is right, if known."""

    name: str
    answer: str
    confidence: float
    right: bool | None


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image for the page: its content as an address, and what stands below it.

    DaWin is the first of `said`, the experts follow; `weights` has every expert's.
    """

    uri: str
    sample_id: str
    label: str | None
    said: tuple[Said, ...]
    weights: str

    @property
    def alt(self) -> str:
        """What is known of the image."""
        return f"an image of {self.label}" if self.label else "an image without a label"


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


def sheets_of(finished: FinishedRun, config: DatasetConfig, count: int) -> list[Sheet]:
    """Up to `count` examples of each group, spread over a data set's first rows.

    An image that cannot be read again is left out.
    """
    ids, rows = finished.first_rows(config.name, FIRST)
    names = finished.class_names[config.name] or ()
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
                thumbnail_of(rows, place, names, ids[place], uris[ids[place]])
                for place in places
                if ids[place] in uris
            ),
        )
        for name, places in chosen.items()
    ]


def thumbnail_of(
    rows: Rows, place: int, names: Sequence[str], sample_id: str, uri: str
) -> Thumbnail:
    """An image with its label and all answers, by the names of classes if there are some."""

    def shown(index: int) -> str:
        return names[index] if index < len(names) else str(index)

    label = int(rows.label[place])

    def said(name: str) -> Said:
        answer = int(rows.prediction[name][place])
        return Said(
            name="DaWin" if name == DAWIN else name,
            answer=shown(answer),
            confidence=float(rows.confidence[name][place]),
            right=answer == label if label >= 0 else None,
        )

    return Thumbnail(
        uri=uri,
        sample_id=sample_id,
        label=shown(label) if label >= 0 else None,
        said=tuple(said(name) for name in (DAWIN, *rows.experts)),
        weights=named_weights(rows.experts, rows.coefficient[place].tolist()),
    )


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
