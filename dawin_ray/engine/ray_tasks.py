"""Work of the order of rows that needs no model, as Ray tasks: a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from dawin_ray.engine.compute import Resources, StorageOptions
from dawin_ray.engine.ray_errors import encodable, told_plainly
from dawin_ray.engine.ray_resources import TASK_CPUS
from dawin_ray.storage import configure

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks that wait for a worker beside each one that has one.
WAITING = 1


def map_tasks(
    task: Callable[[Item], Result], items: Sequence[Item], on: Resources
) -> Iterator[Result]:
    """What `task` makes of each item, in their order. Ray runs again what died.

    Raises:
        UserError: a mistake of a person's that a task found.
        RayLostError: Ray gave up.
    """
    import ray

    # as for readers, next to no CPU is reserved, and their number is bounded instead
    remote: Any = ray.remote(_call).options(num_cpus=TASK_CPUS, scheduling_strategy="SPREAD")
    run: Any = ray.put(task)
    most, under_way = on.readers * (1 + WAITING), deque[Any]()
    with told_plainly():
        for item in items:
            if len(under_way) >= most:
                yield ray.get(under_way.popleft())
            under_way.append(remote.remote(run, item, on.storage))
        while under_way:
            yield ray.get(under_way.popleft())


def _call(task: Callable[[Item], Result], item: Item, storage: StorageOptions) -> Result:
    configure(storage)
    with encodable():
        return task(item)
