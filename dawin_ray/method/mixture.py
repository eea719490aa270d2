"""Mixtures over interpolation coefficients: with K clusters, K merged models serve all N samples.

A sample's coefficients are a point on the simplex. For M = 2 experts the paper fits a Beta mixture
to lambda, the weight of expert 1; for more experts a Dirichlet mixture. Beta(alpha, beta) over
lambda is the Dirichlet with concentrations [beta, alpha] over [1 - lambda, lambda], so one
implementation serves every M. (The reference's M > 2 is a product of independent Betas, which
ignores that coefficients sum to 1; here it is a true Dirichlet.)

Shapes: N samples (or points of a histogram), M experts, K clusters.

Sources: Oh et al., DaWin, ICLR 2025, arXiv 2410.03782; naver-ai/dawin at 310e0e1,
`dawin_rft/mixturemodel.py` ("the reference"). The steps of EM are in `em.py`, the search for the
highest likelihood in `likelihood.py`.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from dawin_ray.errors import UserError
from dawin_ray.method.em import Effort, Optimum, Samples, expect, maximise, run_moments
from dawin_ray.method.likelihood import search
from dawin_ray.settings import Settings

logger = logging.getLogger(__name__)

# A row is renormalised in float64 where float32 rounding left its sum this close to 1.
SUM_TOLERANCE = 1e-4

# Coefficients are lifted to this, for log 0 is no number. exp(-H) of C classes is at least 1/C, so
# a coefficient of the entropy ratio is at least 1/(1 + (M-1) C): only 0 itself, or nearly so, is
# touched. Rows that differ by less count as one value: no merged model could tell them apart.
SMALLEST_COEFFICIENT = 1e-6

Estimator = Literal["moments", "maximum_likelihood"]

# Restarts and tolerance. The moments' are the reference's. Newton's method, by which a search of
# the likelihood ends, doubles the digits in a step, so that its tolerance costs next to nothing.
DEFAULTS: dict[Estimator, tuple[int, float]] = {
    "moments": (3, 1e-4),
    "maximum_likelihood": (5, 1e-8),
}


class MixtureConfig(Settings):
    """How the coefficients are clustered; for two experts the defaults are the reference's.

    `clusters`: K; or `auto`, the K of 1..`max_clusters` with the lowest BIC; or `exact`, no mixture
    but each sample's own weights; then `exact_rank` may limit the rank of the experts' differences,
    which is faster, and exact where they were tuned with LoRA of that rank. `estimator`: null is
    `moments`, the reference's, for two experts and for K = 1 (then the mean coefficient), and
    `maximum_likelihood` for more, where moments fall short. `restarts`: k-means starts, with seeds
    `seed`, `seed` + 1, ...; null is 3 by moments and 5 by likelihood, which takes ten starts of
    four kinds for each. `tolerance`: a fit ends when the mean log-likelihood (nats per sample)
    changes by less; null is 1e-4 by moments, as the reference, and 1e-8 by likelihood.
    `max_iterations`: of each fit.
    """

    clusters: Annotated[int, Field(ge=1)] | Literal["auto", "exact"] = 3
    exact_rank: int | None = Field(default=None, ge=1)
    max_clusters: int = Field(default=8, ge=1)
    estimator: Estimator | None = None
    restarts: int | None = Field(default=None, ge=1)
    seed: int = Field(default=1, ge=0)
    tolerance: float | None = Field(default=None, gt=0)
    max_iterations: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _check(self) -> MixtureConfig:
        if self.exact_rank is not None and self.clusters != "exact":
            raise ValueError("exact_rank goes with clusters: exact, and only with it")
        return self

    @property
    def effort(self) -> Effort:
        """How long a fit looks, once `for_experts` has decided it."""
        assert self.restarts is not None, "decided by for_experts"
        assert self.tolerance is not None, "decided by for_experts"
        return Effort(
            restarts=self.restarts,
            seed=self.seed,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )

    def for_experts(self, experts: int) -> MixtureConfig:
        """The same with what was left open decided, by the number of experts."""
        estimator = self.estimator
        if estimator is None:
            many = experts > 2 and self.clusters not in (1, "exact")
            estimator = "maximum_likelihood" if many else "moments"
        restarts, tolerance = DEFAULTS[estimator]
        return self.model_copy(
            update={
                "estimator": estimator,
                "restarts": restarts if self.restarts is None else self.restarts,
                "tolerance": tolerance if self.tolerance is None else self.tolerance,
            }
        )


class MixtureNotConverged(RuntimeWarning):
    """EM used up its iterations; the parameters are the last ones, and usable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """K Dirichlet components over the coefficients of M experts, by mean of the last ascending.

    `concentrations` float64 [K, M], `weights` float64 [K] (sum to 1), `mean_log_likelihood` (nats
    per sample) of just these parameters, `converged` and `iterations` of the EM that found them,
    `samples`: the number of samples, or the sum of their weights.
    """

    concentrations: np.ndarray
    weights: np.ndarray
    mean_log_likelihood: float
    converged: bool
    iterations: int
    samples: float

    @property
    def means(self) -> np.ndarray:
        """Mean of each component, float64 [K, M]: the coefficients of its merged model."""
        means_KM: np.ndarray = self.concentrations / self.concentrations.sum(axis=1, keepdims=True)
        return means_KM

    @property
    def bic(self) -> float:
        """Bayesian information criterion (nats, lower is better), K M + K - 1 parameters."""
        parameters = self.concentrations.size + len(self.weights) - 1
        fit = 2 * self.samples * self.mean_log_likelihood
        return parameters * math.log(self.samples) - fit

    def log_probabilities(self, coefficients: np.ndarray) -> np.ndarray:
        """Log of the probability of each cluster given the sample: [N, M] -> float64 [N, K].

        Raises:
            UserError: a row is not on the simplex.
            ValueError: the number of experts is not the mixture's.
        """
        rows_NM = simplex_rows(coefficients)
        if rows_NM.shape[1] != self.concentrations.shape[1]:
            raise ValueError(
                f"coefficients have {rows_NM.shape[1]} experts, "
                f"the mixture was fitted to {self.concentrations.shape[1]}"
            )
        log_x_MN = np.log(np.ascontiguousarray(rows_NM.T))
        return expect(log_x_MN, self.concentrations, self.weights)[1].T

    def predict_probabilities(self, coefficients: np.ndarray) -> np.ndarray:
        """Probability of each cluster given the sample: [N, M] -> float64 [N, K], rows sum to 1."""
        probabilities_NK: np.ndarray = np.exp(self.log_probabilities(coefficients))
        return probabilities_NK

    def predict(self, coefficients: np.ndarray) -> np.ndarray:
        """Most probable cluster of each sample: [N, M], any N including 0 -> int32 [N]."""
        clusters_N: np.ndarray = self.log_probabilities(coefficients).argmax(axis=1)
        return clusters_N.astype(np.int32)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives the same mixture back, to the last bit."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Mixture:
        """Undo `to_dict`."""
        arrays = {k: np.array(values[k], dtype=np.float64) for k in ("concentrations", "weights")}
        return cls(**(values | arrays))


