"""The fit from 1e4 to 1e8 coefficients: time of the stream, time of EM, peak memory, and its truth.

Each size runs in a process of its own, whose high-water mark of memory is its own.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.method import CoefficientConfig, LambdaHistogram, MixtureConfig, fit, fit_mixture

SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
TRUTH_SIZE = 10**6  # samples that are also fitted one by one
BATCH = 100_000  # rows of the stream at a time


T = TypeVar("T")


def figures(config: BenchConfig) -> Iterator[Figure]:
    """For each N: the fit's seconds and its peak memory over that of the smallest."""
    first = None
    for size in SIZES:
        seconds, em_seconds, peak = _apart(_fit, size)
        first = first or (seconds, peak)
        yield Figure(
            section="mixture",
            name=f"fit of {size:.0e} coefficients",
            value=seconds,
            unit="s",
            ratio=seconds / first[0],
            against=f"{SIZES[0]:.0e}",
            note=f"two readings of the stream; EM of the histogram alone {em_seconds:.2f} s",
        )
        yield Figure(
            section="mixture",
            name=f"peak memory at {size:.0e} coefficients",
            value=peak / 1e6,
            unit="MB",
            ratio=peak / first[1],
            against=f"{SIZES[0]:.0e}",
            note=f"{(peak - first[1]) / 1e6:+.0f} MB",
        )
    yield Figure(
        section="mixture",
        name=f"histogram against all {TRUTH_SIZE:.0e} samples",
        value=_apart(_truth, TRUTH_SIZE),
        unit="",
        note="largest difference of a component's mean",
    )


def log_expertises(size: int) -> Iterator[np.ndarray]:
    """Entropies of two experts that agree on most samples and part on two kinds, [BATCH, 2]."""
    rng = np.random.default_rng(0)
    for start in range(0, size, BATCH):
        count = min(BATCH, size - start)
        entropies = rng.gamma(2.0, 0.4, (count, 2))
        shift = rng.choice([0.0, 1.5, -1.5], count, p=[0.5, 0.3, 0.2])
        entropies[:, 0] += np.maximum(shift, 0)
        entropies[:, 1] += np.maximum(-shift, 0)
        yield -entropies


def _apart(function: Callable[[int], T], size: int) -> T:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (size,))


def _fit(size: int) -> tuple[float, float, float]:
    """Seconds of the whole fit, of EM on the histogram, and this process's peak memory (bytes)."""
    begin = time.perf_counter()
    fit(lambda: log_expertises(size), 2, CoefficientConfig(), MixtureConfig())
    seconds, peak = time.perf_counter() - begin, _peak_memory()
    points, weights = _histogram(min(size, 10**6))
    begin = time.perf_counter()
    # EM sees weights, not samples: those of the full size
    fit_mixture(points, MixtureConfig(), weights=weights * (size / weights.sum()))
    return seconds, time.perf_counter() - begin, peak


def _truth(size: int) -> float:
    rows = np.concatenate([np.exp(e) for e in log_expertises(size)])
    rows /= rows.sum(axis=1, keepdims=True)
    config = MixtureConfig(tolerance=1e-7)
    points, weights = _histogram(size)
    binned = fit_mixture(points, config, weights=weights)
    return float(np.abs(binned.means - fit_mixture(rows, config).means).max())


def _histogram(size: int) -> tuple[np.ndarray, np.ndarray]:
    histogram = LambdaHistogram()
    for log_e in log_expertises(size):
        e = np.exp(log_e)
        histogram.add(e / e.sum(axis=1, keepdims=True))
    return histogram.points()


def _peak_memory() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])
