"""What a job asks of an engine: to be there, to run a pass, and to show figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from dawin_ray.data import Task
from dawin_ray.engine.compute import Chunks, ComputeConfig, Resources, Say, StorageOptions
from dawin_ray.engine.local import LocalEngine
from dawin_ray.engine.ray_stream import RayEngine
from dawin_ray.engine.wiring import Wiring
from dawin_ray.metrics import Sink
from dawin_ray.passes import Pass
from dawin_ray.statistics import DriftReport

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs passes over slices of shards."""

    @property
    def starting(self) -> str:
        """What takes a while at first, for people."""

    def session(
        self, say: Say, storage: StorageOptions | None = None
    ) -> AbstractContextManager[Resources]:
        """Start, and end afterwards; the value is what the job gets. `say` takes a line."""

    def run(self, stage: Pass, tasks: Sequence[Task], wiring: Wiring) -> Chunks:
        """A pass over slices of shards; yields a summary of each chunk as it is committed.

        In any order; a summary may come twice, and a slice's end before its last chunk. Whoever
        leaves before the end closes it: what is left to Python is closed when Ray is gone.
        """

    def map(
        self, task: Callable[[Item], Result], items: Sequence[Item], on: Resources
    ) -> Iterator[Result]:
        """What `task` makes of each item, in their order; on workers, where there are any.

        For what is of the order of rows and needs no model. Task, items and results are pickled
        between processes, and results should be small; a task may run twice.
        """

    def sink(self) -> Sink | None:
        """Where figures of a run are shown while it goes, within a session; None for nowhere."""

    def each_node(self, task: Callable[[], Result], on: Resources) -> dict[str, Result]:
        """What `task` returns on each node that may do work, by the node's name."""

    def publish(self, drift: Mapping[str, DriftReport], on: Resources) -> None:
        """Show drift's figures where the engine's metrics are."""


def engine_of(compute: ComputeConfig) -> Engine:
    """The engine that a job names. A new one is a file here, and a line in this function."""
    engines: dict[str, type[RayEngine] | type[LocalEngine]] = {
        "ray": RayEngine,
        "local": LocalEngine,
    }
    return engines[compute.engine](compute)
