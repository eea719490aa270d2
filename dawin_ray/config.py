"""The job file: YAML to a checked, frozen `Job`. Each section's settings stand beside its code."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from dawin_ray.data import FORMATS, DatasetConfig
from dawin_ray.engine import ComputeConfig
from dawin_ray.errors import UserError
from dawin_ray.method import (
    OFFSET_EXPERTS,
    BaselinesConfig,
    CoefficientConfig,
    MergeConfig,
    Method,
    MixtureConfig,
    methods_of,
)
from dawin_ray.models import UNTEMPERED, ExpertConfig, ModelConfig
from dawin_ray.runs import SavedFitConfig
from dawin_ray.settings import Settings, to_fill_in
from dawin_ray.statistics import DriftConfig
from dawin_ray.storage import check_job, check_no_secrets, read_bytes, without_secrets


class Job(Settings):
    """A scoring job."""

    run_dir: str
    """Where the outputs go, and what is resumed: a folder, or an fsspec address such as s3://..."""
    mode: Literal["once", "append"] = "once"
    """`append` scores what the run directory has not scored yet, as one more batch in it."""
    model: ModelConfig
    experts: tuple[ExpertConfig, ...] = Field(min_length=2)
    """Two or more; the first is the base."""
    datasets: tuple[DatasetConfig, ...] = Field(min_length=1)
    """Class folders, WebDataset tars or Parquet."""
    coefficient: CoefficientConfig = CoefficientConfig()
    mixture: MixtureConfig = MixtureConfig()
    merge: MergeConfig = MergeConfig()
    fit: Literal["per_dataset", "joint"] | SavedFitConfig = "per_dataset"
    """`joint` fits one offset and one mixture to all data sets together; a saved fit is applied in
    one pass."""
    drift: DriftConfig = DriftConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    in_distribution: str | None = None
    """A data set; the report's means are over the others, which it draws against it."""
    incumbent: str | None = None
    """An expert or a baseline: the one in use, which the report says whether to replace."""
    max_reject_fraction: float = Field(default=0.01, ge=0, le=1)
    """A run fails at the end of a pass where more of a data set's samples cannot be used."""
    max_broken_shards: int = Field(default=0, ge=0)
    """Likewise where more shards, of all data sets, could not be read to their end."""
    compute: ComputeConfig = ComputeConfig()
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """fsspec's, by protocol, such as {s3: {endpoint_url: ...}}, as far as they cannot be
    credentials, which belong in the environment."""

    @field_validator("storage_options")
    @classmethod
    def _check_storage(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_no_secrets(options)
        return options

    @model_validator(mode="after")
    def _check_names(self) -> Job:
        for what, items in (("experts", self.experts), ("datasets", self.datasets)):
            names = [item.name for item in items]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{what}: the name '{twice}' is given twice; names are unique")
        names = [dataset.name for dataset in self.datasets]
        if self.in_distribution is not None and self.in_distribution not in names:
            raise ValueError(f"in_distribution: expected one of {', '.join(names)}")
        methods = [method.name for method in self.methods]
        for name in ("dawin", *methods):
            if methods.count(name) > (name != "dawin"):
                raise ValueError(
                    f"two methods are called '{name}': rename the expert or leave one out"
                )
        rivals = [method.name for method in self.methods if not method.is_bound]
        if self.incumbent is not None and self.incumbent not in rivals:
            raise ValueError(
                f"incumbent: expected an expert or a baseline of this job ({', '.join(rivals)})"
            )
        return self

    @model_validator(mode="after")
    def _check_datasets(self) -> Job:
        for dataset in self.datasets:
            if dataset.skip_other_folders and not (
                dataset.classes and (dataset.format is None or FORMATS[dataset.format].of_images)
            ):
                raise ValueError(
                    f"datasets: skip_other_folders of '{dataset.name}' needs classes that name its "
                    "folders"
                )
        experts = [expert.name for expert in self.experts]
        for dataset in self.datasets:
            if dataset.expert is not None and dataset.expert not in experts:
                raise ValueError(
                    f"datasets: expert of '{dataset.name}' is '{dataset.expert}'; expected one of "
                    f"{', '.join(experts)}"
                )
        return self

    @model_validator(mode="after")
    def _check_baselines(self) -> Job:
        if self.baselines.static and len(self.experts) != 2:
            raise ValueError("baselines.static: a static curve is between two experts")
        if self.merge.base is None and (asked := self.baselines.of_task_vectors):
            raise ValueError(
                f"baselines.{asked[0]}: it is made of a base, and this job has none. Give the "
                "checkpoint that the experts were fine-tuned from as merge.base, or leave it out"
            )
        unknown = [dataset.name for dataset in self.datasets if dataset.expert is None]
        if self.baselines.own_expert and unknown:
            raise ValueError(
                f"baselines.own_expert: whose task '{unknown[0]}' is, is not known. Give each data "
                "set its expert: NAME, or leave it out"
            )
        if self.baselines.fits and (self.exact or self.saved_fit):
            raise ValueError("baselines.fits: they are of mixtures, and this job fits none")
        adjusted = any(fit.offset_adjustment for fit in self.baselines.fits)
        if (adjusted or self.coefficient.offset_adjustment) and len(self.experts) > OFFSET_EXPERTS:
            raise ValueError(
                f"offset_adjustment is defined for {OFFSET_EXPERTS} experts, and this job has "
                f"{len(self.experts)}: the method has no offset for task experts; leave it out"
            )
        if adjusted and not self.coefficient.adjustable:
            raise ValueError(
                f"baselines.fits: offset_adjustment is not defined for {self.coefficient.metric}"
            )
        if any(c.needs_fit or c.calibration for c in self.baselines.coefficients):
            raise ValueError(
                "baselines.coefficients: offset_adjustment, reference and calibration need a fit "
                "of their own; run it as a job"
            )
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> Job:
        if self.coefficient.calibration is None:
            return self
        tempered = [e.name for e in self.experts if e.temperature != UNTEMPERED]
        if tempered:
            raise ValueError(
                f"experts: '{tempered[0]}' has a temperature, and coefficient.calibration brings "
                "one too: leave one of them out"
            )
        if self.fit == "joint":
            raise ValueError(
                "fit: joint is one for all data sets, and coefficient.calibration has log odds of "
                "each: use fit: per_dataset"
            )
        if any(fit.offset_adjustment for fit in self.baselines.fits):
            raise ValueError(
                "baselines.fits: offset_adjustment and coefficient.calibration shift the same "
                "scores: compare them as two jobs"
            )
        return self

    @model_validator(mode="after")
    def _check_fit(self) -> Job:
        if self.mode == "append" and not self.one_pass:
            raise ValueError(
                "mode: append scores each batch as it comes, so nothing can be fitted to it: it "
                "needs fit: {from: RUN, dataset: NAME}, or mixture: {clusters: exact} without "
                "offset_adjustment and reference"
            )
        names = [dataset.name for dataset in self.datasets]
        reference = self.coefficient.reference
        if reference is not None and "#" not in reference and reference not in names:
            raise ValueError(
                f"coefficient.reference: expected one of {', '.join(names)}, or FIT.json#NAME"
            )
        return self

    @property
    def methods(self) -> tuple[Method, ...]:
        """What DaWin is compared with."""
        names = [expert.name for expert in self.experts]
        scale = self.merge.scale if self.merge.base else None
        return methods_of(self.baselines, names, self.coefficient, scale)

    @property
    def exact(self) -> bool:
        """Whether each sample gets its own weights."""
        return self.mixture.clusters == "exact"

    @property
    def saved_fit(self) -> SavedFitConfig | None:
        """The fit of another run that is applied, if any."""
        return self.fit if isinstance(self.fit, SavedFitConfig) else None

    @property
    def one_pass(self) -> bool:
        """Whether coefficients depend on the sample alone, so that each is decoded once."""
        return self.saved_fit is not None or (self.exact and not self.coefficient.needs_fit)

    def to_yaml(self) -> str:
        """The job with every default written out."""
        text: str = yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False)
        return text


