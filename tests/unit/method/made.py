"""Coefficients drawn from mixtures of Dirichlets.

Shapes: N samples, M experts, K clusters.
"""

import pickle

import numpy as np

# Concentrations over [1 - lambda, lambda]: Beta(3, 20), Beta(20, 20), Beta(25, 4).
THREE_BETAS = np.array([[20.0, 3.0], [20.0, 20.0], [4.0, 25.0]])
THREE_WEIGHTS = np.array([0.2, 0.5, 0.3])
# (concentrations, weights), already in the canonical order
DIRICHLETS = {
    "M=3, K=2": ([[8.0, 30.0, 6.0], [5.0, 4.0, 20.0]], [0.7, 0.3]),
    "M=3, K=3": ([[20.0, 5.0, 3.0], [6.0, 40.0, 9.0], [3.0, 4.0, 18.0]], [0.5, 0.2, 0.3]),
    "M=4, K=2": ([[15.0, 9.0, 3.0, 2.0], [2.0, 5.0, 9.0, 20.0]], [0.4, 0.6]),
    "M=4, K=3": (
        [[25.0, 4.0, 3.0, 2.0], [3.0, 30.0, 5.0, 9.0], [2.0, 4.0, 5.0, 18.0]],
        [0.3, 0.3, 0.4],
    ),
}


def simulate(concentrations_KM, weights_K, N, seed=0):
    """Coefficients [N, M] drawn from a Dirichlet mixture."""
    draw = np.random.default_rng(seed)
    component_N = draw.choice(len(weights_K), size=N, p=weights_K)
    gamma_NM = draw.gamma(np.asarray(concentrations_KM)[component_N])
    return gamma_NM / gamma_NM.sum(axis=1, keepdims=True)


def three_betas(N=3000, seed=0):
    return simulate(THREE_BETAS, THREE_WEIGHTS, N, seed)


def random_coefficients(seed):
    """No mixture in particular: [250, M] from heavy and uneven gammas."""
    draw = np.random.default_rng(seed)
    gamma_NM = draw.gamma(draw.uniform(0.3, 3.0, size=(250, int(draw.integers(2, 5))))) + 1e-9
    return gamma_NM / gamma_NM.sum(axis=1, keepdims=True)


class InParts:
    """Log-expertise in parts, whose tasks and results go through pickle."""

    def __init__(self, parts, size):
        """Batches of a part have `size` samples."""
        self.parts, self.size = parts, size
        self.sizes = [len(part) for part in parts]

    def each(self, task):
        task = pickle.loads(pickle.dumps(task))  # noqa: S301  (it was made a line before)
        for number, part in enumerate(self.parts):
            batches = np.split(part, range(self.size, len(part), self.size))
            yield pickle.loads(pickle.dumps(task(lambda found=batches: found, number)))  # noqa: S301
