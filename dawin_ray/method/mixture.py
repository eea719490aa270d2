"""Mixtures over interpolation coefficients: with K clusters, K merged models serve all N samples.

A sample's coefficients are a point on the simplex. For M = 2 experts the paper fits a Beta mixture
to lambda, the weight of expert 1; for more experts a Dirichlet mixture. Beta(alpha, beta) over
lambda is the Dirichlet with concentrations [beta, alpha] over [1 - lambda, lambda], so one
implementation serves every M. (The reference's M > 2 is a product of independent Betas, which
ignores that coefficients sum to 1; here it is a true Dirichlet.)

Shapes: N samples (or points of a histogram), M experts, K clusters, S = 2M + 1 statistics.

Sources: Oh et al., DaWin, ICLR 2025, arXiv 2410.03782; naver-ai/dawin at 310e0e1,
`dawin_rft/mixturemodel.py` ("the reference"); Minka, "Estimating a Dirichlet distribution", 2000.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import digamma, gammaln, polygamma

from dawin_ray.errors import UserError
from dawin_ray.settings import Settings

logger = logging.getLogger(__name__)

# A row is renormalised in float64 where float32 rounding left its sum this close to 1.
SUM_TOLERANCE = 1e-4

# Coefficients are lifted to this, for log 0 is no number. exp(-H) of C classes is at least 1/C, so
# a coefficient of the entropy ratio is at least 1/(1 + (M-1) C): only 0 itself, or nearly so, is
# touched. Rows that differ by less count as one value: no merged model could tell them apart.
SMALLEST_COEFFICIENT = 1e-6

# Bounds on the precision (the sum of a component's concentrations). A variance of 0 would make the
# density infinite; 1e8 is a standard deviation of at most 5e-5, where float64 still leaves the
# log-density some 1e-7 nats of accuracy. The lower bound, which only the moment M-step has, is the
# reference's cap of the variance at mean (1 - mean) / 4.
LARGEST_PRECISION = 1e8

SMALLEST_MOMENT_PRECISION = 3.0

# The share of all samples that each component has from the start, spread like the whole: a
# component that loses its last sample then keeps finite parameters (10 eps, as the reference).
SHARE_FLOOR = 10 * np.finfo(np.float64).eps

# Newton's method: it converges quadratically, so these are ends for what does not.
NEWTON_STEPS = 20

NEWTON_HALVINGS = 30

NEWTON_GAIN = 1e-12  # nats per sample; below, the M-step is done


class MixtureConfig(Settings):
    """How the coefficients are clustered; the defaults are the reference's.

    `clusters`: K; or `auto`, the K of 1..`max_clusters` with the lowest BIC; or `exact`, no mixture
    but each sample's own weights; then `exact_rank` may limit the rank of the experts' differences,
    which is faster, and exact where they were tuned with LoRA of that rank. `estimator`: the
    M-step. `restarts`: k-means starts, with seeds `seed`, `seed` + 1, ... `tolerance`: EM ends when
    the mean log-likelihood (nats per sample) changes by less. `max_iterations`: of each EM.
    """

    clusters: Annotated[int, Field(ge=1)] | Literal["auto", "exact"] = 3
    exact_rank: int | None = Field(default=None, ge=1)
    max_clusters: int = Field(default=8, ge=1)
    estimator: Literal["moments", "maximum_likelihood"] = "moments"
    restarts: int = Field(default=3, ge=1)
    seed: int = Field(default=1, ge=0)
    tolerance: float = Field(default=1e-4, gt=0)
    max_iterations: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _check(self) -> MixtureConfig:
        if self.exact_rank is not None and self.clusters != "exact":
            raise ValueError("exact_rank goes with clusters: exact, and only with it")
        return self


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
        return _expect(log_x_MN, self.concentrations, self.weights)[1].T

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
            the draws of the k-means starts, and to rounding.
        config: number of clusters, M-step, restarts and limits.
        weights: [N], how many samples each row stands for; 1 for each if left out.

    Returns:
        The restart of the highest likelihood. K is lowered, with a logged warning, to the number of
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
    """Fit K components; the best restart keeps its own parameters, likelihood and flag."""
    # here, as its import takes over a second and actors never fit
    from sklearn.cluster import KMeans

    x_MN = np.ascontiguousarray(rows_NM.T)
    statistics_SN = np.concatenate([x_MN, (x_MN**2).sum(axis=0, keepdims=True), np.log(x_MN)])
    fits = []
    for restart in range(config.restarts):
        kmeans = KMeans(n_clusters=K, n_init=1, random_state=config.seed + restart)
        labels_N = kmeans.fit(rows_NM, sample_weight=weights_N).labels_
        start_KN = (labels_N == np.arange(K)[:, None]).astype(np.float64)
        start = _maximise(statistics_SN, weights_N, start_KN)
        fit = _run_em(statistics_SN, weights_N, *start, "moments", config)
        if config.estimator == "maximum_likelihood":
            # No step from there lowers the likelihood: it ends at least as high, by construction.
            start = fit.concentrations, fit.weights
            fit = _run_em(statistics_SN, weights_N, *start, "maximum_likelihood", config)
        fits.append(fit)
    best = max(fits, key=lambda fit: fit.mean_log_likelihood)
    # The last expert's mean counts first, then the other means, then the concentrations.
    order_K = np.lexsort([*best.concentrations.T, *best.means.T])
    return replace(best, concentrations=best.concentrations[order_K], weights=best.weights[order_K])


def _run_em(
    statistics_SN: np.ndarray,
    weights_N: np.ndarray,
    concentrations_KM: np.ndarray,
    weights_K: np.ndarray,
    estimator: str,
    config: MixtureConfig,
) -> Mixture:
    """Alternate E and M steps from the given parameters; components in their order.

    The E-step comes last, so that the likelihood is that of the returned parameters. (The reference
    takes one more M-step and keeps the likelihood from before it: at its tolerance that moves its
    means by up to 0.003, and its restarts are ranked as they are here.)
    """
    log_x_MN = statistics_SN[-concentrations_KM.shape[1] :]
    previous = -math.inf
    for iteration in range(config.max_iterations + 1):
        log_density_N, log_probability_KN = _expect(log_x_MN, concentrations_KM, weights_K)
        likelihood = float(np.average(log_density_N, weights=weights_N))
        # Not only a small rise ends it: with the moment M-step the likelihood may also fall.
        converged = abs(likelihood - previous) < config.tolerance
        if converged or iteration == config.max_iterations:
            break
        previous = likelihood
        responsibilities_KN = np.exp(log_probability_KN, out=log_probability_KN)
        warm_KM = concentrations_KM if estimator == "maximum_likelihood" else None
        concentrations_KM, weights_K = _maximise(
            statistics_SN, weights_N, responsibilities_KN, warm_KM
        )
    return Mixture(
        concentrations=concentrations_KM,
        weights=weights_K,
        mean_log_likelihood=likelihood,
        converged=converged,
        iterations=iteration,
        samples=float(weights_N.sum()),
    )


def _expect(
    log_x_MN: np.ndarray, concentrations_KM: np.ndarray, weights_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E-step: log-density of each sample [N], log-probability of each cluster [K, N]."""
    log_constant_K = gammaln(concentrations_KM.sum(axis=1)) - gammaln(concentrations_KM).sum(axis=1)
    log_joint_KN = (concentrations_KM - 1) @ log_x_MN
    log_joint_KN += (log_constant_K + np.log(weights_K))[:, None]
    log_density_N = np.logaddexp.reduce(log_joint_KN, axis=0)
    log_joint_KN -= log_density_N
    return log_density_N, log_joint_KN


