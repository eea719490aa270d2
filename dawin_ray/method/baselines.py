"""What DaWin is compared with in the same run: each method's predictions, and its price.

Experts, their output ensembles and the selection of one of them follow from the experts' logits;
a static interpolation is one more model, as is each other way to merge once (averaging, task
arithmetic, TIES, the base alone); a method with a coefficient for each sample is one samplewise
forward, about M plain ones. All of them run in pass 1, from the same crops.

Shapes: B batch, M experts, C classes, Q methods.

Source: DaWin, section 5 and appendix; dawin_rft/main_dawin.py of naver-ai/dawin at commit 310e0e1;
the static curve is WiSE-FT's (Wortsman et al., CVPR 2022). Of task vectors: dawin_mtl/src/
main_weight_avg.py, main_task_arithmetic.py and main_ties_merging.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dawin_ray.method.coefficients import CoefficientConfig
from dawin_ray.method.mixture import MixtureConfig
from dawin_ray.method.ties import TiesConfig
from dawin_ray.settings import Settings

# The reference's normal controls, as weights of the last expert: mean -> standard deviation, and
# the limits that it clamps them to.
NORMAL_CONTROLS = {0.5: 0.2, 0.8: 0.1}

DAWIN = "dawin"  # its name among the methods

EVEN = "even_interpolation"

AVERAGING, BASE, OWN, TIES = "averaging", "base", "own_expert", "ties"

Kind = Literal["expert", "output", "static", "samplewise", "fit"]

# How the one model of a static method is made.
Recipe = Literal["interpolation", "averaging", "task_arithmetic", "ties", "base"]


class FitConfig(Settings):
    """Another fit of the same coefficients: other clusters, or with or without the offset."""

    clusters: Annotated[int, Field(ge=1)] | None = None
    """Null: the job's."""
    offset_adjustment: bool | None = None
    """Null: the job's."""

    @model_validator(mode="after")
    def _check(self) -> FitConfig:
        if self.clusters is None and self.offset_adjustment is None:
            raise ValueError("baselines.fits: say what differs, clusters or offset_adjustment")
        return self

    def mixture(self, of_job: MixtureConfig) -> MixtureConfig:
        """The job's settings of a mixture, but for what differs."""
        if self.clusters is None:
            return of_job
        return MixtureConfig(**of_job.model_dump() | {"clusters": self.clusters})

    @property
    def name(self) -> str:
        """Such as `dawin_K10` or `dawin_K10_offset`."""
        parts = ["dawin"] + ([] if self.clusters is None else [f"K{self.clusters}"])
        if self.offset_adjustment is not None:
            parts.append("offset" if self.offset_adjustment else "no_offset")
        return "_".join(parts)


class BaselinesConfig(Settings):
    """What is scored beside DaWin, for comparison.

    `output_ensembles` (even and dynamic ensemble of the experts' outputs, selection of the more
    certain expert) costs no forward, nor does `own_expert`. `even_interpolation`, each weight in
    `static` (of the last of two experts; 0, 0.5 and 1 are shared), `averaging`, each scale in
    `task_arithmetic`, `ties` and `base` cost one a sample, and are merged once for all data sets.
    `exact` (the job's coefficients, without offset or reference), `oracle` (from the labels, so no
    method but a bound), `random` (three controls) and each of `coefficients` cost a samplewise one,
    about as many as there are experts. Each of `fits`, DaWin with other clusters or another offset,
    costs one in pass 2.
    """

    even_interpolation: bool = True
    """As the job merges: with `merge.base`, task arithmetic with `merge.scale`."""
    output_ensembles: bool = True
    own_expert: bool = False
    """Each data set's `expert` on it: it knows the task, so it is a bound and no rival."""
    static: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    averaging: bool = False
    """The mean of the experts' weights, whatever the base."""
    task_arithmetic: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Scales of the sum of task vectors; needs `merge.base`."""
    ties: TiesConfig | None = None
    """Needs `merge.base`."""
    base: bool = False
    """`merge.base` alone."""
    exact: bool = False
    oracle: bool = False
    random: bool = False
    coefficients: tuple[CoefficientConfig, ...] = ()
    fits: tuple[FitConfig, ...] = ()

    @property
    def of_task_vectors(self) -> list[str]:
        """The keys that are set and need `merge.base`."""
        asked = {"task_arithmetic": self.task_arithmetic, "ties": self.ties, "base": self.base}
        return [key for key, value in asked.items() if value]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A compared method."""

    name: str
    kind: Kind
    recipe: Recipe = "interpolation"  # of a static one
    weight: float | None = None  # of the last expert, where it is on the static curve
    scale: float | None = None  # of task arithmetic and TIES
    same_as: str | None = None  # the static method whose model it is, for another name
    coefficient: CoefficientConfig | None = None  # of a samplewise one that is not random
    fit: FitConfig | None = None
    uses_labels: bool = False
    uses_task: bool = False  # it is told whose task a data set is

    @property
    def is_bound(self) -> bool:
        """Whether it knows what DaWin does not, and so is no rival."""
        return self.uses_labels or self.uses_task

    @property
    def merges(self) -> bool:
        """Whether it brings a model that is merged once."""
        return self.kind == "static" and self.same_as is None

    def added(self, experts: int) -> int:
        """What it adds to a run that has the experts' answers, in forwards of one model a sample.

        Of a samplewise method about so many.
        """
        if self.same_as is not None:
            return 0
        return {"expert": 0, "output": 0, "static": 1, "fit": 1, "samplewise": experts}[self.kind]

    def alone(self, experts: int) -> int:
        """What it would cost by itself, in the same unit: with the experts where it asks them."""
        if self.kind in ("expert", "static") or self.uses_task:
            return 1
        asked = experts if self.kind != "samplewise" or self.coefficient is not None else 0
        even = self.coefficient is not None and self.coefficient.needs_merged
        return asked + int(even) + self.added(experts)


