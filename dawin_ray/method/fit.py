"""From a stream of log expertise to a fit: offset, coefficients, mixture.

The stream is read as often as it takes and never held: moments of any number of samples, then a
mixture from the samples themselves while they are few, from a histogram (M = 2) or a seeded
subsample (M > 2) where they are many. Memory does not depend on N, and where the stream has parts,
each is read by a task of its own.

Shapes: N samples, B samples of a batch, M experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, Literal

import numpy as np

from dawin_ray.errors import UserError
from dawin_ray.method.coefficients import CoefficientConfig, Offset, coefficients, entropy_growth
from dawin_ray.method.mixture import Mixture, MixtureConfig, fit_mixture
from dawin_ray.method.streams import (
    MAX_SAMPLES,
    LambdaHistogram,
    Samples,
    batches_of,
    each_part,
    entropy_quantiles,
    few,
    histogram_of,
    moments_of,
    subsample,
)

Source = Literal["samples", "histogram", "subsample", "none"]

FEW_EXPERTS = 4  # so many weights are read at a glance; of more, the largest are told

LARGEST = 3


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What pass 2 needs of pass 1: a few numbers for a data set of any size.

    The default is the fit of a data set in the exact mode without offset: nothing is fitted.
    """

    samples: int = 0
    offset: Offset | None = None
    growth: np.ndarray | None = None  # of the experts' entropies over a reference's [M]
    log_odds: np.ndarray | None = None  # that labels add to the experts' scores [M]
    mixture: Mixture | None = None  # None in the exact mode
    source: Source = "none"  # what the mixture was fitted from
    beside: Mapping[str, Fit] = field(default_factory=dict)  # other fits, to be compared with

    def coefficients(self, log_expertise_NM: np.ndarray) -> np.ndarray:
        """Each sample's own coefficients, float64 [N, M]."""
        if self.log_odds is not None:
            log_expertise_NM = log_expertise_NM + self.log_odds
        return coefficients(log_expertise_NM, self.offset, self.growth)

    def describe(self, experts: Sequence[str]) -> str:
        """What was fitted to how many samples, in words for a person; `experts` are names [M]."""
        offset = "" if self.offset is None else f"offset {self.offset.bias:.3f}, "
        if self.growth is not None:
            offset += f"log growth {named_weights(experts, self.growth.tolist())}, "
        if self.log_odds is not None:
            offset += f"log odds {named_weights(experts, self.log_odds.tolist())}, "
        if self.mixture is None:
            return f"{offset}no mixture, {self.samples:,} samples"
        means = "; ".join(largest_weights(experts, mean, 3) for mean in self.mixture.means.tolist())
        how = {
            "samples": f"all {self.samples:,} samples",
            "histogram": f"a histogram of {self.samples:,} samples",
            "subsample": f"a seeded subsample of {self.samples:,} samples",
        }[self.source]
        return f"{offset}{len(self.mixture.weights)} clusters at {means}; from {how}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` is its inverse."""
        offset = self.offset and {"bias": self.offset.bias, "shares": self.offset.shares.tolist()}
        odds = {} if self.log_odds is None else {"log_odds": self.log_odds.tolist()}
        return {
            "samples": self.samples,
            "source": self.source,
            **odds,
            "offset": offset,
            "growth": None if self.growth is None else self.growth.tolist(),
            "mixture": self.mixture and self.mixture.to_dict(),
            "beside": {name: other.to_dict() for name, other in self.beside.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fit:
        """The fit that `to_dict` wrote."""
        offset = data["offset"] and Offset(
            bias=data["offset"]["bias"], shares=np.array(data["offset"]["shares"])
        )
        return cls(
            samples=data["samples"],
            source=data["source"],
            offset=offset,
            growth=None if data.get("growth") is None else np.array(data["growth"]),
            log_odds=None if data.get("log_odds") is None else np.array(data["log_odds"]),
            mixture=data["mixture"] and Mixture.from_dict(data["mixture"]),
            beside={name: cls.from_dict(other) for name, other in data.get("beside", {}).items()},
        )


def named_weights(experts: Sequence[str], weights: Sequence[float], digits: int = 2) -> str:
    """A weight for each expert, by its name."""
    pairs = zip(experts, weights, strict=True)
    return ", ".join(f"{name} {weight:.{digits}f}" for name, weight in pairs)


def largest_weights(experts: Sequence[str], weights: Sequence[float], digits: int = 2) -> str:
    """The same of a few experts; of more than FEW_EXPERTS the LARGEST, and what the others have."""
    if len(experts) <= FEW_EXPERTS:
        return named_weights(experts, weights, digits)
    order = np.argsort(-np.asarray(weights), kind="stable")
    first, rest = order[:LARGEST], order[LARGEST:]
    shown = named_weights([experts[i] for i in first], [weights[i] for i in first], digits)
    others = sum(float(weights[i]) for i in rest)
    return f"{shown}, {len(rest)} others {others:.{digits}f}"


def fit(
    samples: Samples,
    experts: int,
    coefficient: CoefficientConfig,
    mixture: MixtureConfig,
    *,
    reference: np.ndarray | None = None,
    max_samples: int = MAX_SAMPLES,
) -> Fit:
    """Fit offset and mixture to the experts' log-expertises: a stream, or one in parts.

    `reference` are the experts' median entropies [M] on the reference, where there is one.

    >>> import torch
    >>> from dawin_ray.method import log_expertise
    >>> logits = torch.tensor([[[4.0, 0], [0, 0]], [[0, 1], [0, 5.0]]]).repeat(1, 50, 1)
    >>> log_e = log_expertise("entropy", logits, [1.0, 1.0]).numpy()  # of 100 samples, 2 experts
    >>> found = fit(lambda: [log_e], 2, CoefficientConfig(), MixtureConfig(clusters=2))
    >>> found.mixture.means.round(2)  # the coefficients of the merged models
    array([[0.62, 0.38],
           [0.34, 0.66]])
    >>> found.mixture.predict(found.coefficients(log_e))[:4]  # which of them serves a sample
    array([0, 1, 0, 1], dtype=int32)

    Raises:
        UserError: there is no sample, or an offset is not defined for so many experts.
    """
    coefficient.check_experts(experts)
    samples = few(samples, max_samples=max_samples)
    moments = moments_of(samples, experts)
    if not moments.count:
        raise UserError(
            "There is no usable sample to fit a mixture to. See the rejects for the reasons."
        )
    offset = Offset.from_moments(moments) if coefficient.offset_adjustment else None
    growth = None
    if reference is not None:
        (median,) = entropy_quantiles(
            samples, experts, moments.count, [0.5], max_samples=max_samples
        )
        growth = entropy_growth(median, reference, coefficient.strength)
    if mixture.clusters == "exact":
        return Fit(samples=moments.count, offset=offset, growth=growth)
    to_points = partial(coefficients, offset=offset, growth_M=growth)
    source: Source = "samples"
    weights = None
    if moments.count <= max_samples:
        points = np.concatenate([to_points(batch) for batch in batches_of(samples)])
    elif experts == 2:
        histograms = each_part(samples, partial(histogram_of, to_points))
        source, (points, weights) = "histogram", reduce(LambdaHistogram.merge, histograms).points()
    else:
        source = "subsample"
        points = to_points(subsample(samples, moments.count, max_samples, mixture.seed))
    fitted = fit_mixture(points, mixture, weights=weights)
    return Fit(samples=moments.count, offset=offset, growth=growth, mixture=fitted, source=source)
