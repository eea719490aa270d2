"""Newton's method on the likelihood of a whole Dirichlet mixture, for where EM has come near.

EM converges linearly, and slowly where components overlap: at a change of 1e-8 nats a step it may
be 1e-3 from the optimum. This ends quadratically, at the price of some 4 E-steps a step.

Shapes: N samples, B samples of a block, M experts, K clusters, D = M + 1 parameters of a component
(log of each concentration, log of the weight).
"""

from __future__ import annotations

import numpy as np
import scipy  # which imports scipy.special when something of it is first used

from dawin_ray.method.em import SHARE_FLOOR, Effort, Optimum, Samples, expect, within_precision

BLOCK = 16_384  # samples at a time, for memory: K D of them are some MB

# A parameter moves by at most this factor e^2 in a step: the quadratic model holds no further.
LARGEST_STEP = 2.0

# Curvatures are lifted to this share of the largest, so that a direction that says nothing (a
# component without samples) moves nothing.
SMALLEST_CURVATURE = 1e-9

HALVINGS = 30


def climb(
    samples: Samples, concentrations_KM: np.ndarray, weights_K: np.ndarray, effort: Effort
) -> Optimum:
    """The optimum uphill from the given parameters; no step lowers the likelihood.

    Ends when a step changes the mean log-likelihood (nats per sample) by less than the
    tolerance.
    Where the likelihood is not concave the curvatures' magnitudes are taken, so that saddles are
    left (Dauphin et al., "Identifying and attacking the saddle point problem", 2014).
    """
    log_density_N, log_probability_KN = expect(samples.log_x, concentrations_KM, weights_K)
    likelihood = samples.mean(log_density_N)
    converged, iteration = False, 0
    while not converged and iteration < effort.max_iterations:
        gradient_P, hessian_PP = derivatives(
            samples, concentrations_KM, weights_K, log_probability_KN
        )
        curvature_P, axes_PP = np.linalg.eigh(-hessian_PP)
        curvature_P = np.abs(curvature_P)
        curvature_P = np.maximum(curvature_P, SMALLEST_CURVATURE * curvature_P.max())
        step_P = axes_PP @ ((axes_PP.T @ gradient_P) / curvature_P)
        step_P *= min(1.0, LARGEST_STEP / max(np.abs(step_P).max(), np.finfo(np.float64).tiny))
        step_KD = step_P.reshape(len(weights_K), -1)
        iteration, gain = iteration + 1, -np.inf
        for halving in range(HALVINGS):
            factor_KD = np.exp(step_KD / 2**halving)
            reached_KM = within_precision(concentrations_KM * factor_KD[:, :-1])
            share_K = np.maximum(weights_K * factor_KD[:, -1], SHARE_FLOOR)
            share_K /= share_K.sum()
            log_density_N, reached_KN = expect(samples.log_x, reached_KM, share_K)
            gain = samples.mean(log_density_N) - likelihood
            if gain >= 0:
                concentrations_KM, weights_K = reached_KM, share_K
                likelihood, log_probability_KN = likelihood + gain, reached_KN
                break
        converged = gain < effort.tolerance  # also where rounding leaves no step uphill
    return Optimum(
        concentrations=concentrations_KM,
        weights=weights_K,
        likelihood=likelihood,
        converged=converged,
        iterations=iteration,
    )


def derivatives(
    samples: Samples,
    concentrations_KM: np.ndarray,
    weights_K: np.ndarray,
    log_probability_KN: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient [K D] and Hessian [K D, K D] of the mean log-likelihood, less the sum of weights.

    Parameters are the logs of each component's concentrations and of its weight, which need not sum
    to 1: less its sum, the likelihood is highest where they do. With r the responsibilities and u
    the scores of a component (the gradient of its own log-density),

        gradient = sum r u,    Hessian = sum r (u u' + component's Hessian) - sum (r u)(r u)'.
    """
    K, M = concentrations_KM.shape
    D = M + 1
    gradient_KD, outer_PP = np.zeros((K, D)), np.zeros((K * D, K * D))
    blocks_KDD = np.zeros((K, D, D))
    constant_KM = scipy.special.digamma(
        concentrations_KM.sum(axis=1, keepdims=True)
    ) - scipy.special.digamma(concentrations_KM)
    for start in range(0, len(samples.weights), BLOCK):
        here = slice(start, start + BLOCK)
        log_x_MB, omega_B = samples.log_x[:, here], samples.weights[here]
        score_KDB = np.ones((K, D, log_x_MB.shape[1]))
        score_KDB[:, :M] = concentrations_KM[:, :, None] * (constant_KM[:, :, None] + log_x_MB)
        own_KDB = np.exp(log_probability_KN[:, None, here]) * score_KDB
        weighted_KDB = own_KDB * omega_B
        gradient_KD += weighted_KDB.sum(axis=2)
        blocks_KDD += weighted_KDB @ score_KDB.transpose(0, 2, 1)
        outer_PP += weighted_KDB.reshape(K * D, -1) @ own_KDB.reshape(K * D, -1).T
    total = samples.weights.sum()
    trigamma_K = scipy.special.polygamma(1, concentrations_KM.sum(axis=1))
    hessian_PP = -outer_PP
    for k in range(K):
        a_M, share = concentrations_KM[k], gradient_KD[k, M]
        own_DD = blocks_KDD[k]
        own_DD[:M, :M] += share * trigamma_K[k] * np.outer(a_M, a_M)
        bend_M = share * a_M**2 * scipy.special.polygamma(1, a_M)
        own_DD[:M, :M] += np.diag(gradient_KD[k, :M] - bend_M)
        own_DD[M, M] -= total * weights_K[k]
        hessian_PP[k * D : (k + 1) * D, k * D : (k + 1) * D] += own_DD
    gradient_KD[:, M] -= total * weights_K
    return gradient_KD.ravel() / total, hessian_PP / total
