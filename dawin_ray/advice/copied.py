"""The pilot's samples as a small data set of its own, in a temporary folder.

Encoded images are copied as they are, so that a run decodes and scores them as the job would; each
shard is a chunk, full like the job's, whichever shards its samples came from.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dawin_ray.advice.picks import Counted, picks
from dawin_ray.data import FORMATS, Sample, Shard, read_samples
from dawin_ray.storage import filesystem, join, write_whole


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A data set's samples: shards of those that have an image, and why others have none."""

    shards: tuple[Shard, ...]
    samples: int  # that were chosen and are there, rejects among them
    labelled: int
    rejects: Mapping[str, int]  # by reason
    seconds: float  # of reading, for each sample that had to be passed by


def copy_samples(
    shards: Sequence[Shard], counts: Counted, wanted: int, folder: str, per_shard: int
) -> Copied:
    """Copy `wanted` samples of a data set into a folder, in shards of so many each.

    Raises:
        UserError: the storage fails, here or there.
    """
    fs, root = filesystem(folder)
    images: list[tuple[str, int, int | None]] = []
    rejects = Counter[str]()
    seconds, passed = 0.0, 0
    for place, ordinals in picks(shards, counts, wanted).items():
        began = time.perf_counter()
        found, by = _read(shards[place], ordinals)
        seconds, passed = seconds + time.perf_counter() - began, passed + by
        for sample in found:
            if sample.image is None:
                rejects[sample.error or "no image"] += 1
                continue
            name = f"{len(images):06d}"
            write_whole(fs, join(root, name), sample.image)
            images.append((name, len(sample.image), sample.label))
    dataset, border = shards[0].dataset, shards[0].crop_border
    return Copied(
        shards=tuple(
            Shard(
                dataset=dataset,
                name=f"pilot {number}",
                address=folder,
                format="folder",
                bytes=sum(size for _, size, _ in part),
                key=f"pilot-{number:06d}",
                images=part,
                versions=[""] * len(part),
                crop_border=border,
            )
            for number, part in enumerate(_parts(images, per_shard))
        ),
        samples=len(images) + sum(rejects.values()),
        labelled=sum(label is not None for _, _, label in images),
        rejects=dict(rejects),
        seconds=seconds / max(passed, 1),
    )


def _read(shard: Shard, ordinals: Sequence[int]) -> tuple[list[Sample], int]:
    """The samples of these ordinals that are there, and how many were passed by for them."""
    if FORMATS[shard.format].of_images:  # many are read at once where nothing lies between them
        return list(read_samples(shard.take(ordinals))), len(ordinals)
    wanted, last = set(ordinals), ordinals[-1]
    samples = itertools.islice(read_samples(shard, wanted.__contains__), last + 1)
    found = [sample for ordinal, sample in enumerate(samples) if ordinal in wanted]
    return [sample for sample in found if not sample.broken], last + 1


def _parts(
    images: Sequence[tuple[str, int, int | None]], size: int
) -> Iterator[list[tuple[str, int, int | None]]]:
    for start in range(0, len(images), size):
        yield list(images[start : start + size])
