"""A look at a data set's first samples, with the labels that a job would give them."""

from __future__ import annotations

import itertools
import logging
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from PIL import Image

from dawin_ray.data import (
    NAMED,
    DatasetClasses,
    ImageDecoder,
    Listing,
    Sample,
    Shard,
    Source,
    find_some,
    folder_way,
    formats_in,
    label_folders,
    make_shards,
    named_folders,
    open_image,
    read_samples,
    settle,
    spread,
)
from dawin_ray.drafts.layout import Place
from dawin_ray.errors import UserError
from dawin_ray.job import Look, lines_of_classes
from dawin_ray.storage import join

LOOKED = 64  # samples of a data set that are decoded

SHARDS = 5  # of which they are the first; images of a folder are taken from all of it

SHOWN = 5  # images on the sheet

SIDE = 160  # pixels of one, at most

STRANGERS = 16  # folders without a class that are looked into


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A sample that is shown."""

    sample_id: str
    label: int | None
    image: Image.Image | None  # RGB, no larger than SIDE
    why_not: str = ""  # where there is no image


@dataclass(kw_only=True)
class Looked:
    """What a look at a data set gave."""

    place: Place
    classes: DatasetClasses | None  # None: not known yet
    labels_from: str = "not known yet"
    lines: list[str] = field(default_factory=list)  # as `plan --peek` has them
    doubts: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # that keep the job from running
    seen: list[Seen] = field(default_factory=list)

    def named(self, label: int | None) -> str:
        """A label and its class, for a caption."""
        if label is None:
            return "no label"
        names = self.classes.names if self.classes else None
        known = names is not None and 0 <= label < len(names)
        return f"label {label}: {names[label]}" if known and names else f"label {label}"


def look_at(place: Place, classes: DatasetClasses | None, decoder: ImageDecoder) -> Looked:
    """Settle what labels mean, as a job does, and decode some samples.

    Raises:
        UserError: the storage fails.
    """
    looked = Looked(place=place, classes=classes)
    source: Source | None = None
    with heard() as warnings:
        if classes is not None:
            try:
                listing = _without_strangers(place, classes, looked)
                source = settle(place.config, listing, classes)
            except UserError as error:
                looked.faults.append(str(error))
        shards = _shards(place, source)
        _decode(place, shards, looked, decoder)
    looked.doubts += warnings
    if source is not None:
        looked.labels_from = source.labels_from
        looked.doubts += source.notes
        names, members = (classes.names, classes.members) if classes else (None, None)
        looked.lines = [*lines_of_classes(source, names, members), *looked.lines]
    return looked


def _without_strangers(place: Place, classes: DatasetClasses, looked: Looked) -> Listing:
    """The listing without folders that are of no class, where not all were looked into.

    Raises:
        UserError: one of them holds images, as a job would say it.
    """
    listing = place.listing
    if not (place.of_images and place.partly and listing.folders and listing.labels is None):
        return listing
    if folder_way(listing.folders, classes) != NAMED:
        return listing
    unseen, named = listing.empty_folders, named_folders(listing.folders, classes)
    alone = [f for f in listing.folders if f in unseen and f not in named]
    for folder in alone[:STRANGERS]:
        found = find_some(join(listing.root, folder), f"folder of '{place.name}'")
        if formats_in(found.files.names):
            label_folders(listing.folders, classes, place.name, empty={*alone} - {folder})
    return replace(listing, folders=tuple(f for f in listing.folders if f not in alone))


def _shards(place: Place, source: Source | None) -> list[Shard]:
    """Shards of those samples that are looked at."""
    listing = place.listing if source is None else source.listing
    labels, names = (None, ()) if source is None else (source.labels, source.label_names)
    if place.of_images:
        places = spread(range(len(listing.files)), LOOKED)
        return make_shards(place.config, listing.take(array("q", places)), labels, names)
    return spread(make_shards(place.config, listing, labels, names), SHARDS)


def _decode(place: Place, shards: Sequence[Shard], looked: Looked, decoder: ImageDecoder) -> None:
    classes = looked.classes
    of_labels: dict[int | None, list[Seen]] = defaultdict(list)
    count = classes.count if classes is not None else 1 << 62
    look = Look(count, classes.names if classes else None)
    for shard, sample in _samples(place, shards):
        look.add(sample, shard, decoder)
        of_labels[sample.label].append(_seen(sample))
    looked.lines += look.lines()
    looked.seen = _chosen(of_labels)
    known = [label for label in of_labels if label is not None]
    if look.decoded and not known:
        looked.doubts.append(
            "no sample has a label: all is scored, but no accuracy is told. Labels are "
            "chosen with label_column, or given with annotations"
        )
    if look.flat:
        looked.doubts.append(f"{look.flat} of {look.decoded} images are of one colour")
    if rejected := look.rejects.total():
        reason = look.rejects.most_common(1)[0][0]
        looked.doubts.append(f"{rejected} of {look.seen} samples cannot be used: {reason}")
    if len(known) == 1 and look.decoded > 1 and len(of_labels) == 1 and len(shards) > 1:
        looked.doubts.append(f"all of the {look.decoded} samples have {looked.named(known[0])}")


def _samples(place: Place, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Sample]]:
    each = LOOKED if place.of_images else -(-LOOKED // max(len(shards), 1))
    for shard in shards:
        for sample in itertools.islice(read_samples(shard), each):
            yield shard, sample


def _seen(sample: Sample) -> Seen:
    if sample.image is None:
        return Seen(
            sample_id=sample.sample_id, label=sample.label, image=None, why_not=sample.error or ""
        )
    try:
        with open_image(sample.image) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
    except Exception as error:  # noqa: BLE001  (decoders raise anything at damaged data)
        why = f"cannot be decoded: {type(error).__name__}"
        return Seen(sample_id=sample.sample_id, label=sample.label, image=None, why_not=why)
    return Seen(sample_id=sample.sample_id, label=sample.label, image=small)


def _chosen(of_labels: dict[int | None, list[Seen]]) -> list[Seen]:
    """Of as many labels as may be, in their order, spread over them."""
    order = sorted(of_labels, key=lambda label: -1 if label is None else label)
    chosen = [(label, 0) for label in spread(order, SHOWN)]
    rest = [(label, i) for i in range(1, SHOWN) for label in order if i < len(of_labels[label])]
    chosen += rest[: SHOWN - len(chosen)]
    return [of_labels[label][i] for label, i in sorted(chosen, key=lambda c: order.index(c[0]))]


@contextmanager
def heard() -> Iterator[list[str]]:
    """What is warned of meanwhile, in place of the log."""
    logger = logging.getLogger("dawin_ray")
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    ear, propagated = Ear(logging.WARNING), logger.propagate
    logger.addHandler(ear)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(ear)
        logger.propagate = propagated
