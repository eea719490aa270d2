"""What a data set is: where its shards are, how its samples are named and read.

Three formats, local or at any fsspec address; labels are optional in all of them:

    folder      <path>/<class>/<image>; images without a class folder have no label
    webdataset  tars of consecutive members key.jpg|jpeg|png|webp..., key.cls; the layout of the
                clip-benchmark data sets (nshards.txt, classnames.txt) is understood
    parquet     an `image` struct {bytes, path} as Hugging Face writes it, or a binary column

A *shard* is one tar, one Parquet file, or a fixed range of a folder's sorted images. A sample's
name depends on where it lies and nothing else: `class/image.jpg`, `shard.tar/key`,
`file.parquet/row`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dawin_ray.data.datasets import NO_LABELS, DatasetConfig, Shard, digest_of, file_key
from dawin_ray.data.labels import hive_label, hive_labels
from dawin_ray.data.listing import Listing
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import join

_file_key = file_key  # its name before shards had a module

# Images of a folder that one reading task takes. Fixed, because chunk names depend on it; small
# enough that a few thousand images keep several cores busy.
FOLDER_SHARD_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that was found, and all that its shards are made of."""

    config: DatasetConfig
    listing: Listing
    labels: Mapping[str, int] | None  # of its class folders
    label_names: tuple[str, ...] = ()  # of its classes, where labels are written as names
    labels_from: str = ""  # where labels come from, in words
    notes: tuple[str, ...] = ()  # for a person: what is left out, missing or guessed

    def shards(self, wanted: Callable[[str, int, str], bool] | None = None) -> tuple[Shard, ...]:
        """Its shards, or those of the files that are `wanted` (see `Listing.where`)."""
        listing = self.listing if wanted is None else self.listing.where(wanted)
        return tuple(make_shards(self.config, listing, self.labels, self.label_names))


def make_shards(
    config: DatasetConfig,
    listing: Listing,
    labels: Mapping[str, int] | None = None,
    label_names: tuple[str, ...] = (),
) -> list[Shard]:
    """The shards of a data set in a fixed order.

    `labels` are those of its class folders; `label_names` its class names, where labels are written
    as such.

    Raises:
        UserError: a Hive folder's label is none.
    """
    if listing.format != "folder":
        hive = _hive(config, listing, label_names)
        column = config.label_column
        if listing.labelling is not None and listing.labelling.unlabelled:
            column = NO_LABELS
        if hive and config.label_column and any(f"{column}=" in name for name in hive):
            column = NO_LABELS  # it is the folders', not the files'
        shards = [
            Shard(
                dataset=config.name,
                name=name,
                address=join(listing.root, name),
                format=listing.format,
                bytes=size,
                version=version,
                key=file_key(name),
                image_column=config.image_column,
                label_column=column,
                label=hive.get(name),
                label_names=label_names,
                crop_border=config.crop_border,
            )
            for (name, size), version in zip(listing.files, listing.versions, strict=True)
        ]
        assert len({shard.key for shard in shards}) == len(shards), "keys are unique"
        return shards
    if config.label_column == NO_LABELS:
        labels = None
    shards = []
    for start in range(0, len(listing.files), FOLDER_SHARD_IMAGES):
        rows = slice(start, start + FOLDER_SHARD_IMAGES)
        images = tuple(
            (name, size, (labels or {}).get(name.split("/")[0]) if "/" in name else None)
            for name, size in listing.files[rows]
        )
        shards.append(
            Shard(
                dataset=config.name,
                name=f"images {start}..{start + len(images) - 1}",
                address=listing.root,
                format="folder",
                bytes=sum(size for _, size, _ in images),
                version=digest_of(listing.versions[rows]),
                key=f"images-{start:09d}",
                images=images,
                versions=listing.versions[rows],
                crop_border=config.crop_border,
            )
        )
    return shards


def _hive(
    config: DatasetConfig, listing: Listing, label_names: tuple[str, ...]
) -> dict[str, int | None]:
    """The labels of files that lie in Hive folders, `label=3/`."""
    names = [name for name, _ in listing.files]
    asked = config.label_column
    unnamed = listing.labelling is not None and listing.labelling.text and not label_names
    if asked == NO_LABELS or unnamed or (hive := hive_labels(names, asked)) is None:
        return {}
    labels = {}
    for name, value in hive[1].items():
        try:
            labels[name] = hive_label(value, label_names)
        except ValueError as error:
            raise UserError(
                f"Data set '{config.name}', {shown(name)!r}: {error}. Correct the folder's name, "
                "give the class names (model.class_names, datasets[].classes), or set "
                "label_column: none."
            ) from error
    return labels
