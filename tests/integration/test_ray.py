"""What only Ray does: processes that are apart, ports and tokens; the same rows as without."""

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from dawin_ray.data.chunks import Chunk, from_row
from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice
from dawin_ray.engine import compute, ray_stream
from dawin_ray.engine.ray_stream import RayEngine
from dawin_ray.engine.wiring import Wiring
from dawin_ray.errors import StageError, UserError
from dawin_ray.passes import Pass
from dawin_ray.runs.directory import RunDirectory


class _OneChunk:
    """Stands for the reader; its chunk's shard is the process that made it."""

    def counted(self, tries):
        return self

    def __call__(self, part: Slice, finished: Collection[str]) -> Iterator[Chunk]:
        yield Chunk(
            name="c", dataset="d", shard="", shard_key=str(os.getpid()), sample_ids=[], labels=[],
            images=np.empty((0, 2, 2, 3), np.uint8),
        )  # fmt: skip


class _Scorer:
    """Stands for the models; what they merge is the number of their process."""

    def __init__(self, fault: Exception | None = None):
        self.fault, self.merges, self.feed = fault, 0, SimpleNamespace(reached=None)

    def __call__(self, chunk, read):
        if self.fault is not None:
            raise self.fault
        self.merges += os.getpid()
        return {}


class _Spec:
    batch_size, precision = 8, "float32"


def nothing(shard: Shard) -> Collection[str]:
    return ()


def stream(
    tmp_path, count: int, *, cpus: float, fault: Exception | None = None, message: int | None = None
) -> list:
    """With a `message` of so many bytes, all shards share a task."""
    shards = [
        Shard(dataset="d", name=str(i), address="", format="webdataset", bytes=1, key=str(i))
        for i in range(count)
    ]
    tasks = [(Slice(shard=shard),) for shard in shards]
    on = compute.Resources(device="cpu", actors=1, cpus=cpus, gpus=0, threads=1, readers=1)
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=partial(_Scorer, fault))
    run = RunDirectory(str(tmp_path))
    wiring = Wiring(read=_OneChunk(), finished=nothing, run=run, on=on, message=message or 1)
    if message is not None:
        tasks = [tuple(itertools.chain.from_iterable(tasks))]
    return list(RayEngine(compute.ComputeConfig()).run(stage, tasks, wiring))


def test_decoding_stays_out_of_the_model_actors(local_ray, tmp_path):
    # equal reservations, as Ray fuses operators of equal resources
    rows = stream(tmp_path, 4, cpus=0)
    chunks = [row for row in rows if row.end is None]
    assert (len(chunks), len(rows)) == (4, 8)
    assert all(row.shard != str(row.merges) for row in chunks)
    assert all(row.merges for row in chunks)


@pytest.mark.parametrize(("message", "blocks"), [(1, 8), (1 << 20, 1)])
def test_chunks_travel_in_blocks_of_as_many_bytes_as_a_message_has(
    local_ray, tmp_path, monkeypatch, message, blocks
):
    """The driver has a row of summaries for each block, whatever the number of chunks in it."""
    came = []
    monkeypatch.setattr(ray_stream, "from_row", lambda row: came.append(row) or from_row(row))
    rows = stream(tmp_path, 4, cpus=0.1, message=message)
    assert (len(rows), sum(row.end is not None for row in rows)) == (8, 4)
    assert len(came) == blocks


def test_an_error_of_ours_names_stage_and_samples(local_ray, tmp_path):
    with pytest.raises(StageError, match=r"pass 1 of chunk c of data set 'd'.*by zero"):
        stream(tmp_path, 1, cpus=1, fault=ZeroDivisionError("by zero"))


def _where(item: int) -> tuple[int, int]:
    if item < 0:
        raise UserError(f"{item} is below 0 \ud800")
    return item, os.getpid()


def test_tasks_run_elsewhere_in_order_and_a_mistake_is_told(local_ray):
    engine = RayEngine(compute.ComputeConfig())
    on = compute.Resources(device="cpu", actors=1, cpus=0.1, gpus=0, threads=1, readers=2)
    found = list(engine.map(_where, range(9), on))
    assert [item for item, _ in found] == list(range(9))
    assert os.getpid() not in {pid for _, pid in found}
    with pytest.raises(UserError, match="-1 is below 0"):
        list(engine.map(_where, [1, -1], on))


def test_every_node_is_asked(local_ray):
    on = compute.Resources(device="cpu", actors=1, cpus=0.1, gpus=0, threads=1, readers=1)
    found = RayEngine(compute.ComputeConfig()).each_node(os.getpid, on)
    ((name, pid),) = found.items()
    assert name.startswith(f"node {socket.gethostname()} (")
    assert pid != os.getpid()


def _import_it():
    import no_such_package  # noqa: F401


class _Absent:
    """What a worker cannot unpickle, as it lacks the package that it is of."""

    def __reduce__(self):
        return _import_it, ()


@pytest.mark.parametrize("where", ["task", "node", "actor"])
def test_a_package_that_workers_lack_is_one_message(local_ray, tmp_path, where):
    engine = RayEngine(compute.ComputeConfig())
    on = compute.Resources(device="cpu", actors=1, cpus=0.1, gpus=0, threads=1, readers=1)
    work = {
        "task": lambda: list(engine.map(partial(print, _Absent()), [1], on)),
        "node": lambda: engine.each_node(partial(print, _Absent()), on),
        "actor": lambda: stream(tmp_path, 1, cpus=0.1, fault=_Absent()),
    }[where]
    with pytest.raises(UserError, match=r"has no package that has the module 'no_such_package'"):
        work()


def test_a_local_ray_listens_on_loopback_alone():
    listening = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a worker that ends at this moment
            listening += [
                connection.laddr
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
            ]
    assert listening
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_local_ray_wants_its_token(local_ray):
    import ray

    address = ray.get_runtime_context().gcs_address
    script = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('JOINED')"
    base = os.environ | {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token",
        "RAY_NUM_REDIS_GET_RETRIES": "2",  # of the connection, each a second: 20, if not told
    }  # fmt: skip

    def joining(token: str | None) -> subprocess.Popen:
        env = base if token is None else base | {"RAY_AUTH_TOKEN": token}
        return subprocess.Popen(
            [sys.executable, "-c", script], env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    wrong, ours = joining("f" * 64), joining(None)  # with the token of this machine's user
    said, joined = (process.communicate(timeout=120)[0] for process in (wrong, ours))
    assert wrong.returncode
    assert "JOINED" not in said
    assert "JOINED" in joined
