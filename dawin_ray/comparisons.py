"""What DaWin is compared with in the same run: each method's predictions, and its price.

Experts, their output ensembles and the selection of one of them follow from the experts' logits;
a static interpolation is one more model; a method with a coefficient for each sample is one
samplewise forward, about two plain ones. All of them run in pass 1, from the same crops.

Shapes: B batch, M experts, C classes, Q methods.

Source: DaWin, section 5 and appendix; dawin_rft/main_dawin.py of naver-ai/dawin at commit 310e0e1;
the static curve is WiSE-FT's (Wortsman et al., CVPR 2022).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from dawin_ray.expertise import CoefficientConfig, coefficients, log_expertise, pseudo_labels
from dawin_ray.settings import Settings

RANDOM_SEED = 0
# The reference's normal controls, as weights of the last expert: mean -> standard deviation, and
# the limits that it clamps them to.
NORMAL_CONTROLS = {0.5: 0.2, 0.8: 0.1}
NORMAL_LIMITS = (0.01, 0.99)
TINY = torch.finfo(torch.float32).tiny

EVEN = "even_interpolation"
Kind = Literal["expert", "output", "static", "samplewise", "fit"]


class FitConfig(Settings):
    """Another fit of the same coefficients: other clusters, or with or without the offset."""

    clusters: Annotated[int, Field(ge=1)] | None = None
    offset_adjustment: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> FitConfig:
        if self.clusters is None and self.offset_adjustment is None:
            raise ValueError("baselines.fits: say what differs, clusters or offset_adjustment")
        return self

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
    certain expert) costs no forward. `even_interpolation` and each weight in `static` (of the last
    of two experts; 0, 0.5 and 1 are shared) cost one a sample. `exact` (the job's coefficients,
    without offset or reference), `oracle` (from the labels, so no method but a bound), `random`
    (three controls) and each of `coefficients` cost a samplewise one, about two. Each of `fits`,
    DaWin with other clusters or another offset, costs one in pass 2.
    """

    even_interpolation: bool = True
    output_ensembles: bool = True
    static: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    exact: bool = False
    oracle: bool = False
    random: bool = False
    coefficients: tuple[CoefficientConfig, ...] = ()
    fits: tuple[FitConfig, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Method:
    """A compared method."""

    name: str
    kind: Kind
    weight: float | None = None  # of the last expert, where it is static
    coefficient: CoefficientConfig | None = None  # of a samplewise one that is not random
    fit: FitConfig | None = None
    uses_labels: bool = False


def runs_even(baselines: BaselinesConfig, coefficient: CoefficientConfig) -> bool:
    """Whether the even interpolation runs, to be compared with or for pseudo labels."""
    asked = (coefficient, *baselines.coefficients)
    return baselines.even_interpolation or any(c.needs_merged for c in asked)


def methods_of(
    baselines: BaselinesConfig, experts: Sequence[str], coefficient: CoefficientConfig
) -> tuple[Method, ...]:
    """The methods of a job in the order of their columns, the experts first."""
    even = runs_even(baselines, coefficient)
    methods = [Method(name=name, kind="expert") for name in experts]
    if baselines.output_ensembles:
        methods += [
            Method(name=name, kind="output")
            for name in ("even_output_ensemble", "dynamic_output_ensemble", "selection")
        ]
    if even:
        weight = 0.5 if len(experts) == 2 else None
        methods.append(Method(name=EVEN, kind="static", weight=weight))
    methods += [
        Method(name=f"static_{weight:g}", kind="static", weight=weight)
        for weight in dict.fromkeys(baselines.static)
        if not (weight in (0, 1) or (weight == 0.5 and even))
    ]
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


def _name_of(coefficient: CoefficientConfig) -> str:
    return f"exact_{coefficient.target or coefficient.metric}"


def random_coefficients(name: str, key: str, count: int, experts: int) -> np.ndarray:
    """Coefficients [count, M] of a random control; the same for the same method and `key`.

    Uniform, or N(0.5, 0.2) and N(0.8, 0.1) clamped to [0.01, 0.99] as in the reference.
    """
    draw = np.random.default_rng([RANDOM_SEED, zlib.crc32(f"{name}/{key}".encode())])
    if name == "random_uniform":  # on the simplex; for M = 2 uniform in [0, 1]
        return draw.dirichlet(np.ones(experts), size=count)
    mean = float(name.rsplit("_", 1)[1])
    last = draw.normal(mean, NORMAL_CONTROLS[mean], size=count).clip(*NORMAL_LIMITS)
    return np.stack([1 - last, last], axis=1)


def output_ensembles(
    probabilities_MBC: torch.Tensor, log_e_BM: torch.Tensor, entropies_BM: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Class probabilities [B, C] of the methods that combine outputs.

    The dynamic ensemble weighs the experts' probabilities with the sample's own coefficients,
    without an offset, which is not known yet; the selection is the expert of the lowest entropy,
    the first of equal ones.
    """
    weights_BM = torch.softmax(log_e_BM, dim=-1)
    chosen_B = entropies_BM.argmin(dim=-1)
    rows = torch.arange(len(chosen_B), device=chosen_B.device)
    return {
        "even_output_ensemble": probabilities_MBC.mean(dim=0),
        "dynamic_output_ensemble": torch.einsum("bm,mbc->bc", weights_BM, probabilities_MBC),
        "selection": probabilities_MBC[chosen_B, rows],
    }


def outcome(
    probabilities_BC: torch.Tensor, labels_B: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Prediction, confidence, and (NaN where a label is negative) log loss and Brier score [B].

    The Brier score is the sum over classes of (p - y)^2, in [0, 2].
    """
    confidence, prediction = probabilities_BC.max(dim=-1)
    nll = brier = torch.full_like(confidence, torch.nan)
    if labels_B is not None:
        known = labels_B >= 0
        of_label = probabilities_BC.gather(1, labels_B.clamp(min=0)[:, None])[:, 0]
        loss = -of_label.clamp(min=TINY).log()
        squares = probabilities_BC.square().sum(dim=-1) - 2 * of_label + 1
        nll, brier = torch.where(known, loss, nll), torch.where(known, squares, brier)
    return {"prediction": prediction.int(), "confidence": confidence, "nll": nll, "brier": brier}


def coefficients_of(
    method: Method,
    logits: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    even: torch.Tensor | None,
    labels_B: torch.Tensor | None,
    where: tuple[str, int, slice],
) -> np.ndarray:
    """Coefficients [B, M] of a samplewise method; even where it needs a label and there is none.

    `where` is the samples' chunk, its size and their rows in it, on which random ones depend.
    """
    count, experts = len(logits[0]), len(logits)
    if method.coefficient is None:
        chunk, size, rows = where
        return random_coefficients(method.name, chunk, size, experts)[rows]
    target, known = method.coefficient.target, None
    if target == "labels":
        if labels_B is None:
            return np.full((count, experts), 1 / experts)
        known, targets = labels_B >= 0, labels_B.clamp(min=0)
    else:
        targets = target and pseudo_labels(target, logits, temperatures, even)
    log_e = log_expertise(method.coefficient.metric, logits, temperatures, targets)
    found = coefficients(log_e.cpu().numpy())
    if known is not None:
        found[~known.cpu().numpy()] = 1 / experts
    return found


def compare(
    methods: Sequence[Method],
    probabilities: Mapping[str, torch.Tensor],
    run: Callable[[Method], torch.Tensor],
    labels_B: torch.Tensor | None,
    prefix: str = "baseline",
) -> dict[str, torch.Tensor]:
    """Columns [B, Q] of the methods: of `probabilities` where they are there, else of `run`.

    A method that uses labels predicts -1 where there is none.
    """
    outcomes = []
    for method in methods:
        given = probabilities.get(method.name)
        found = outcome(run(method) if given is None else given, labels_B)
        if method.uses_labels:
            known = torch.zeros_like(found["prediction"]).bool() if labels_B is None else (
                labels_B >= 0
            )  # fmt: skip
            found["prediction"] = torch.where(known, found["prediction"], -1)
        outcomes.append(found)
    return {
        f"{prefix}_{name}": torch.stack([found[name] for found in outcomes], dim=-1)
        for name in outcomes[0]
    }
