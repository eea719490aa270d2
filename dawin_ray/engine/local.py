"""The local engine: a job in this process, chunk after chunk. For debuggers, notebooks and tests.

Slices are read and scored by turns, so that nothing overlaps: a breakpoint in any part of the job
is reached, and a small job is done before a cluster would have started. What kills a process kills
the job, which then resumes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from dawin_ray.attempts import Attempts, Tries
from dawin_ray.data import Task
from dawin_ray.engine.compute import Chunks, ComputeConfig, Resources, Say, StorageOptions
from dawin_ray.engine.wiring import Wiring, chunks_of
from dawin_ray.engine.workers import Worker
from dawin_ray.errors import UserError
from dawin_ray.metrics import Sink
from dawin_ray.passes import Pass
from dawin_ray.statistics import DriftReport
from dawin_ray.storage import configure

Item = TypeVar("Item")
Result = TypeVar("Result")


def gpus_here() -> int:
    """GPUs that PyTorch sees on this machine."""
    return torch.cuda.device_count()


@dataclass(frozen=True)
class LocalEngine:
    """See `engine.Engine`."""

    compute: ComputeConfig
    starting = "starting in this process"

    @contextmanager
    def session(self, say: Say, storage: StorageOptions | None = None) -> Iterator[Resources]:
        """One worker, which is this process, with the threads that PyTorch has in it.

        Raises:
            UserError: the job asks for a GPU that is not there.
        """
        device = self.compute.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UserError("The job asks for a GPU, and PyTorch finds none. Use device: cpu.")
        configure(storage or {})
        attempts = Attempts()

        def call(method: str, *arguments: Any, timeout: float | None = None) -> Any:
            return getattr(attempts, method)(*arguments)

        yield Resources(
            device=device,
            actors=1,
            cpus=1,
            gpus=int(device == "cuda"),
            threads=torch.get_num_threads(),
            readers=1,
            storage=storage or {},
            tries=Tries(call, call),
        )

    def run(self, stage: Pass, tasks: Sequence[Task], wiring: Wiring) -> Chunks:
        """A pass over the tasks; a summary of each chunk as it is committed."""
        if not tasks:
            return
        worker = Worker(stage, wiring.run, wiring.on)
        for part in itertools.chain.from_iterable(tasks):
            for chunk in chunks_of(part, wiring):
                yield from worker.score([chunk])

    def map(
        self, task: Callable[[Item], Result], items: Sequence[Item], on: Resources
    ) -> Iterator[Result]:
        """One after the other, as they are asked for."""
        return map(task, items)

    def sink(self) -> Sink | None:
        """There are no metrics here."""
        return None

    def each_node(self, task: Callable[[], Result], on: Resources) -> dict[str, Result]:
        """In this process, which is all there is."""
        return {"this process": task()}

    def publish(self, drift: Mapping[str, DriftReport], on: Resources) -> None:
        """There are no metrics here."""
