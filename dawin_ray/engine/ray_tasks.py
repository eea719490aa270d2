"""Work of the order of rows that needs no model, as Ray tasks: a bounded number at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from dawin_ray.engine.compute import Resources, StorageOptions
from dawin_ray.engine.ray_errors import encodable, told_plainly
from dawin_ray.engine.ray_resources import TASK_CPUS
from dawin_ray.errors import UserError
from dawin_ray.storage import configure

Item = TypeVar("Item")
Result = TypeVar("Result")

# That a node may take to start a process and run a small task.
NODE_SECONDS = 120.0

ID_LETTERS = 8  # of a node's id: enough to find it by

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


def on_each_node(task: Callable[[], Result], storage: StorageOptions) -> dict[str, Result]:
    """What `task` returns on each node that has CPUs, by its name. One that goes is left out.

    Raises:
        UserError: a mistake of a person's that a task found, or a node that does not answer.
        RayLostError: Ray gave up.
    """
    import ray
    from ray.exceptions import GetTimeoutError, NodeDiedError, TaskUnschedulableError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
    # not enough where ids are counted, as those of Ray's fake nodes
    short = ID_LETTERS if len({n["NodeID"][:ID_LETTERS] for n in alive}) == len(alive) else None
    run: Any = ray.put(partial(_without_item, task))
    remote: Any = ray.remote(_call)
    under_way: dict[str, Any] = {
        f"node {node['NodeManagerHostname']} ({node['NodeID'][:short]})": remote.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(run, None, storage)
        for node in alive
    }
    found: dict[str, Result] = {}
    deadline = time.monotonic() + NODE_SECONDS
    with told_plainly():
        for name, answer in under_way.items():
            try:
                found[name] = ray.get(answer, timeout=max(0.0, deadline - time.monotonic()))
            except (NodeDiedError, TaskUnschedulableError):
                continue
            except GetTimeoutError as error:
                raise UserError(
                    f"The {name} has run no task for {NODE_SECONDS:g} s. Look at its logs (ray "
                    "status, /tmp/ray/session_latest/logs), or take it out of the cluster."
                ) from error
    return found


def _without_item(task: Callable[[], Result], _: None) -> Result:
    return task()


def _call(task: Callable[[Item], Result], item: Item, storage: StorageOptions) -> Result:
    configure(storage)
    with encodable():
        return task(item)
