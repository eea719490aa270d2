"""What a plan says of labels and classes, and what a look at the first samples gives."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dawin_ray.data import ImageDecoder, Sample, Shard, Source, open_image, read_samples
from dawin_ray.job.prepare import Prepared
from dawin_ray.names import shown
from dawin_ray.runs import SHOWN_REASONS, kind_of_reason
from dawin_ray.statistics import FLAT_RANGE

SHOWN = 3  # classes, folders and sizes in a line


def classes_of(prepared: Prepared) -> list[str]:
    """Lines for each data set: how its folders or labels are the head's classes."""
    lines = []
    for name, source in prepared.sources.items():
        members = prepared.spec.classes[name].members
        lines += [
            f"classes   {name}: {line}"
            for line in lines_of_classes(source, prepared.class_names[name], members)
        ]
    return lines


def peek_of(prepared: Prepared, count: int) -> list[str]:
    """A line for each data set: what its first `count` samples are, once decoded.

    Raises:
        UserError: the storage fails.
    """
    decoder = ImageDecoder(prepared.preprocessing)
    lines = []
    for name, shards in prepared.shards.items():
        look = Look(prepared.spec.classes[name].count, prepared.class_names[name])
        for shard, sample in itertools.islice(_samples(shards), count):
            look.add(sample, shard, decoder)
        lines += [f"peek      {name}: {line}" for line in look.lines()]
    return lines


def lines_of_classes(
    source: Source, names: Sequence[str] | None, members: Sequence[Sequence[int]] | None
) -> Iterator[str]:
    """How the folders or labels of a data set are classes; `members` are those of the head."""

    def named(label: int) -> str:
        said = f"{label} ({shown(names[label])})" if names else str(label)
        of_head = members[label] if members is not None else ()
        return said + (f", class {', '.join(map(str, of_head))} of the head" if of_head else "")

    unknown = "" if names else "; the names of the head's classes are unknown"
    folders = source.labels
    if folders:
        told = [f"{shown(folder)} is {named(label)}" for folder, label in folders.items()]
        yield f"folder {_some(told)}{unknown}"
        if others := [folder for folder in source.listing.folders if folder not in folders]:
            yield f"no class: folder {', '.join(map(shown, others))}"
        taken = set(folders.values())
        if names and (free := [n for i, n in enumerate(names) if i not in taken]):
            yield f"no folder: class {', '.join(map(shown, free))}"
    elif names:
        yield f"label {_some([f'{named(i)}' for i in range(len(names))])}"
    else:
        yield f"label i is class i{unknown}"


def _some(told: Sequence[str]) -> str:
    more = len(told) - SHOWN
    return ", ".join(told[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _samples(shards: Sequence[Shard]) -> Iterator[tuple[Shard, Sample]]:
    for shard in shards:
        for sample in read_samples(shard, lambda ordinal: True):
            yield shard, sample


@dataclass
class Look:
    """What is seen of a data set's first samples, one after the other."""

    count: int  # of its classes
    names: Sequence[str] | None
    seen: int = 0
    decoded: int = 0
    flat: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    labels: Counter[int | None] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample, shard: Shard, decoder: ImageDecoder) -> None:
        """One more sample, as a run would take it or reject it."""
        self.seen += 1
        if sample.label is not None and not 0 <= sample.label < self.count:
            self.rejects[f"a label is outside the classes 0..{self.count - 1}"] += 1
        elif sample.error is not None or sample.image is None:
            self.rejects[kind_of_reason(sample.error or "no image")] += 1
        elif isinstance(crop := decoder(sample.image, shard.crop_border), str):
            self.rejects[kind_of_reason(crop)] += 1
        else:
            self._add_image(sample.image, crop)
            self.labels[sample.label] += 1

    def _add_image(self, encoded: bytes, crop: np.ndarray) -> None:
        with open_image(encoded) as image:
            self.sizes[image.size] += 1
            self.modes[image.mode] += 1
        self.decoded += 1
        self.flat += int(crop.max()) - int(crop.min()) <= FLAT_RANGE

    def lines(self) -> Iterator[str]:
        """What a person is told."""
        sizes = _some([f"{w} x {h} ({n:,})" for (w, h), n in self.sizes.most_common()])
        modes = ", ".join(f"{mode} ({n:,})" for mode, n in self.modes.most_common())
        said = f"{self.decoded:,} of the first {self.seen:,} samples decoded"
        if self.decoded:
            said += f"; pixels {sizes}; mode {modes}; {self._labels()}"
        yield said
        if self.flat:
            yield f"{self.flat:,} of them are of one colour"
        for reason, n in self.rejects.most_common(SHOWN_REASONS):
            yield f"{n:,} rejected: {reason}"

    def _labels(self) -> str:
        known: Mapping[int, int] = {k: n for k, n in self.labels.items() if k is not None}
        if not known:
            return "no labels"

        def named(label: int) -> str:
            return f"{label} ({shown(self.names[label])})" if self.names else str(label)

        told = _some([f"{named(label)} x {known[label]}" for label in sorted(known)])
        bare = self.labels[None]
        return f"labels of {len(known):,} of {self.count:,} classes: {told}" + (
            f"; {bare:,} without one" if bare else ""
        )
