"""What a resumed run asks of a storage goes by shard: chunks that are there are not looked at.

Stubs score shards of a few rows, and the driver is interrupted when all of its shards are open.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module

import fsspec
import pytest

from dawin_ray.bench import scale_stubs
from dawin_ray.bench.scale_stubs import Shape, StubReader, stub_of
from dawin_ray.config import make_job
from dawin_ray.engine.local import LocalEngine
from dawin_ray.job import Prepared, prepare, score
from tests.conftest import CLASSES, make_images, write_tar
from tests.integration.requests import CHUNK, Requests

FEW, MANY = 2, 6  # chunks of a shard, of which the last one is left to do

# Requests of a resumed run for each shard that was open, over all that is left of the job. Readers
# list a shard's chunks in each pass, and the task of its part the rejects of those whose counts are
# not known; marks are written by threads, and read by the tasks that plan and make parts. Behind
# pass 1, the driver reads its marks, 64 at once. Deletes are by the thousand on S3.
A_SHARD = {
    "experts": {("list", "task"): 3, ("read", "task"): 3, ("write", "driver"): 2},
    "merged": {
        ("list", "task"): 1, ("read", "task"): 3, ("write", "driver"): 1, ("read", "driver"): 1,
    },
}  # fmt: skip

PASSES = ("experts", "merged")


class AllButOne(StubReader):
    """Reads all chunks of a shard but its last."""

    def __call__(self, part, finished=()):
        yield from list(super().__call__(part, finished))[:-1]


@dataclass(frozen=True)
class Stubbed(LocalEngine):
    """Scores shards of this shape, and is interrupted in a pass."""

    shape: Shape
    preprocessing: object
    dies_in: str = ""

    def run(self, stage, tasks, wiring) -> Iterator:
        dies = stage.name == self.dies_in
        read = (AllButOne if dies else StubReader)(self.shape)
        stubs = stub_of(stage, self.preprocessing)
        for summary in super().run(stubs, tasks, replace(wiring, read=read)):
            if not dies or summary.end is None:  # no shard comes to its end
                yield summary
        if dies:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Interrupted:
    """A job whose driver died in a pass, when all of its shards were open."""

    prepared: Prepared
    engine: Stubbed

    def resume(self) -> Requests:
        """Run it again; what it asks for."""
        with pytest.MonkeyPatch.context() as patch:
            requests = Requests(patch)
            report = score(self.prepared, engine=replace(self.engine, dies_in=""))
        assert [found.rows for found in report.datasets] == [self.engine.shape.all_rows]
        return requests


@pytest.fixture
def interrupted(small, tmp_path, monkeypatch):
    monkeypatch.setattr(scale_stubs, "CLASSES", CLASSES)

    def interrupting(shards: int, chunks: int, dies_in: str) -> Interrupted:
        root = tmp_path / f"{shards}"
        first = write_tar(root / "0.tar", make_images(1), None)
        for tar in range(1, shards):
            shutil.copyfile(first, root / f"{tar}.tar")
        address = f"memory://{tmp_path.name}/{shards}-{chunks}-{dies_in}"
        job = small.job(
            address, [{"name": "set", "path": str(root)}], compute={"chunk_size": 2},
            mixture={"clusters": scale_stubs.CLUSTERS},
        )  # fmt: skip
        prepared = prepare(make_job(job, ""), print)
        shape = Shape(shards=shards, chunks=chunks, rows=2)
        engine = Stubbed(prepared.job.compute, shape, prepared.preprocessing, dies_in)
        with pytest.raises(KeyboardInterrupt):
            score(prepared, engine=engine)
        return Interrupted(prepared, engine)

    yield interrupting
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def by_shard(requests: Requests) -> Counter:
    """Requests that no chunk's file is the object of, by what they do and who asks."""
    found = ((kind, by) for kind, path, by in requests if not CHUNK.search(path))
    return Counter((kind, "task" if by else "driver") for kind, by in found if kind != "delete")


def of_old_chunks(requests: Requests) -> Counter:
    """Those for files of chunks that the first driver left, by table and by what they do."""
    written = {path for kind, path, _ in requests if kind == "write"}
    return Counter(
        (chunk[1], kind)
        for kind, path, _ in requests
        if path not in written and kind != "delete" and (chunk := CHUNK.search(path))
    )


@pytest.mark.parametrize("shards", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dies_in", PASSES)
def test_a_resume_asks_by_shard_and_the_driver_does_not_wait(interrupted, dies_in, shards):
    few, many = (by_shard(interrupted(shards, n, dies_in).resume()) for n in (FEW, MANY))
    assert few == many
    half = by_shard(interrupted(shards // 2, FEW, dies_in).resume())
    more = {key: (few[key] - half[key]) / (shards - shards // 2) for key in few}
    print(more, "a shard")
    assert {key: count for key, count in more.items() if count} == A_SHARD[dies_in]


@pytest.mark.parametrize("dies_in", PASSES)
def test_what_is_there_of_a_chunk_is_read_for_what_is_still_to_do_alone(interrupted, dies_in):
    shards, left = 3, MANY - 1
    found = of_old_chunks(interrupted(shards, MANY, dies_in).resume())
    if dies_in == "experts":  # by pass 2, and for the part
        assert found == {("experts", "read"): 2 * shards * left}
    else:  # for the part; and by pass 2 for the one chunk that it had not made
        assert found == {("predictions", "read"): shards * left, ("experts", "read"): shards}


def test_parts_of_pass_1_are_compared_and_not_made_again(interrupted):
    requests = interrupted(3, FEW, "merged").resume()
    parts = Counter(
        kind for kind, path, _ in requests if "/experts/dataset=set/" in path and "work" not in path
    )
    assert parts["write"] == 0
    assert parts["read"] == 2  # its hash, and beside the predictions


def test_a_crop_cache_in_a_temporary_folder_is_found_again(interrupted, monkeypatch):
    job, noted = interrupted(1, FEW, "experts"), []
    scoring = import_module("dawin_ray.job.score")
    plan = scoring.plan_cache

    def planned(*args, **options):
        noted.append(options["noted"])
        return plan(*args, **options)

    monkeypatch.setattr(scoring, "plan_cache", planned)
    address = f"{job.prepared.job.run_dir}/work/cache.json"
    with fsspec.open(address, "r") as file:
        folder = json.load(file)
    job.resume()
    assert noted == [folder]
