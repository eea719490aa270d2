"""What a job says of where it runs, and what it gets there."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from dawin_ray.attempts import UNCOUNTED, Tries
from dawin_ray.data import ChunkSummary
from dawin_ray.models import Precision
from dawin_ray.settings import Settings

Say = Callable[[str], None]  # takes one line for a person
# What a pass yields of its chunks; closed, it leaves nothing under way.
Chunks = Generator[ChunkSummary, None, None]
StorageOptions = Mapping[str, Mapping[str, Any]]  # of fsspec, by protocol


class ActorRange(Settings):
    """Bounds of a pool of model actors that grows and shrinks with the cluster."""

    min: Annotated[int, Field(ge=1)]
    """Without room for so many nothing starts."""
    max: Annotated[int, Field(ge=1)]
    """No more are started, whatever joins."""

    @model_validator(mode="after")
    def _check_order(self) -> ActorRange:
        if self.min > self.max:
            raise ValueError(f"expected min <= max, got {self.min} > {self.max}")
        return self

    def __str__(self) -> str:
        """Such as `1 to 4`."""
        return f"{self.min} to {self.max}"


class ComputeConfig(Settings):
    """Where and how fast.

    `engine` ray streams over a cluster; local does all in this process, chunk after chunk, for
    debugging, notebooks and small jobs. `address` joins a Ray cluster (`auto` finds the one of this
    machine; RAY_ADDRESS is heeded); without one a local Ray is started that listens on loopback
    alone. `batch_size` is a forward's, `chunk_size` an output file's. `precision` is the towers':
    auto is bfloat16 on a GPU and float32 on a CPU. `cache` keeps pass 1's crops for pass 2: in a
    folder that all nodes share, or (auto) on this machine's disk where Ray has no other node and
    there is room; `keep_cache` leaves them there for the next run.
    """

    engine: Literal["ray", "local"] = "ray"
    batch_size: int = Field(default=256, ge=1)
    chunk_size: int = Field(default=512, ge=1)
    precision: Literal["auto"] | Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPUs that are there when the run starts, or else the CPUs, for all of the run.
    cuda waits for GPUs that are still to come, as long as `wait_for` says."""
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] | ActorRange = "auto"
    """Model actors; auto: one for each GPU, or as many as the CPUs are for, when the run starts.
    {min: 1, max: 4}: as many of them as there is room for, also as nodes come and go."""
    cache: str = "auto"
    keep_cache: bool = False
    address: str | None = None
    wait_for: Annotated[str, Field(pattern=r"^\d{1,6}(\.\d+)?(s|m|h)$")] | None = None
    """How long nodes may take to come that the job asks for, such as 15m; else it is refused."""

    @property
    def wait_seconds(self) -> float:
        """Of `wait_for`; 0 without it."""
        if self.wait_for is None:
            return 0.0
        return float(self.wait_for[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.wait_for[-1]]

    def actors_of(self, fitting: int) -> int:
        """Actors that a run starts with where so many find room; maybe more than that."""
        if isinstance(self.actors, ActorRange):
            return max(self.actors.min, min(fitting, self.actors.max))
        return max(fitting, 1) if self.actors == "auto" else self.actors

    @property
    def least(self) -> int:
        """Actors without which a run does not start, whatever the cluster."""
        return self.actors_of(0)

    @field_validator("cache")
    @classmethod
    def _check_cache(cls, cache: str) -> str:
        if "://" in cache:
            raise ValueError("expected auto, off or a folder: crops are files of a file system")
        return cache

    @model_validator(mode="after")
    def _check_engine(self) -> ComputeConfig:
        if self.engine == "local" and (self.address or self.actors not in ("auto", 1)):
            raise ValueError(
                "engine: local is this process alone; leave address out, and actors at auto"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each model actor gets, and how many there are."""

    device: str
    actors: int  # that a pass begins with
    cpus: float  # reserved for each actor
    gpus: int  # reserved for each actor
    threads: int  # of PyTorch in each actor
    readers: int  # tasks that read and decode at once, in the whole cluster, for the most actors
    bounds: ActorRange | None = None  # of a pool of actors that grows and shrinks
    nodes: int = 1  # of the cluster
    joined: bool = False  # the cluster was there before this run
    storage: StorageOptions = field(default_factory=dict)  # fsspec's options
    tries: Tries = UNCOUNTED  # counts deaths of workers

    @property
    def most(self) -> int:
        """Actors that there may be at once."""
        return self.actors if self.bounds is None else self.bounds.max

    @property
    def pool(self) -> str:
        """Its actors, in words."""
        actors = f"{self.actors:,} model actor{'s' if self.actors > 1 else ''}"
        return actors if self.bounds is None else f"{actors} ({self.bounds} as nodes come and go)"