def runs_even(baselines: BaselinesConfig, coefficient: CoefficientConfig) -> bool:
    """Whether the even interpolation runs, to be compared with or for pseudo labels."""
    asked = (coefficient, *baselines.coefficients)
    return baselines.even_interpolation or any(c.needs_merged for c in asked)


def methods_of(
    baselines: BaselinesConfig,
    experts: Sequence[str],
    coefficient: CoefficientConfig,
    task_scale: float | None = None,
) -> tuple[Method, ...]:
    """The methods of a job in the order of their columns, the experts first.

    `task_scale` is what the job merges task vectors with; None where there is no base.
    """
    even = runs_even(baselines, coefficient)
    methods = [Method(name=name, kind="expert") for name in experts]
    if baselines.output_ensembles:
        methods += [
            Method(name=name, kind="output")
            for name in ("even_output_ensemble", "dynamic_output_ensemble", "selection")
        ]
    if baselines.own_expert:
        methods.append(Method(name=OWN, kind="output", uses_task=True))
    if even:
        weight = 0.5 if len(experts) == 2 else None
        methods.append(Method(name=EVEN, kind="static", weight=weight))
    methods += [
        Method(name=f"static_{weight:g}", kind="static", weight=weight)
        for weight in dict.fromkeys(baselines.static)
        if not (weight in (0, 1) or (weight == 0.5 and even))
    ]
    methods += _merged_once(baselines, EVEN if even else None, task_scale)
    own = CoefficientConfig(metric=coefficient.metric, target=coefficient.target)
    samplewise = [("exact", own, own.needs_labels)] if baselines.exact else []
    samplewise += [(_name_of(c), c, c.needs_labels) for c in baselines.coefficients]
    if baselines.oracle:
        oracle = CoefficientConfig(metric="cross_entropy", target="labels")
        samplewise.append(("oracle", oracle, True))
    methods += [
        Method(name=name, kind="samplewise", coefficient=coefficient, uses_labels=uses_labels)
        for name, coefficient, uses_labels in samplewise
    ]
    if baselines.random:
        controls = ["random_uniform"]
        if len(experts) == 2:
            controls += [f"random_normal_{mean:g}" for mean in NORMAL_CONTROLS]
        methods += [Method(name=name, kind="samplewise") for name in controls]
    methods += [Method(name=fit.name, kind="fit", fit=fit) for fit in baselines.fits]
    return tuple(methods)


def _merged_once(
    baselines: BaselinesConfig, even: str | None, task_scale: float | None
) -> list[Method]:
    """Static methods besides interpolation; `even` is the even one's name, where it runs."""
    methods = []
    if baselines.averaging:
        same = even if task_scale is None else None
        methods.append(Method(name=AVERAGING, kind="static", recipe="averaging", same_as=same))
    methods += [
        Method(
            name=f"task_arithmetic_{scale:g}", kind="static", recipe="task_arithmetic", scale=scale,
            same_as=even if scale == task_scale else None,
        )
        for scale in dict.fromkeys(baselines.task_arithmetic)
    ]  # fmt: skip
    if baselines.ties is not None:
        scale = baselines.ties.scale
        methods.append(Method(name=TIES, kind="static", recipe="ties", scale=scale))
    if baselines.base:
        methods.append(Method(name=BASE, kind="static", recipe="base"))
    return methods


def _name_of(coefficient: CoefficientConfig) -> str:
    return f"exact_{coefficient.target or coefficient.metric}"
