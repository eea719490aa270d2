"""TODO: passes.spec (of stages, progress)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dawin_ray.data import DatasetClasses
from dawin_ray.method import TASK_SCALE, BaselinesConfig, CoefficientConfig, Method, methods_of
from dawin_ray.models import ModelSpec, Precision


@dataclass(frozen=True, kw_only=True)
class ScoringSpec:
    """All that the model stages need; small, and safe to pickle."""

    model: ModelSpec
    heads: Mapping[str, str]  # data set -> head
    classes: Mapping[str, DatasetClasses]  # data set -> its classes
    coefficient: CoefficientConfig
    scale: float = TASK_SCALE
    exact: bool = False  # each sample's own weights instead of its cluster's
    exact_rank: int | None = None  # of the differences, in the exact mode
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    batch_size: int = 256
    precision: Precision = "float32"
    device: str = "cpu"
    compared: frozenset[str] = frozenset()  # chunks that are scored in float32 too in any case

    @property
    def methods(self) -> tuple[Method, ...]:
        """What DaWin is compared with in pass 1."""
        names = [expert.name for expert in self.model.experts]
        found = methods_of(self.baselines, names, self.coefficient)
        return tuple(method for method in found if method.kind != "fit")


PHASES = {
    "experts": "pass 1, experts",
    "merged": "pass 2, merged models",
    "exact": "pass 2, exact models",
    "at_once": "one pass, experts and interpolated models",
}