def _maximise(
    statistics_SN: np.ndarray,
    weights_N: np.ndarray,
    responsibilities_KN: np.ndarray,
    warm_KM: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """M-step: concentrations [K, M] and weights [K]; by moments, or likelihood from a warm start.

    `statistics_SN` holds, for each sample, x (M rows), |x|^2 (one row) and log x (M rows).
    """
    shares_KN = responsibilities_KN * weights_N
    floor_S = SHARE_FLOOR * (statistics_SN @ weights_N)
    totals_K1 = shares_KN.sum(axis=1, keepdims=True) + SHARE_FLOOR * weights_N.sum()
    averages_KS = (shares_KN @ statistics_SN.T + floor_S) / totals_K1
    M = len(statistics_SN) // 2
    if warm_KM is None:
        concentrations_KM = _match_moments(averages_KS[:, :M], averages_KS[:, M])
    else:
        pairs = zip(averages_KS[:, M + 1 :], warm_KM, strict=True)
        concentrations_KM = np.stack([_maximise_likelihood(*pair) for pair in pairs])
    return concentrations_KM, totals_K1[:, 0] / totals_K1.sum()


def _match_moments(means_KM: np.ndarray, mean_squares_K: np.ndarray) -> np.ndarray:
    """Concentrations [K, M] from the mean of x and of |x|^2.

    A Dirichlet with mean m and precision s has var(x_m) = m_m (1 - m_m) / (s + 1). Pooled over
    experts, s + 1 = sum m_m (1 - m_m) / sum var(x_m) = (1 - |m|^2) / (E|x|^2 - |m|^2). For M = 2
    both variances are equal, and this is the Beta's s of the reference, `_M_step` (Minka's section
    on moments takes s from single dimensions; pooling is ours, so that no expert is singled out).
    """
    squared_mean_K = (means_KM**2).sum(axis=1)
    variance_K = np.maximum(mean_squares_K - squared_mean_K, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # a variance of nothing: the bound below is the answer
        precision_K = (1 - squared_mean_K) / variance_K - 1
    precision_K = precision_K.clip(SMALLEST_MOMENT_PRECISION, LARGEST_PRECISION)
    concentrations_KM: np.ndarray = means_KM * precision_K[:, None]
    return concentrations_KM


def _maximise_likelihood(mean_log_M: np.ndarray, start_M: np.ndarray) -> np.ndarray:
    """Concentrations [M] of the highest likelihood given the mean of log x, uphill from `start_M`.

    Newton's method of Minka 2000: the Hessian is diag(q) + z, inverted in O(M). Steps
    are halved until the concentrations are positive and the likelihood has not fallen.
    """

    def likelihood(a_M: np.ndarray) -> float:
        return float(gammaln(a_M.sum()) - gammaln(a_M).sum() + (a_M - 1) @ mean_log_M)

    a_M, value = start_M, likelihood(start_M)
    for _ in range(NEWTON_STEPS):
        gradient_M = digamma(a_M.sum()) - digamma(a_M) + mean_log_M
        q_M, z = -polygamma(1, a_M), polygamma(1, a_M.sum())
        b = (gradient_M / q_M).sum() / (1 / z + (1 / q_M).sum())
        step_M = (b - gradient_M) / q_M
        for halving in range(NEWTON_HALVINGS):
            candidate_M = a_M + step_M / 2**halving
            if (candidate_M > 0).all():
                candidate_M = candidate_M * min(1.0, LARGEST_PRECISION / candidate_M.sum())
                gain = likelihood(candidate_M) - value
                if gain >= 0:
                    break
        else:
            return a_M
        a_M, value = candidate_M, value + gain
        if gain < NEWTON_GAIN:
            break
    return a_M
