"""A few labelled samples of each data set: which ones, and their crops.

Samples are looked for by their names, and only those that were chosen are read and decoded; a tar
or a file of Parquet elsewhere is passed through whole all the same.

Shapes: N samples of a data set, H x W pixels.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.data import ImageDecoder, Shard, read_samples
from dawin_ray.engine import Say
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import Prepared
from dawin_ray.storage import read_bytes

MOST_LABELS = 2_000  # of a data set: more would move no choice, and their crops lie in memory

SHOWN = 3  # of what a message names

COLUMNS = ("sample_id", "label")  # of a file of labels; `dataset` is optional where there is one

# Data set -> sample id -> label.
Given = Mapping[str, Mapping[str, int]]

# Data set, sample id and the label that the data have -> the label to take, or None.
Choice = Callable[[str, str, int | None], int | None]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labelled samples of a data set; `unusable` of those that were chosen had no crop."""

    ids: tuple[str, ...]
    labels: np.ndarray  # int64 [N]
    crops: np.ndarray  # uint8 [N, H, W, 3]
    unusable: int = 0


def labelled_by_file(prepared: Prepared, address: str, say: Say) -> dict[str, Labelled]:
    """The samples that a CSV file names, with its labels; data sets without any are left out.

    Raises:
        UserError: the file cannot be read, or names what the data do not have.
    """
    given = read_labels(prepared, address)

    def choice(dataset: str, sample_id: str, label: int | None) -> int | None:
        return given.get(dataset, {}).get(sample_id)

    found = _labelled(prepared, choice, say, [name for name, of_set in given.items() if of_set])
    for dataset, of_set in given.items():
        unknown = sorted(of_set.keys() - found[dataset][1]) if of_set else []
        if unknown:
            raise UserError(
                f"The labels {address!r} name {len(unknown):,} samples that data set '{dataset}' "
                f"does not have, such as {unknown[0]!r}. Sample ids are those of the column "
                "sample_id in a run's predictions: class/image.jpg, shard.tar/key or "
                "file.parquet/row."
            )
    return {name: labelled for name, (labelled, _) in found.items() if len(labelled.labels)}


def labelled_by_share(prepared: Prepared, fraction: float, say: Say) -> dict[str, Labelled]:
    """About a `fraction` of each data set's labelled samples, the same ones at every call.

    Those of a smaller fraction are among those of a larger one.

    Raises:
        UserError: no data set has labels.
    """

    def choice(dataset: str, sample_id: str, label: int | None) -> int | None:
        return label if _place(dataset, sample_id) < fraction else None

    found = _labelled(prepared, choice, say, list(prepared.shards))
    chosen = {name: labelled for name, (labelled, _) in found.items() if len(labelled.labels)}
    if not chosen:
        raise UserError(
            f"No sample of the share {fraction:g} has a label that could be used. Give a larger "
            "--fraction, or label some samples: --labels FILE.csv with sample_id and label."
        )
    return chosen


def read_labels(prepared: Prepared, address: str) -> dict[str, dict[str, int]]:
    """A CSV file with a header: sample_id, label (a class's name or number), and dataset.

    Raises:
        UserError: naming the line, what was expected and what is there.
    """
    try:
        text = read_bytes(address, "labels").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"The labels {address!r} are no UTF-8 text: {error.reason}.") from error
    rows = csv.DictReader(io.StringIO(text))
    header = rows.fieldnames or ()
    datasets = list(prepared.shards)
    needed = COLUMNS if len(datasets) == 1 else (*COLUMNS, "dataset")
    if missing := [name for name in needed if name not in header]:
        raise UserError(
            f"The labels {address!r} have no column '{missing[0]}'; their header is "
            f"{', '.join(header) or 'empty'}. Expected a line {','.join(needed)} and then a line "
            "for each sample."
        )
    given: dict[str, dict[str, int]] = {name: {} for name in datasets}
    for row in rows:
        where = f"line {rows.line_num} of the labels {address!r}"
        dataset = row.get("dataset") or datasets[0]
        if dataset not in given or (len(datasets) > 1 and not row["dataset"]):
            raise UserError(
                f"In {where} the data set is {row['dataset']!r}; the job has {', '.join(datasets)}."
            )
        sample_id, label = row["sample_id"] or "", _label(prepared, dataset, row["label"], where)
        if given[dataset].setdefault(sample_id, label) != label:
            raise UserError(f"In {where}, '{sample_id}' has another label than in a line before.")
    if not any(given.values()):
        raise UserError(f"The labels {address!r} name no sample.")
    if large := [name for name, of_set in given.items() if len(of_set) > MOST_LABELS]:
        raise UserError(
            f"The labels {address!r} name {len(given[large[0]]):,} samples of data set "
            f"'{large[0]}'; at most {MOST_LABELS:,} are taken. A few hundred are enough."
        )
    return given


