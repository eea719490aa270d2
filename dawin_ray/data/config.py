"""What a job file says of a data set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from dawin_ray.data.formats.registry import FORMATS
from dawin_ray.models import HeadConfig
from dawin_ray.settings import Settings

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[*FORMATS]  # as types of a job's keys are shown, and what is refused

# What readers of Hive partitions (pandas, polars, DuckDB) take for something else than text.
NO_TEXT = re.compile(
    r"[^A-Za-z]*|\d[\d._]*e[+-]?\d+|inf(inity)?|nan|true|false|null|none|na|nil|"
    r"0x[0-9a-f]+|0b[01]+|0o[0-7]+|\d{4}-?\d\d-?\d\dt[\d.]*z?",
    re.IGNORECASE,
)


class DatasetConfig(Settings):
    """Where a data set is and which of the head's classes it has.

    `class_names` and `templates` are for a zero-shot head of the data set's own, and `class_names`
    beside a head of a file names its classes; without `head` and these the model's head serves all
    data sets. `image_column` and `label_column` name columns of Parquet, or
    extensions of a tar's members, such as `input.jpg` (a label also a key of `.json`);
    `label_column: none` reads no labels. `skip_other_folders` leaves out class folders that are
    named by none of `classes`; `crop_border` pixels are cut from each side before anything else.
    Both are for ObjectNet.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The outputs lie in folders dataset=NAME."""
    path: str
    """Its folder or file, at any fsspec address."""
    format: FormatName | None = None
    """Null: as the files' suffixes say. `idx` is MNIST's files, `svhn` SVHN's test_32x32.mat."""
    classes: str | None = None
    """Null: the head's; else imagenet-a, imagenet-r, a text file with an index or a name a line, or
    a JSON file of groups."""
    class_names: str | None = None
    templates: str | None = None
    head: HeadConfig | None = None
    """Null: `class_names`, or the model's."""
    expert: str | None = None
    """Whose task this is: an expert's name. Only what knows the task reads it."""
    annotations: str | None = None
    """Of a folder: a file that names its images, and says their labels if it has some. A .txt with
    a name a line, a .csv with columns such as Filename and ClassId, or a .mat like Stanford Cars'.
    """
    image_column: str | None = None
    label_column: str | None = None
    skip_other_folders: bool = False
    crop_border: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if NO_TEXT.fullmatch(name):
            raise ValueError(
                f"'{name}' would come back from dataset={name}/ as a number, a date or nothing, as "
                f"pandas, polars and DuckDB read such folders. Give a name with letters, like "
                f"'set-{name}'"
            )
        return name

    @model_validator(mode="after")
    def _check_annotations(self) -> DatasetConfig:
        if self.annotations is None:
            return self
        if self.format is not None and not FORMATS[self.format].of_images:
            raise ValueError(
                f"'{self.name}' has annotations, which name the images of a folder; its format is "
                f"{self.format}"
            )
        if self.skip_other_folders:
            raise ValueError(
                f"'{self.name}' has annotations and skip_other_folders: each says which images are "
                "meant. Leave one out"
            )
        return self

    @model_validator(mode="after")
    def _check_head(self) -> DatasetConfig:
        if self.head is None:
            return self
        if self.templates or (self.head.zero_shot and self.class_names):
            raise ValueError(
                f"'{self.name}' has templates or class_names beside its head: write them into "
                "head: {zero_shot: {class_names: ..., templates: ...}}, or leave head out"
            )
        return self
