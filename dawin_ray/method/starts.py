"""Where a search for the highest likelihood begins: partitions of the samples, and swaps of one.

EM keeps the partition that it starts from in spirit, so starts have to differ in kind. k-means on
the coefficients follows the large ones; in log-ratio space it follows the small ones as well, which
a Dirichlet's density weighs alike; and random centres find what neither does. A swap takes one
component of a mixture away and splits another, which leaves a poor optimum where two components
share one group and one covers two (Ueda et al., "SMEM algorithm for mixture models", 2000).

Shapes: N samples, M experts, K clusters, R starts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import import_module

import numpy as np

from dawin_ray.method.em import Optimum, Samples, expect

# Random starts of each space for a k-means start of each: they cost less, and where the optimum is
# hard to find it was they that found it, 5 to 12 of 100.
RANDOM_STARTS = 4


def partitions(
    rows_NM: np.ndarray, weights_N: np.ndarray, K: int, restarts: int, seed: int
) -> np.ndarray:
    """Responsibilities of 0 and 1, [R, K, N]: one of a kind for each restart."""
    if K == 1:
        return np.ones((1, 1, len(rows_NM)))
    labels_RN = list(_labels(rows_NM, weights_N, K, restarts, seed))
    clusters_K1 = np.arange(K)[:, None]
    return np.stack([(labels_N == clusters_K1).astype(np.float64) for labels_N in labels_RN])


def import_soon() -> threading.Thread:
    """Begin to import what fits need and nothing else does, which takes over a second.

    For a process that waits for others until it fits. Who needs it earlier waits for the import.
    """
    thread = threading.Thread(target=import_module, args=("sklearn.cluster",), name="imports")
    thread.start()
    return thread


def _labels(
    rows_NM: np.ndarray, weights_N: np.ndarray, K: int, restarts: int, seed: int
) -> Iterator[np.ndarray]:
    # here, as its import takes over a second and actors never fit
    from sklearn.cluster import KMeans

    random = np.random.default_rng(seed)
    for points_NM in (rows_NM, log_ratios(rows_NM)):
        for restart in range(restarts):
            kmeans = KMeans(n_clusters=K, n_init=1, random_state=seed + restart)
            yield kmeans.fit(points_NM, sample_weight=weights_N).labels_
        for _ in range(RANDOM_STARTS * restarts):
            centres_KM = points_NM[random.choice(len(points_NM), K, replace=False)]
            distances_NK = ((points_NM[:, None] - centres_KM) ** 2).sum(axis=-1)
            yield distances_NK.argmin(axis=1)


def swaps(rows_NM: np.ndarray, samples: Samples, found: Optimum) -> np.ndarray:
    """Responsibilities [R, K, N] of all R = K (K - 1) swaps.

    The component that is split is cut at its mean across the direction in which its log-ratios vary
    most; the samples of the one that is taken away go to the others, as these share them.
    """
    K = len(found.weights)
    _, log_probability_KN = expect(samples.log_x, found.concentrations, found.weights)
    ratios_NM = log_ratios(rows_NM)
    beyond_KN = [
        _beyond(ratios_NM, share_N * samples.weights) for share_N in np.exp(log_probability_KN)
    ]
    swapped = []
    for removed in range(K):
        others = [k for k in range(K) if k != removed]
        rest_KN = log_probability_KN[others]
        rest_KN = np.exp(rest_KN - np.logaddexp.reduce(rest_KN, axis=0))
        for i, split in enumerate(others):
            beyond_N = beyond_KN[split]
            parted_KN = np.concatenate([rest_KN, rest_KN[i : i + 1] * beyond_N])
            parted_KN[i] = rest_KN[i] * ~beyond_N
            swapped.append(parted_KN)
    return np.stack(swapped)


def log_ratios(rows_NM: np.ndarray) -> np.ndarray:
    """Centred log-ratios of rows on the simplex, none 0: log x less its mean over the experts."""
    log_NM: np.ndarray = np.log(rows_NM)
    centred_NM: np.ndarray = log_NM - log_NM.mean(axis=1, keepdims=True)
    return centred_NM


def _beyond(ratios_NM: np.ndarray, share_N: np.ndarray) -> np.ndarray:
    """Which samples [N] lie beyond the mean of these shares of them, along their main axis."""
    share_N = share_N / max(share_N.sum(), np.finfo(np.float64).tiny)
    from_mean_NM = ratios_NM - share_N @ ratios_NM
    _, axes_MM = np.linalg.eigh((from_mean_NM * share_N[:, None]).T @ from_mean_NM)
    beyond_N: np.ndarray = from_mean_NM @ axes_MM[:, -1] > 0
    return beyond_N