def fit_mixture(
    coefficients: np.ndarray, config: MixtureConfig, weights: np.ndarray | None = None
) -> Mixture:
    """Fit a mixture to samples, or to the points and counts of a histogram.

    Args:
        coefficients: [N, M], M >= 2; each row on the simplex. The order of rows matters only to
            the draws of the starts, and to rounding.
        config: number of clusters, M-step, restarts and limits.
        weights: [N], how many samples each row stands for; 1 for each if left out.

    Returns:
        The start of the highest likelihood. K is lowered, with a logged warning, to the number of
        distinct rows; a fit that has not converged warns with `MixtureNotConverged`.

    Raises:
        UserError: no rows, a row off the simplex, a weight that is negative or not finite.
        ValueError: other shapes, or the exact mode, which has no mixture.

    """
    rows_NM = simplex_rows(coefficients)
    weights_N = np.ones(len(rows_NM)) if weights is None else np.asarray(weights, np.float64)
    if weights_N.shape != (len(rows_NM),):
        raise ValueError(f"weights must have shape ({len(rows_NM)},), got {weights_N.shape}")
    bad = np.flatnonzero(~(np.isfinite(weights_N) & (weights_N >= 0)))
    if len(bad):
        raise UserError(
            f"the weight of row {bad[0]} is {weights_N[bad[0]]}; weights count samples, so they "
            "must be finite and not negative."
        )
    rows_NM, weights_N = rows_NM[weights_N > 0], weights_N[weights_N > 0]
    if not len(rows_NM):
        raise UserError(
            "a mixture needs at least one sample, got none; check that the data set is not empty "
            "and that not all of its samples were rejected."
        )
    config = config.for_experts(rows_NM.shape[1])
    if config.clusters == "exact":
        raise ValueError("clusters: exact is the mode without a mixture; there is nothing to fit")
    auto = config.clusters == "auto"
    wanted = config.max_clusters if config.clusters == "auto" else config.clusters
    possible = _count_distinct(rows_NM, at_most=wanted)
    if possible < wanted and not auto:
        message = "%d clusters wanted, but %d rows hold only %d distinct coefficients: fitting %d"
        logger.warning(message, wanted, len(rows_NM), possible, possible)
    candidates = range(1, possible + 1) if auto else [possible]
    best = min(
        (_fit_clusters(rows_NM, weights_N, K, config) for K in candidates), key=lambda fit: fit.bic
    )
    if not best.converged:
        warnings.warn(
            f"the mixture of K = {len(best.weights)} clusters over N = {len(rows_NM)} rows has not "
            f"converged: after {best.iterations} iterations the mean log-likelihood still changes "
            f"by {config.tolerance} nats or more; raise max_iterations or tolerance",
            MixtureNotConverged,
            stacklevel=2,
        )
    return best


