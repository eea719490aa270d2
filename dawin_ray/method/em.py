"""Expectation and maximisation for mixtures of Dirichlets: the two steps, and moments to their end.

Shapes: N samples (or points of a histogram), M experts, K clusters, S = 2M + 1 statistics; leading
dimensions `...` are parameters that are improved side by side.

Sources: naver-ai/dawin at 310e0e1, `dawin_rft/mixturemodel.py` ("the reference"); Minka,
"Estimating a Dirichlet distribution", 2000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # which imports scipy.special when something of it is first used

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


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long a fit looks for the best parameters."""

    restarts: int  # starts of each kind
    seed: int  # of the starts
    tolerance: float  # nats per sample; a smaller change ends a climb
    max_iterations: int  # of each climb


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """What the steps read of N samples, each with its weight."""

    statistics: np.ndarray  # [S, N]: x (M rows), |x|^2 (one row) and log x (M rows)
    weights: np.ndarray  # [N]

    @classmethod
    def of(cls, rows_NM: np.ndarray, weights_N: np.ndarray) -> Samples:
        """Samples of rows on the simplex, none 0."""
        x_MN = np.ascontiguousarray(rows_NM.T)
        squares_1N = (x_MN**2).sum(axis=0, keepdims=True)
        return cls(statistics=np.concatenate([x_MN, squares_1N, np.log(x_MN)]), weights=weights_N)

    @property
    def log_x(self) -> np.ndarray:
        """[M, N]."""
        log_x_MN: np.ndarray = self.statistics[len(self.statistics) // 2 + 1 :]
        return log_x_MN

    def mean(self, values_N: np.ndarray) -> float:
        """Weighted mean over the samples."""
        return float(np.average(values_N, weights=self.weights))


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimum:
    """Where a search has ended: parameters in any order, and the likelihood of just these."""

    concentrations: np.ndarray  # [K, M]
    weights: np.ndarray  # [K]
    likelihood: float  # nats per sample
    converged: bool
    iterations: int


def expect(
    log_x_MN: np.ndarray, concentrations_KM: np.ndarray, weights_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E-step: log-density of each sample [..., N], log-probability of each cluster [..., K, N]."""
    log_constant_K = scipy.special.gammaln(concentrations_KM.sum(axis=-1))
    log_constant_K -= scipy.special.gammaln(concentrations_KM).sum(axis=-1)
    log_joint_KN = (concentrations_KM - 1) @ log_x_MN
    log_joint_KN += (log_constant_K + np.log(weights_K))[..., None]
    log_density_N = np.logaddexp.reduce(log_joint_KN, axis=-2)
    log_joint_KN -= log_density_N[..., None, :]
    return log_density_N, log_joint_KN


def maximise(
    samples: Samples, responsibilities_KN: np.ndarray, warm_KM: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """M-step: concentrations [..., K, M], weights [..., K]; by likelihood where `warm_KM` is given.

    Without, by moments; with it, by one climb of the likelihood from there.
    """
    statistics_SN, weights_N = samples.statistics, samples.weights
    shares_KN = responsibilities_KN * weights_N
    floor_S = SHARE_FLOOR * (statistics_SN @ weights_N)
    totals_K1 = shares_KN.sum(axis=-1, keepdims=True) + SHARE_FLOOR * weights_N.sum()
    averages_KS = (shares_KN @ statistics_SN.T + floor_S) / totals_K1
    M = len(statistics_SN) // 2
    if warm_KM is None:
        concentrations_KM = match_moments(averages_KS[..., :M], averages_KS[..., M])
    else:
        concentrations_KM = maximise_likelihood(averages_KS[..., M + 1 :], warm_KM)
    totals_K = totals_K1[..., 0]
    return concentrations_KM, totals_K / totals_K.sum(axis=-1, keepdims=True)


def run_moments(
    samples: Samples, concentrations_KM: np.ndarray, weights_K: np.ndarray, effort: Effort
) -> Optimum:
    """Alternate E and moment M steps from the given parameters; components in their order.

    The E-step comes last, so that the likelihood is that of the returned parameters. (The reference
    takes one more M-step and keeps the likelihood from before it: at its tolerance that moves its
    means by up to 0.003, and its restarts are ranked as they are here.)
    """
    previous = -math.inf
    for iteration in range(effort.max_iterations + 1):
        log_density_N, log_probability_KN = expect(samples.log_x, concentrations_KM, weights_K)
        likelihood = samples.mean(log_density_N)
        # Not only a small rise ends it: with moments the likelihood may also fall.
        converged = abs(likelihood - previous) < effort.tolerance
        if converged or iteration == effort.max_iterations:
            break
        previous = likelihood
        responsibilities_KN = np.exp(log_probability_KN, out=log_probability_KN)
        concentrations_KM, weights_K = maximise(samples, responsibilities_KN)
    return Optimum(
        concentrations=concentrations_KM,
        weights=weights_K,
        likelihood=likelihood,
        converged=converged,
        iterations=iteration,
    )


def match_moments(means_KM: np.ndarray, mean_squares_K: np.ndarray) -> np.ndarray:
    """Concentrations [..., K, M] from the mean of x and of |x|^2.

    A Dirichlet with mean m and precision s has var(x_m) = m_m (1 - m_m) / (s + 1). Pooled over
    experts, s + 1 = sum m_m (1 - m_m) / sum var(x_m) = (1 - |m|^2) / (E|x|^2 - |m|^2). For M = 2
    both variances are equal, and this is the Beta's s of the reference, `_M_step` (Minka's section
    on moments takes s from single dimensions; pooling is ours, so that no expert is singled out).
    """
    squared_mean_K = (means_KM**2).sum(axis=-1)
    variance_K = np.maximum(mean_squares_K - squared_mean_K, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # a variance of nothing: the bound below is the answer
        precision_K = (1 - squared_mean_K) / variance_K - 1
    precision_K = precision_K.clip(SMALLEST_MOMENT_PRECISION, LARGEST_PRECISION)
    concentrations_KM: np.ndarray = means_KM * precision_K[..., None]
    return concentrations_KM


def maximise_likelihood(mean_log_KM: np.ndarray, start_KM: np.ndarray) -> np.ndarray:
    """Concentrations [..., M] of the highest likelihood given the mean of log x, from a start.

    Newton's method of Minka 2000: the Hessian is diag(q) + z, inverted in O(M). Each row's steps
    are halved until its concentrations are positive and its likelihood has not fallen; one that
    finds no such step, or gains no more, stays.
    """
    mean_KM, a_KM = mean_log_KM.reshape(-1, mean_log_KM.shape[-1]), start_KM.copy()
    a_KM = a_KM.reshape(mean_KM.shape)
    active = np.arange(len(a_KM))
    for _ in range(NEWTON_STEPS):
        step_KM = _newton_step(a_KM[active], mean_KM[active])
        value_K = _dirichlet(a_KM[active], mean_KM[active])
        gain_K, left = np.zeros(len(active)), np.arange(len(active))
        for halving in range(NEWTON_HALVINGS):
            here_KM = a_KM[active[left]]
            reached_KM = here_KM + step_KM[left] / 2**halving
            positive_K = (reached_KM > 0).all(axis=1)
            reached_KM = within_precision(np.where(positive_K[:, None], reached_KM, here_KM))
            gained_K = _dirichlet(reached_KM, mean_KM[active[left]]) - value_K[left]
            good_K = positive_K & (gained_K >= 0)
            a_KM[active[left[good_K]]] = reached_KM[good_K]
            gain_K[left[good_K]] = gained_K[good_K]
            left = left[~good_K]
            if not len(left):
                break
        active = active[gain_K >= NEWTON_GAIN]
        if not len(active):
            break
    return a_KM.reshape(start_KM.shape)


def _newton_step(a_KM: np.ndarray, mean_log_KM: np.ndarray) -> np.ndarray:
    total_K1 = a_KM.sum(axis=1, keepdims=True)
    gradient_KM = scipy.special.digamma(total_K1) - scipy.special.digamma(a_KM) + mean_log_KM
    q_KM, z_K1 = -scipy.special.polygamma(1, a_KM), scipy.special.polygamma(1, total_K1)
    b_K1 = (gradient_KM / q_KM).sum(axis=1, keepdims=True)
    b_K1 /= 1 / z_K1 + (1 / q_KM).sum(axis=1, keepdims=True)
    step_KM: np.ndarray = (b_K1 - gradient_KM) / q_KM
    return step_KM


def _dirichlet(a_KM: np.ndarray, mean_log_KM: np.ndarray) -> np.ndarray:
    """Mean log-density [K] of samples whose mean of log x this is."""
    constant_K = scipy.special.gammaln(a_KM.sum(axis=1)) - scipy.special.gammaln(a_KM).sum(axis=1)
    density_K: np.ndarray = constant_K + ((a_KM - 1) * mean_log_KM).sum(axis=1)
    return density_K


def within_precision(concentrations_KM: np.ndarray) -> np.ndarray:
    """The same means with a precision of at most LARGEST_PRECISION, [..., K, M]."""
    precision_K1 = concentrations_KM.sum(axis=-1, keepdims=True)
    bounded_KM: np.ndarray = concentrations_KM * np.minimum(1.0, LARGEST_PRECISION / precision_K1)
    return bounded_KM
