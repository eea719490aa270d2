"""What a job gets of a cluster, and how long it waits for what it asked for."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dawin_ray.engine.compute import ActorRange, ComputeConfig, Resources, Say
from dawin_ray.errors import UserError

# More threads than this on one forward gain little on a CPU; several actors do.
MAX_THREADS = 8

# CPUs that a reading task or one of the tables reserves: so many that it runs on no node without
# CPUs, such as a head that is kept free.
TASK_CPUS = 0.001

# Of a CPU that an actor could reserve. The rest is the readers': where actors of a lost node move
# to the last free CPUs, readers that found none would wait for ever.
ACTORS_SHARE = 0.98

# An actor is no smaller, or all of them would lie on the first node.
LEAST_CPUS = 0.5

# Between two looks at what has come, and between two lines about it.
LOOK_SECONDS, LINE_SECONDS = 1.0, 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """What there is at a moment: CPUs of each node, and GPUs in all."""

    nodes: tuple[float, ...]
    gpus: int

    @classmethod
    def now(cls) -> Cluster:
        """The one that this process has joined."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return cls(
            tuple(float(resources.get("CPU", 0)) for resources in alive),
            int(sum(resources.get("GPU", 0) for resources in alive)),
        )

    @property
    def cpus(self) -> float:
        """Of all nodes."""
        return sum(self.nodes)


