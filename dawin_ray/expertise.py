"""How far to trust each expert on a sample: logits -> expertise -> interpolation coefficients.

Shapes: N samples, M experts, C classes. Entropies are in nats. Nothing here needs labels but the
oracle (`cross_entropy` against `labels`), and nothing changes its arguments.

Source: DaWin, section 4, and dawin_rft/main_dawin.py, lines 38-135, of naver-ai/dawin at commit
310e0e1. Deviations are stated where they occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from pydantic import Field, model_validator

from dawin_ray.settings import Settings

Metric = Literal["entropy", "cross_entropy", "max_logit", "confidence", "margin"]
Target = Literal["labels", "soft_ensemble", "hard_ensemble", "soft_merged", "hard_merged"]

# A maximum logit at or below zero has no meaning as a share. The reference divides by it all the
# same and leaves [0, 1]; we floor it instead, which hands the sample to the other experts.
MIN_MAX_LOGIT = 1e-6
# Nats. An expert that was tuned to certainty has medians near 0 on its own ground, whose ratios
# would be of rounding errors; a hundredth of a nat is a prediction of 99.9 % among ten classes.
MEDIAN_FLOOR = 1e-2
# Of a reference: an expert that is this certain (nats) of all but a hundredth of it has probably
# been tuned on it. On two suites the quantile was 0.48 or more where the images were held out, and
# 0.037 or less where they were not (jobs/study_reference.py, jobs/study_letters.py).
REFERENCE_TAIL, TRAINED_TAIL = 0.99, 0.1


class CoefficientConfig(Settings):
    """How coefficients are made from logits.

    `metric` is the measure of expertise, `target` what a cross-entropy is taken against (the true
    labels are the paper's oracle), `offset_adjustment` the data set's offset of `Offset`.
    `reference` anchors the coefficients to a data set that no shift has touched (see
    `entropy_growth`): the name of one in the job, or FIT.json#NAME of another run; `strength` 0 is
    DaWin. It has to be held out from fine-tuning, and needs no labels. It is no default, as it wins
    on one suite and loses on another (jobs/study_letters.py): where an expert is much less certain
    than the others on the reference already, and where a data set mixes clean with shifted images.
    """

    metric: Metric = "entropy"
    target: Target | None = None
    offset_adjustment: bool = False
    reference: str | None = None
    strength: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> CoefficientConfig:
        if (self.metric == "cross_entropy") != (self.target is not None):
            raise ValueError(
                "target goes with metric: cross_entropy, and only with it; it is one of labels, "
                "soft_ensemble, hard_ensemble, soft_merged, hard_merged"
            )
        if self.offset_adjustment and self.metric not in ("entropy", "cross_entropy"):
            raise ValueError(
                f"offset_adjustment is defined for entropy and cross_entropy, not for "
                f"{self.metric}; set it to false"
            )
        if self.reference is not None and (self.metric != "entropy" or self.offset_adjustment):
            raise ValueError(
                "reference goes with metric: entropy and without offset_adjustment: both shift the "
                "same scores"
            )
        return self

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


def entropy(logits_NC: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Entropy in nats [N] of softmax(logits / temperature), in float32; in [0, ln C]."""
    log_probabilities = F.log_softmax(logits_NC.float() / temperature, dim=-1)
    # clamp: p ln p is exactly 0 for p = 0, but 0 * -inf (logits of -inf) would be NaN
    terms = log_probabilities.exp() * log_probabilities.clamp(min=torch.finfo(torch.float32).min)
    # the sum of a one-hot prediction is -0.0 or a rounding error below it
    return (-terms.sum(dim=-1)).clamp(min=0.0)


def cross_entropy(logits_NC: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats [N] of the raw logits, as the reference takes it.

    `target` is int64 [N], or probabilities [N, C].
    """
    return F.cross_entropy(logits_NC.float(), target, reduction="none")


def pseudo_labels(
    target: Target,
    logits_MNC: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    merged_logits_NC: torch.Tensor | None = None,
) -> torch.Tensor:
    """Targets for `cross_entropy`: probabilities [N, C] (soft) or classes int64 [N] (hard).

    `*_ensemble` averages the experts' tempered outputs; `*_merged` takes the output of the evenly
    merged model, which has no temperature.

    Raises:
        ValueError: for `labels`, which are no pseudo labels, and without the logits it needs.
    """
    if target == "labels":
        raise ValueError("the true labels are no pseudo labels; pass them on as they are")
    if target.endswith("_ensemble"):
        probabilities = torch.stack(
            [
                F.softmax(logits.float() / t, dim=-1)
                for logits, t in zip(logits_MNC, temperatures, strict=True)
            ]
        ).mean(dim=0)
    elif merged_logits_NC is None:
        raise ValueError(f"{target} needs the logits of the evenly merged model")
    else:
        probabilities = F.softmax(merged_logits_NC.float(), dim=-1)
    return probabilities if target.startswith("soft") else probabilities.argmax(dim=-1)


def log_expertise(
    metric: Metric,
    logits_MNC: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    target: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logarithm of each expert's expertise, float32 [N, M].

    | metric        | expertise e                               |
    |---------------|-------------------------------------------|
    | entropy       | exp(-H(softmax(logits / T)))              |
    | cross_entropy | exp(-CE(logits, target))                  |
    | max_logit     | max logit, at least MIN_MAX_LOGIT         |
    | confidence    | exp(max softmax(logits / T))              |
    | margin        | exp(difference of the two largest probabilities) |

    The reference reads the zero-shot logits for both models in the last two; here each expert is
    measured on its own.
    """
    columns = []
    for logits, temperature in zip(logits_MNC, temperatures, strict=True):
        if metric == "entropy":
            columns.append(-entropy(logits, temperature))
        elif metric == "cross_entropy":
            if target is None:
                raise ValueError("metric cross_entropy needs a target")
            columns.append(-cross_entropy(logits, target))
        elif metric == "max_logit":
            columns.append(logits.float().amax(dim=-1).clamp(min=MIN_MAX_LOGIT).log())
        else:
            probabilities = F.softmax(logits.float() / temperature, dim=-1)
            if metric == "confidence":
                columns.append(probabilities.amax(dim=-1))
            else:
                top_two = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
                columns.append(2 * top_two[:, 0] - top_two.sum(dim=-1))
    return torch.stack(columns, dim=-1)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Running moments of the experts' uncertainties (-log e): float64, mergeable, O(M) memory."""

    count: int
    mean: np.ndarray  # [M]
    squares: np.ndarray  # [M], sum of squared deviations from the mean

    @classmethod
    def of(cls, uncertainty_NM: np.ndarray) -> Moments:
        """The moments of N samples (N may be 0)."""
        values = np.asarray(uncertainty_NM, dtype=np.float64)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        return cls(count=len(values), mean=mean, squares=((values - mean) ** 2).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together (Chan, Golub and LeVeque, 1979)."""
        count = self.count + other.count
        if not count:
            return self
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * (other.count / count),
            squares=self.squares + other.squares + delta**2 * (self.count * other.count / count),
        )

    @property
    def std(self) -> np.ndarray:
        """Unbiased standard deviation [M]; 0 for fewer than two samples."""
        return np.sqrt(self.squares / max(self.count - 1, 1))


@dataclass(frozen=True, kw_only=True)
class Offset:
    """A data set's offset adjustment: coefficient_m = (e_m + bias share_m) / (sum e + bias).

    bias is the experts' mean coefficient of variation of the uncertainty; share_m is proportional
    to 1 / mean uncertainty of expert m. For M = 2 this is the reference's
    (e1 + b/w) / (e0 + e1 + b), w = (mean H0 + mean H1) / mean H0; for M > 2, where the reference
    has none, it is the same rule for any number of experts.
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
    return strength * (here - there)


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
    return e / e.sum(axis=1, keepdims=True)
