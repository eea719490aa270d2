"""The Dirichlet mixture of the highest likelihood that a search finds.

Many starts go a few steps of EM side by side; the best of them climb to their optima by Newton's
method; swaps of components lead from there to better ones, until none does. Of many samples a
seeded few take part in the search, and the best optima climb again on all. No search is sure to
find the highest: in the hardest case of tests/parity/multitask (M = 8, K = 5; 43 of 45 starts there
were short of it) two of eight seeds end 0.03 nats below. More `restarts` look further.

Shapes: N samples, M experts, K clusters, R starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from dawin_ray.method.em import Effort, Optimum, Samples, expect, maximise
from dawin_ray.method.newton import climb
from dawin_ray.method.starts import partitions, swaps

# Of how the search goes: a fit to other samples, or of an old version, is none to go on with.
SEARCH_VERSION = 2

SEARCHED = 4_000  # samples that take part in the search

EM_STEPS = 25  # side by side; then their order says which are worth a climb

CLIMBS = 12  # of those that differ

SWAP_CLIMBS = 8  # and of the swaps of an optimum

# A climb from near takes 1 to 10 steps; one that takes more ends in a narrow spike or on a plateau.
CLIMB_STEPS = 30

FINALISTS = 4  # optima whose swaps are tried, and that climb on all samples

SWAP_ROUNDS = 5

SAME = 1e-5  # nats per sample: optima that differ by less count as one


def search(rows_NM: np.ndarray, weights_N: np.ndarray, K: int, effort: Effort) -> Optimum:
    """The best optimum of K components over rows on the simplex, none 0."""
    few_NM, few_N = _few(rows_NM, weights_N, K, effort.seed)
    samples = Samples.of(few_NM, few_N)
    starts_RKN = partitions(few_NM, few_N, K, effort.restarts, effort.seed)
    brief = replace(effort, max_iterations=min(CLIMB_STEPS, effort.max_iterations))
    found = _climb_all(samples, starts_RKN, brief)[:FINALISTS]
    finalists = []
    for best in found:
        for _ in range(SWAP_ROUNDS if K > 1 else 0):
            swapped = _climb_all(samples, swaps(few_NM, samples, best), brief, SWAP_CLIMBS)[0]
            if not _better(swapped, best, samples):
                break
            best = swapped
        finalists.append(best)
    if len(few_NM) < len(rows_NM):
        samples = Samples.of(rows_NM, weights_N)
    finalists = _distinct(finalists, samples)
    ended = [climb(samples, o.concentrations, o.weights, effort) for o in finalists]
    return _distinct(ended, samples)[0]


def _few(
    rows_NM: np.ndarray, weights_N: np.ndarray, K: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A seeded subsample of SEARCHED rows; all where they are fewer, or K values are so rare."""
    if len(rows_NM) <= SEARCHED:
        return rows_NM, weights_N
    drawn = np.random.default_rng(seed).choice(len(rows_NM), SEARCHED, replace=False)
    few_NM = rows_NM[drawn]
    if len(np.unique(few_NM, axis=0)) < K:
        return rows_NM, weights_N
    return few_NM, weights_N[drawn]


def _climb_all(
    samples: Samples, starts_RKN: np.ndarray, effort: Effort, climbs: int = CLIMBS
) -> list[Optimum]:
    """Optima of starts, given as responsibilities; the best first, each once."""
    concentrations_RKM, weights_RK = maximise(samples, starts_RKN)
    for _ in range(min(EM_STEPS, effort.max_iterations)):
        _, log_probability_RKN = expect(samples.log_x, concentrations_RKM, weights_RK)
        concentrations_RKM, weights_RK = maximise(
            samples, np.exp(log_probability_RKN), concentrations_RKM
        )
    log_density_RN, _ = expect(samples.log_x, concentrations_RKM, weights_RK)
    reached = [
        Optimum(
            concentrations=concentrations_KM,
            weights=weights_K,
            likelihood=samples.mean(log_density_N),
            converged=False,
            iterations=0,
        )
        for concentrations_KM, weights_K, log_density_N in zip(
            concentrations_RKM, weights_RK, log_density_RN, strict=True
        )
    ]
    climbed = [
        climb(samples, o.concentrations, o.weights, effort)
        for o in _distinct(reached, samples)[:climbs]
    ]
    return _distinct(climbed, samples)


def _distinct(optima: Iterable[Optimum], samples: Samples) -> list[Optimum]:
    """Each optimum once, the best first."""
    kept: list[Optimum] = []
    for optimum in sorted(optima, key=lambda o: _rank(o, samples), reverse=True):
        if all(abs(optimum.likelihood - other.likelihood) > SAME for other in kept):
            kept.append(optimum)
    return kept


def _better(one: Optimum, other: Optimum, samples: Samples) -> bool:
    solid, likelihood = _rank(one, samples)
    other_solid, other_likelihood = _rank(other, samples)
    return solid > other_solid or (solid == other_solid and likelihood > other_likelihood + SAME)


def _rank(optimum: Optimum, samples: Samples) -> tuple[bool, float]:
    """Solid ones first, then by likelihood.

    A component of no more samples than it has parameters can be as narrow as the bound on the
    precision lets it: its likelihood is high and says nothing (Day, "Estimating the components of
    a mixture of normal distributions", 1969).
    """
    smallest = float(optimum.weights.min() * samples.weights.sum())
    return smallest > optimum.concentrations.shape[1] + 1, optimum.likelihood
