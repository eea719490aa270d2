"""Costs as a + b chunks + c rows + d shards, and what they come to for sizes that nobody measured.

Shapes: P points of a grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from dawin_ray.bench.scale_stubs import Shape

# Of a job that is extrapolated to: what ImageNet's tars are like.
CHUNK_ROWS, SHARD_ROWS = 512, 10_000

# Cores beside each GPU that are free for tasks.
CORES = 8

PART_ROWS = 1 << 19  # of a part, which is one task: `runs.planning`'s

# Least squares of relative errors; what is less than this share of the largest counts as this much.
FLOOR = 0.01

TERMS = ("", "chunk", "row", "shard")

PASSES = "pass "  # begins the names of phases that run models

BEFORE = ("prepare", "starting and ending processes")  # no part of the work on rows


@dataclass(frozen=True)
class Linear:
    """A cost of a chunk, a row and a shard, and what comes once. None is negative."""

    constant: float
    chunk: float
    row: float
    shard: float

    @classmethod
    def of(cls, shapes: Sequence[Shape], values_P: Sequence[float]) -> Linear:
        """The least squares of relative errors."""
        design_P4 = np.array([[1, s.all_chunks, s.all_rows, s.shards] for s in shapes], float)
        found_P = np.array(values_P, float)
        if not found_P.any():
            return cls(0.0, 0.0, 0.0, 0.0)
        weight_P = 1 / np.maximum(found_P, FLOOR * found_P.max())
        # columns of one size, as nnls has an absolute tolerance
        weighted_P4 = design_P4 * weight_P[:, None]
        size_4 = np.linalg.norm(weighted_P4, axis=0)
        solution, _ = nnls(weighted_P4 / size_4, found_P * weight_P)
        return cls(*(solution / size_4).tolist())

    def at(self, rows: float) -> float:
        """For a job of so many rows in chunks and shards of the usual size."""
        of_chunks, of_shards = rows / CHUNK_ROWS, rows / SHARD_ROWS
        return self.constant + self.chunk * of_chunks + self.row * rows + self.shard * of_shards

    def words(self, unit: str) -> str:
        """For a person; terms of less than a millionth are left out, but for those of rows."""
        values = (self.constant, self.chunk, self.row, self.shard)
        told = [
            f"{value:.3g} {unit}" + (f" a {term}" if term else "")
            for value, term in zip(values, TERMS, strict=True)
            if value > (1e-10 if term == "row" else 1e-6)
        ]
        return " + ".join(told) or "nothing"


@dataclass(frozen=True, kw_only=True)
class PhaseModel:
    """What a phase costs at any size."""

    cpu: Linear  # seconds of the driver
    requests: Linear  # of the driver
    waited: Linear  # seconds in which the driver waited for at least one of them, and for no task
    task_cpu: Linear
    task_requests: Linear
    bytes: Linear  # sent and received by both

    def driver(self, rows: float) -> float:
        """Seconds in the driver, which works and waits in turn."""
        return self.cpu.at(rows) + self.waited.at(rows)

    def tasks(self, rows: float, latency: float, gpus: int, most: float) -> float:
        """Seconds in the tasks, `most` at a time, on the cores beside the GPUs."""
        alone = self.task_cpu.at(rows) + latency * self.task_requests.at(rows)
        return alone / max(1.0, min(gpus * CORES, most))


def models_of(
    points: Sequence[tuple[Shape, Mapping[str, Mapping[str, Any]]]],
) -> dict[str, PhaseModel]:
    """The model of each phase that any point has; one that lacks it has nothing of it."""
    shapes = [shape for shape, _ in points]
    names = dict.fromkeys(name for _, phases in points for name in phases)

    def linear(name: str, key: str) -> Linear:
        return Linear.of(shapes, [phases.get(name, {}).get(key, 0.0) for _, phases in points])

    return {
        name: PhaseModel(
            cpu=linear(name, "cpu"),
            requests=linear(name, "driver_requests"),
            waited=linear(name, "waited"),
            task_cpu=linear(name, "task_cpu"),
            task_requests=linear(name, "tasks_requests"),
            bytes=linear(name, "bytes"),
        )
        for name in names
    }


def of_rows(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The phases around the passes: what is done with rows that are scored."""
    return {
        name: cost
        for name, cost in phases.items()
        if name not in BEFORE and not name.startswith(PASSES)
    }