def simplex_rows(coefficients: np.ndarray) -> np.ndarray:
    """Check coefficients [N, M] and return them as float64 whose rows sum to 1, none 0."""
    rows_NM = np.asarray(coefficients, dtype=np.float64)
    if rows_NM.ndim != 2 or rows_NM.shape[1] < 2:
        raise ValueError(f"coefficients must be [N, M] with M >= 2, got shape {rows_NM.shape}")
    # A comparison with NaN is false, and an infinity spoils the sum: both count as bad.
    good_N = (np.abs(rows_NM.sum(axis=1) - 1) <= SUM_TOLERANCE) & (rows_NM >= 0).all(axis=1)
    if not good_N.all():
        bad = int(good_N.argmin())
        raise UserError(
            f"the coefficients of row {bad} are {rows_NM[bad].tolist()}; they must be finite, not "
            f"negative, and sum to 1 within {SUM_TOLERANCE}. {int((~good_N).sum())} of "
            f"{len(rows_NM)} rows are wrong; check the logits of the experts for these samples."
        )
    rows_NM = np.maximum(rows_NM, SMALLEST_COEFFICIENT)
    rows_NM /= rows_NM.sum(axis=1, keepdims=True)
    return rows_NM


def _count_distinct(rows_NM: np.ndarray, at_most: int) -> int:
    """Number of distinct rows, counted no further than `at_most`: O(N at_most), without a sort."""
    count = 0
    while len(rows_NM) and count < at_most:
        away_N = np.abs(rows_NM - rows_NM[0]).max(axis=1) > SMALLEST_COEFFICIENT
        rows_NM, count = rows_NM[away_N], count + 1
    return count


def _fit_clusters(
    rows_NM: np.ndarray, weights_N: np.ndarray, K: int, config: MixtureConfig
) -> Mixture:
    """Fit K components by the config's estimator, and put them in order."""
    effort = config.effort
    if config.estimator == "moments":
        best = _best_moments(rows_NM, weights_N, K, effort)
    else:
        best = search(rows_NM, weights_N, K, effort)
    means_KM = best.concentrations / best.concentrations.sum(axis=1, keepdims=True)
    # The last expert's mean counts first, then the other means, then the concentrations.
    order_K = np.lexsort([*best.concentrations.T, *means_KM.T])
    return Mixture(
        concentrations=best.concentrations[order_K],
        weights=best.weights[order_K],
        mean_log_likelihood=best.likelihood,
        converged=best.converged,
        iterations=best.iterations,
        samples=float(weights_N.sum()),
    )


def _best_moments(rows_NM: np.ndarray, weights_N: np.ndarray, K: int, effort: Effort) -> Optimum:
    """EM by moments from k-means starts; the best keeps its own parameters and flag."""
    # here, as its import takes over a second and actors never fit
    from sklearn.cluster import KMeans

    samples = Samples.of(rows_NM, weights_N)
    fits = []
    for restart in range(effort.restarts):
        kmeans = KMeans(n_clusters=K, n_init=1, random_state=effort.seed + restart)
        labels_N = kmeans.fit(rows_NM, sample_weight=weights_N).labels_
        start = maximise(samples, (labels_N == np.arange(K)[:, None]).astype(np.float64))
        fits.append(run_moments(samples, *start, effort))
    return max(fits, key=lambda fit: fit.likelihood)
