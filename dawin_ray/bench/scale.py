"""What a job costs besides its models, at any size: measured on a grid, and extrapolated.

`score` runs whole, on the local disk and, with `--store s3://bucket/folder`, on the S3 server that
AWS_ENDPOINT_URL names, behind a proxy that makes every request take LATENCY and counts it. Only
images and models are stubs. Each phase costs a + b chunks + c rows + d shards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from dawin_ray.bench import BenchConfig, Figure
from dawin_ray.bench.scale_model import PART_ROWS, PASSES, Linear, models_of, of_rows
from dawin_ray.bench.scale_run import STARTING, Measured, Store, measured
from dawin_ray.bench.scale_stubs import Shape
from dawin_ray.errors import UserError

LATENCY = 0.025  # seconds, of a request to a store in the same region

ENDPOINT = "AWS_ENDPOINT_URL"

# More rows than a fit takes samples (`method.streams.MAX_SAMPLES`), or its bounded part would look
# as if it grew.
LOCAL = (
    Shape(shards=20, chunks=40, rows=512),
    Shape(shards=20, chunks=20, rows=1024),
    Shape(shards=20, chunks=10, rows=4096),
    Shape(shards=20, chunks=80, rows=256),
    Shape(shards=400, chunks=4, rows=256),
)

# Far apart in chunks and shards: what a run costs once varies by some hundredths of a second.
STORED = (
    Shape(shards=4, chunks=8, rows=8192),
    Shape(shards=4, chunks=128, rows=1024),
    Shape(shards=4, chunks=8, rows=16384),
    Shape(shards=128, chunks=2, rows=1024),
)

# Of about 1e5 and 4e6 rows, in the same number of shards.
GROWTH = (Shape(shards=20, chunks=10, rows=512), Shape(shards=20, chunks=391, rows=512))

SIZES = (1e8, 1e9)  # rows that are extrapolated to

GPUS = (1, 16, 256)

SHOWN_SECONDS = 60.0  # of a phase at the largest size; what is less is left out


def figures(config: BenchConfig) -> Iterator[Figure]:
    """Growth; then each phase, by disk and by store; then what they come to.

    Raises:
        UserError: the environment does not name the store's server.
    """
    store = None
    if config.store:
        store = Store(address=config.store.rstrip("/"), endpoint=_endpoint(), latency=LATENCY)
    yield from _growth([measured(shape) for shape in GROWTH])
    yield from _of_grid("disk", [measured(shape) for shape in LOCAL], 0.0)
    if store is not None:
        found = [measured(shape, store) for shape in STORED]
        yield from _requests(found)
        yield from _of_grid("store", found, LATENCY)


def _endpoint() -> str:
    """The store's server.

    Raises:
        UserError: the environment does not name one that a proxy can stand before.
    """
    endpoint = os.environ.get(ENDPOINT, "")
    if not endpoint.startswith("http://"):
        raise UserError(
            f"{ENDPOINT} is {endpoint!r}; expected http://host:port of the S3 server that --store "
            "is on, such as an emulator's. Set it."
        )
    return endpoint


def _figure(
    name: str, value: float, unit: str, note: str = "", ratio: float | None = None
) -> Figure:
    against = "" if ratio is None else "the smallest"
    return Figure(
        section="scale", name=name, value=value, unit=unit, note=note, ratio=ratio, against=against
    )


def _growth(found: Sequence[Measured]) -> Iterator[Figure]:
    """Peak memory and CPU of the driver, from few rows to many."""
    for point in found:
        rows = f"{point.shape.all_rows:,} rows"
        cpu = sum(cost["cpu"] for cost in of_rows(point.phases).values())
        tasks = max(cost["task_peak"] for cost in point.phases.values())
        yield _figure(
            f"{rows}: peak memory of the driver", point.peak / 1e6, "MB",
            f"{(point.peak - point.start) / 1e6:.0f} MB above its start; {tasks / 1e6:.0f} MB in "
            "the largest task",
            point.peak / found[0].peak,
        )  # fmt: skip
        yield _figure(
            f"{rows}: driver CPU around the passes", cpu, "s",
            f"{point.shape.shards} shards, {point.shape.all_chunks:,} chunks",
        )  # fmt: skip


def _requests(found: Sequence[Measured]) -> Iterator[Figure]:
    """Requests of a chunk over the whole job, by who makes them."""
    shapes = [point.shape for point in found]
    for who in ("driver", "tasks"):
        counts = [sum(c[f"{who}_requests"] for c in point.phases.values()) for point in found]
        linear = Linear.of(shapes, counts)
        yield _figure(f"requests of the {who}", linear.chunk, "a chunk", linear.words("requests"))


def _of_grid(where: str, found: Sequence[Measured], latency: float) -> Iterator[Figure]:
    """Each phase's model, and its time at the sizes that are extrapolated to."""
    models = models_of([(point.shape, point.phases) for point in found])
    models.pop(STARTING, None)
    for name, model in models.items():
        called, most = f"{where}: {name}", SIZES[-1]
        if model.driver(most) + model.tasks(most, latency, 1, 1) < SHOWN_SECONDS:
            continue
        for who, cpu, requests in (
            ("driver", model.cpu, model.requests),
            ("tasks", model.task_cpu, model.task_requests),
        ):
            if cpu.at(most) or requests.at(most):
                asked = f"; {requests.words('requests')}" if latency else ""
                if latency and who == "driver":
                    asked += f", waited for {model.waited.words('s')}"
                yield _figure(f"{called}, {who}", cpu.at(most), "s CPU", cpu.words("s") + asked)
        for rows in SIZES:
            serial = model.driver(rows) / 60
            parts = math.inf if name.startswith(PASSES) else rows / PART_ROWS
            times = {gpus: model.tasks(rows, latency, gpus, parts) / 60 for gpus in GPUS}
            told = ", ".join(f"{t:.3g} ({gpus})" for gpus, t in times.items())
            bound = next(
                (f"from {gpus} GPUs on" for gpus, t in times.items() if t < serial), "never"
            )
            note = f"tasks {told} min on so many GPUs; bound by the driver {bound}"
            if not times[1]:
                note = "all of it in the driver"
            yield _figure(f"{called}, {rows:.0e} rows", serial, "min driver", note)
    for rows in SIZES:
        seconds = sum(model.driver(rows) for model in models.values())
        yield _figure(f"{where}: all phases, {rows:.0e} rows", seconds / 60, "min driver")
