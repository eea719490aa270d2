"""What the passes need of a job: models, a head and classes for each data set, coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dawin_ray.data import DatasetClasses
from dawin_ray.method import (
    TASK_SCALE,
    BaselinesConfig,
    CoefficientConfig,
    Method,
    Trim,
    methods_of,
)
from dawin_ray.models import ModelSpec, Precision


@dataclass(frozen=True)
class Task:
    """What a data set's images are classified by."""

    head: str  # its key, see `models.HeadSpec`
    classes: DatasetClasses  # those of the head's that the data set has
    expert: str | None = None  # whose task it is, for what may know it


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """All that the passes need; small, and safe to pickle."""

    model: ModelSpec
    tasks: Mapping[str, Task]  # by data set
    coefficient: CoefficientConfig
    scale: float = TASK_SCALE
    exact: bool = False  # each sample's own weights instead of its cluster's
    exact_rank: int | None = None  # of the differences, in the exact mode
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    trim: Trim | None = None  # of TIES, where it is one of the baselines
    batch_size: int = 256
    precision: Precision = "float32"
    device: str = "cpu"
    compared: frozenset[str] = frozenset()  # chunks that are scored in float32 too in any case

    @property
    def classes(self) -> dict[str, DatasetClasses]:
        """By data set."""
        return {name: task.classes for name, task in self.tasks.items()}

    @property
    def methods(self) -> tuple[Method, ...]:
        """What DaWin is compared with in pass 1."""
        names = [expert.name for expert in self.model.experts]
        found = methods_of(
            self.baselines, names, self.coefficient, self.scale if self.model.base else None
        )
        return tuple(method for method in found if method.kind != "fit")