def resources(
    compute: ComputeConfig,
    storage: Mapping[str, Mapping[str, Any]] | None = None,
    say: Say = logger.info,
) -> Resources:
    """Fit the job to the cluster; `storage` are its options of file systems.

    With `compute.wait_for`, what the job asks for is waited for as long, and asked of an
    autoscaler; `say` is told of it.

    Raises:
        UserError: the cluster has less than the job asks for; the message says what is missing.
            (Ray itself would wait forever.)
    """
    cluster = _awaited(compute, say)
    bounds = compute.actors if isinstance(compute.actors, ActorRange) else None
    joined = bool(compute.address or os.environ.get("RAY_ADDRESS"))
    device = _device_of(compute, cluster)
    if device == "cpu" and compute.device == "auto" and joined:
        say(
            "no node has a GPU: device auto is cpu for all of this run, in a precision for it. For "
            "GPUs that are still to come say device: cuda, and how long in compute.wait_for"
        )
    if device == "cuda":
        actors, threads = compute.actors_of(_gpu_places(compute, cluster)), 1
        cpus = least = ACTORS_SHARE
    else:
        actors, threads = _on_cpus(compute, cluster)
        cpus = least = ACTORS_SHARE * max(LEAST_CPUS, threads / 2)
        threads = int(max(1, min(threads, cluster.cpus // actors)))
        if bounds is not None and actors <= _places(list(cluster.nodes), threads):
            cpus = ACTORS_SHARE * threads  # or the pool would grow on what its threads use already
    readers = int(max(1, cluster.cpus - actors * least))
    if bounds is not None:
        readers = math.ceil(bounds.max * readers / actors)
    return Resources(
        device=device,
        actors=actors,
        cpus=round(cpus, 4),  # as fine as Ray counts
        gpus=int(device == "cuda"),
        threads=threads,
        readers=readers,
        bounds=bounds,
        nodes=len(cluster.nodes),
        joined=joined,
        storage=storage or {},
    )


def _device_of(compute: ComputeConfig, cluster: Cluster) -> str:
    if compute.device != "auto":
        return compute.device
    return "cuda" if cluster.gpus else "cpu"


def _on_cpus(compute: ComputeConfig, cluster: Cluster) -> tuple[int, int]:
    """How many actors, and what threads each could have; nodes without CPUs get none."""
    nodes = [node for node in cluster.nodes if node > 0] or [1.0]
    threads = int(max(1, min(MAX_THREADS, *nodes, max(nodes))))
    fitting = int(sum(node // threads for node in nodes))
    actors = compute.actors_of(fitting)
    while threads > 1 and actors > _places(nodes, threads / 2):
        threads -= 1  # each reserves half of its threads, so that readers run and nodes may be lost
    return actors, threads


def _places(nodes: list[float], cpus: float) -> int:
    """Actors that find room where each reserves so many CPUs."""
    return int(sum(node // (ACTORS_SHARE * max(LEAST_CPUS, cpus)) for node in nodes))


def _gpu_places(compute: ComputeConfig, cluster: Cluster) -> int:
    """GPUs for actors; those of a range start where each has a CPU too."""
    if compute.actors == "auto":
        return cluster.gpus
    return min(cluster.gpus, int(cluster.cpus // ACTORS_SHARE))


def missing(compute: ComputeConfig, cluster: Cluster) -> str | None:
    """What the cluster lacks of what the job asks for, in words; None where nothing."""
    if _device_of(compute, cluster) == "cuda":
        actors = compute.actors_of(_gpu_places(compute, cluster))
        asked = f"the job asks for {_counted(actors, 'GPU actor')}"
        if actors > cluster.gpus:
            has = _counted(cluster.gpus, "GPU")
            return f"{asked}, one GPU each, but the cluster has {has}"
        if actors * ACTORS_SHARE > cluster.cpus:
            has = _counted(cluster.cpus, "CPU")
            return f"{asked}, one CPU each besides, but the cluster has {has}"
        return None
    actors, _ = _on_cpus(compute, cluster)
    if actors <= (places := _places(list(cluster.nodes), LEAST_CPUS)):
        return None
    room = f"the cluster's CPUs, {cluster.cpus:g} in all, have room for {places}"
    return (
        f"the job asks for {_counted(actors, 'model actor')}, half a CPU each, but "
        f"{room if cluster.cpus else 'no node has a CPU'}"
    )


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _awaited(compute: ComputeConfig, say: Say) -> Cluster:
    """The cluster, once it has what the job asks for."""
    begin, told = time.monotonic(), -math.inf
    with ExitStack() as asking:
        while (lack := missing(compute, cluster := Cluster.now())) is not None:
            waited = time.monotonic() - begin
            if waited >= compute.wait_seconds:
                raise UserError(_refusal(lack, compute, waited))
            if told < 0:
                _ask_autoscaler(_bundles(compute))
                # or its nodes would stay for ever; the actors will hold what they use
                asking.callback(_ask_autoscaler, [])
            if waited - told >= LINE_SECONDS:
                told = waited
                bound = f"{waited:.0f} of {compute.wait_seconds:.0f} s"
                say(f"waiting for the cluster: {lack}; {bound}")
            time.sleep(LOOK_SECONDS)
    return cluster


def _refusal(lack: str, compute: ComputeConfig, waited: float) -> str:
    after = f", after {waited:.0f} s of compute.wait_for" if compute.wait_seconds else ""
    gpu = ", use device: cpu" if compute.device == "cuda" else ""
    longer = "a longer compute.wait_for" if compute.wait_seconds else "compute.wait_for"
    return (
        f"{lack[0].upper()}{lack[1:]}{after}. Lower compute.actors{gpu}, add nodes, or say with "
        f"{longer} how long to wait for what is still to come."
    )


def _bundles(compute: ComputeConfig) -> list[dict[str, int]]:
    """What each actor wants at least."""
    each = {"CPU": 1, "GPU": 1} if compute.device == "cuda" else {"CPU": 1}
    return [each] * compute.least


def _ask_autoscaler(bundles: list[dict[str, int]]) -> None:
    """Ask for so much, where a cluster grows on demand; each call takes the place of the last."""
    from ray.autoscaler.sdk import request_resources

    try:
        request_resources(bundles=bundles)
    except Exception:  # of a cluster that has none, whatever it says
        logger.debug("no autoscaler was asked", exc_info=True)