def _label(prepared: Prepared, dataset: str, text: str | None, where: str) -> int:
    names, count = prepared.class_names[dataset], prepared.spec.classes[dataset].count
    text = (text or "").strip()
    if names is not None and names.count(text) == 1:
        return names.index(text)
    if text.isascii() and text.isdigit() and int(text) < count:
        return int(text)
    named = f" or a class's name, such as '{names[0]}'" if names else ""
    raise UserError(
        f"In {where} the label is {text!r}; expected a number from 0 to {count - 1}{named}."
    )


def _place(dataset: str, sample_id: str) -> float:
    """Where a sample lies in [0, 1), whatever comes with it."""
    content = f"{dataset}\n{sample_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:7]) / 2**56


def _labelled(
    prepared: Prepared, choice: Choice, say: Say, datasets: Sequence[str]
) -> dict[str, tuple[Labelled, set[str]]]:
    """By data set: the chosen samples, and the names of all that were found and chosen."""
    found = {}
    for name in datasets:
        chosen = list(_chosen(prepared.shards[name], name, choice))
        kept = sorted(chosen, key=lambda item: _place(name, item[2]))[:MOST_LABELS]
        labelled = _read(prepared, name, sorted(kept))
        if labelled.unusable:
            say(f"data set {name}: {labelled.unusable} labelled samples cannot be used")
        found[name] = labelled, {sample_id for _, _, sample_id, _ in chosen}
    return found


def _chosen(
    shards: Sequence[Shard], dataset: str, choice: Choice
) -> Iterator[tuple[int, int, str, int]]:
    """Shard, ordinal, id and label of each sample that is chosen; no image is read."""
    for place, shard in enumerate(shards):
        for ordinal, sample in enumerate(read_samples(shard, lambda _: False)):
            if not sample.broken:
                label = choice(dataset, sample.sample_id, sample.label)
                if label is not None:
                    yield place, ordinal, sample.sample_id, label


def _read(prepared: Prepared, dataset: str, chosen: list[tuple[int, int, str, int]]) -> Labelled:
    """The chosen samples, which are sorted, with their crops."""
    decode = ImageDecoder(prepared.preprocessing)
    count = prepared.spec.classes[dataset].count
    of_shards: dict[int, dict[int, int]] = {}
    for place, ordinal, _, label in chosen:
        of_shards.setdefault(place, {})[ordinal] = label
    ids, labels, crops = [], [], []
    for place, wanted in of_shards.items():
        shard = prepared.shards[dataset][place]
        last = max(wanted)
        for ordinal, sample in enumerate(read_samples(shard, wanted.__contains__)):
            if ordinal in wanted and sample.image is not None and wanted[ordinal] in range(count):
                crop = decode(sample.image, shard.crop_border)
                if not isinstance(crop, str):
                    ids.append(sample.sample_id)
                    labels.append(wanted[ordinal])
                    crops.append(crop)
            if ordinal == last:
                break
    height, width = prepared.preprocessing.size
    empty = np.zeros((0, height, width, 3), np.uint8)
    return Labelled(
        ids=tuple(ids),
        labels=np.array(labels, dtype=np.int64),
        crops=np.stack(crops) if crops else empty,
        unusable=len(chosen) - len(ids),
    )