def load_job(address: str, overrides: Sequence[str] = ()) -> Job:
    """Read a job file and apply `key=value` overrides, such as `compute.batch_size=64`.

    Paths in the file are relative to the working directory. List items go by their index:
    `datasets.0.path=...`.

    Raises:
        UserError: the file cannot be read or is no YAML, or a key or value is wrong.
    """
    try:
        data = yaml.safe_load(read_bytes(address, "job file"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"The job file {address!r} is no valid YAML: it is no UTF-8 text ({error.reason})."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"The job file {address!r} is no valid YAML: {_place(error)}") from error
    if not isinstance(data, dict):
        raise UserError(
            f"The job file {address!r} must be a mapping with the keys "
            f"{', '.join(Job.model_fields)}."
        )
    for override in overrides:
        _apply(data, override)
    return make_job(data, address)


def make_job(data: dict[str, Any], origin: str = "job") -> Job:
    """A job from plain values.

    Raises:
        UserError: a key or value is wrong; all faults are listed.
    """
    check_job(data, origin)
    if left := [f"  {key}: {wanted}" for key, wanted in to_fill_in(data)]:
        raise UserError(
            f"The job file {origin!r} is not finished. Fill in, there or as key=value behind it:\n"
            + "\n".join(left)
        )
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        # pydantic counts only the items without a fault, and then calls the list too short
        own = [e for e in found if e["type"] != "too_short" or not _has_faulty_item(e, found)]
        faults = "\n".join(f"  {line}" for line in dict.fromkeys(map(_fault, own)))
        raise UserError(f"The job file {origin!r} is wrong:\n{faults}") from error


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(
            f"Override {_shown(override)!r} is no key=value, such as compute.batch_size=64."
        )
    *path, last = key.split(".")
    target: Any = data
    for part in path:
        if isinstance(target, list):
            target = _item(target, part, key)
        else:
            target = target.setdefault(part, {})
        if not isinstance(target, dict | list):
            raise UserError(f"Override {_shown(override)!r}: {part!r} is a value and has no keys.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"Override {_shown(override)!r}: the value is no valid YAML: {_place(error)}"
        ) from error
    if isinstance(target, list):
        _item(target, last, key)
        target[int(last)] = value
    else:
        target[last] = value


def _item(items: list[Any], index: str, key: str) -> Any:
    if not index.isdigit() or int(index) >= len(items):
        raise UserError(f"Override {key!r}: expected an index below {len(items)}, got {index!r}.")
    return items[int(index)]


def _fault(error: ErrorDetails) -> str:
    """One line of a validation error: where, what, and what is valid."""
    location = [part for part in error["loc"] if not _is_union_tag(part, error["loc"])]
    where = ".".join(map(str, location)) or "job"
    if error["type"] == "extra_forbidden":
        fields = _model_at(tuple(location[:-1])).model_fields
        valid = [field.alias or name for name, field in fields.items()]
        near = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{where}: unknown key. Valid here: {', '.join(valid)}.{hint}"
    if error["type"] == "missing":
        return f"{where}: missing, but required"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{where}: {message}"
    given = error["input"]
    if isinstance(given, dict | list) or location[:1] == ["storage_options"]:
        return f"{where}: {message}; got a {type(given).__name__}"  # it may hold a credential
    return f"{where}: {message}; got {given!r}"


def _shown(override: str) -> str:
    """An override as it was given, but for what may be a credential."""
    key, _, value = override.partition("=")
    return (
        f"{key}=..." if key.startswith("storage_options") and value else without_secrets(override)
    )


def _place(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself: it may hold a credential."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    at = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    named = re.sub(r"'[^<'][^']+'", "one", problem or "it cannot be parsed")
    return f"{named}{at}."


def _has_faulty_item(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    location = error["loc"]
    return any(
        len(other["loc"]) > len(location) and other["loc"][: len(location)] == location
        for other in errors
    )


def _is_union_tag(part: Any, location: tuple[int | str, ...]) -> bool:
    """Whether pydantic added this part to tell the branches of a union apart."""
    return (
        isinstance(part, str)
        and part != location[0]
        and (
            "[" in part
            or part in ("int", "str")
            or part.startswith("constrained-")
            or part.endswith("Config")
        )
    )


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Job
    for part in location:
        if isinstance(part, str):
            (model, *_) = models_in(model.model_fields[part].annotation)
    return model


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key's value may be, or be a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in models_in(inner)]
