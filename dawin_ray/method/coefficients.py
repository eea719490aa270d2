"""From log expertise to interpolation coefficients, a data set's offset and the anchor included.

Shapes: N samples, M experts. All in float64 and log space.

Source: DaWin, section 4, and dawin_rft/main_dawin.py, lines 38-135, of naver-ai/dawin at commit
310e0e1. The anchor (`entropy_growth`) is ours; no expertise of the paper knows a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from pydantic import Field, model_validator

from dawin_ray.errors import UserError
from dawin_ray.method.expertise import METRICS, Metric, Target
from dawin_ray.method.streams import Moments
from dawin_ray.settings import Settings

OFFSET_EXPERTS = 2  # that the offset adjustment is defined for

# Nats. An expert that was tuned to certainty has medians near 0 on its own ground, whose ratios
# would be of rounding errors; a hundredth of a nat is a prediction of 99.9 % among ten classes.
MEDIAN_FLOOR = 1e-2

# Of a reference: an expert that is this certain (nats) of all but a hundredth of it has probably
# been tuned on it. On two suites the quantile was 0.48 or more where the images were held out, and
# 0.037 or less where they were not (jobs/studies/reference_on_digits.py, reference_on_letters.py).
REFERENCE_TAIL, TRAINED_TAIL = 0.99, 0.1


class CoefficientConfig(Settings):
    """How coefficients are made from logits.

    `metric` is the measure of expertise, `target` what a cross-entropy is taken against (the true
    labels are the paper's oracle), `offset_adjustment` the data set's offset of `Offset`.
    `reference` anchors the coefficients to a data set that no shift has touched (see
    `entropy_growth`): the name of one in the job, or FIT.json#NAME of another run; `strength` 0 is
    DaWin. It has to be held out from fine-tuning, and needs no labels. It is no default: of six
    suites and networks it won on two and lost on four (jobs/studies/README.md), and loses where a
    data set mixes clean with shifted images.
    """

    metric: Metric = "entropy"
    target: Target | None = None
    offset_adjustment: bool = False
    reference: str | None = None
    strength: float = Field(default=1.0, ge=0)
    calibration: str | None = None
    """A file of `dawin-ray calibrate`: temperatures of the experts, and log odds of each data set
    that are added to the scores -H."""

    @model_validator(mode="after")
    def _check(self) -> CoefficientConfig:
        if METRICS[self.metric].needs_target != (self.target is not None):
            with_target = " or ".join(n for n, metric in METRICS.items() if metric.needs_target)
            raise ValueError(
                f"target goes with metric: {with_target}, and only with it; it is one of "
                f"{', '.join(get_args(Target))}"
            )
        if self.offset_adjustment and not self.adjustable:
            adjustable = " and ".join(n for n, metric in METRICS.items() if metric.adjustable)
            raise ValueError(
                f"offset_adjustment is defined for {adjustable}, not for {self.metric}; set it to "
                "false"
            )
        if self.reference is not None and (self.metric != "entropy" or self.offset_adjustment):
            raise ValueError(
                "reference goes with metric: entropy and without offset_adjustment: both shift the "
                "same scores"
            )
        if self.calibration is not None and (
            self.metric != "entropy" or self.offset_adjustment or self.reference is not None
        ):
            raise ValueError(
                "calibration goes with metric: entropy and without offset_adjustment and "
                "reference: all of them shift the same scores"
            )
        return self

    def check_experts(self, experts: int) -> None:
        """Refuse an offset for a number of experts that it is not defined for.

        Raises:
            UserError: naming the key and the number.
        """
        if self.offset_adjustment and experts != OFFSET_EXPERTS:
            raise UserError(
                f"offset_adjustment is defined for {OFFSET_EXPERTS} experts, and here are "
                f"{experts}: the method has no offset for task experts. Leave it out, or set it to "
                "false."
            )

    @property
    def adjustable(self) -> bool:
        """Whether an offset adjustment is defined for the metric."""
        return METRICS[self.metric].adjustable

    @property
    def needs_fit(self) -> bool:
        """Whether a sample's coefficients depend on its whole data set."""
        return self.offset_adjustment or self.reference is not None

    @property
    def needs_labels(self) -> bool:
        """Whether the coefficients are the oracle's."""
        return self.target == "labels"

    @property
    def needs_merged(self) -> bool:
        """Whether the logits of the evenly merged model are an input."""
        return self.target in ("soft_merged", "hard_merged")


@dataclass(frozen=True, kw_only=True)
class Offset:
    """A data set's offset adjustment: coefficient_m = (e_m + bias share_m) / (sum e + bias).

    bias is the experts' mean coefficient of variation of the uncertainty; share_m is proportional
    to 1 / mean uncertainty of expert m. This is the reference's (e1 + b/w) / (e0 + e1 + b),
    w = (mean H0 + mean H1) / mean H0. It is defined for two experts: the multi-task half of paper
    and code (dawin_mtl/src/main_dawin.py) has none, so that a fit of more refuses it.
    """

    bias: float
    shares: np.ndarray  # [M], sums to 1

    @classmethod
    def from_moments(cls, moments: Moments) -> Offset | None:
        """The offset of a data set, or None where an expert is always certain (mean 0)."""
        if not (moments.mean > 0).all():
            return None
        inverse = 1 / moments.mean
        return cls(bias=float((moments.std / moments.mean).mean()), shares=inverse / inverse.sum())


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How the experts' entropies lie on a reference, in nats."""

    median: np.ndarray  # [M]
    tail: np.ndarray  # [M], the quantile REFERENCE_TAIL

    def warnings(self, experts: Sequence[str]) -> list[str]:
        """What speaks against it, for a person: it should be held out from fine-tuning."""
        return [
            f"the reference looks like training data of {name}, which is certain of almost all of "
            f"it ({100 * REFERENCE_TAIL:g} % of its entropies are below {tail:.2g} nats): a "
            "reference has to be held out from fine-tuning"
            for name, tail in zip(experts, self.tail, strict=True)
            if tail < TRAINED_TAIL
        ]


def entropy_growth(
    medians_M: np.ndarray, reference_M: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """strength * log(median H on the data set / median H on the reference) of each expert, [M].

    What is subtracted from the scores -H: an expert whose entropies have grown most has left its
    ground, however certain it still is next to the others. Medians below MEDIAN_FLOOR count as it.
    """
    floored = (np.maximum(m, MEDIAN_FLOOR) for m in (medians_M, reference_M))
    here, there = (np.log(m) for m in floored)
    growth_M: np.ndarray = strength * (here - there)
    return growth_M


def coefficients(
    log_expertise_NM: np.ndarray,
    offset: Offset | None = None,
    growth_M: np.ndarray | None = None,
) -> np.ndarray:
    """Interpolation coefficients, float64 [N, M]; every row sums to 1.

    Computed in log space, so that expertises too small for float32 still have a ratio. `growth_M`
    is that of `entropy_growth`.
    """
    log_e = np.asarray(log_expertise_NM, dtype=np.float64)
    if growth_M is not None:
        log_e = log_e - growth_M
    if offset is not None and offset.bias > 0:
        log_e = np.logaddexp(log_e, np.log(offset.bias * offset.shares))
    e = np.exp(log_e - log_e.max(axis=1, keepdims=True, initial=-np.inf))
    coefficients_NM: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return coefficients_NM
