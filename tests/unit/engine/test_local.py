"""The engine of this process, and which engine a job gets."""

from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from dawin_ray.attempts import loading
from dawin_ray.data.chunks import Chunk
from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice
from dawin_ray.engine import ComputeConfig, Wiring, engine_of
from dawin_ray.engine.local import LocalEngine
from dawin_ray.engine.ray_stream import RayEngine
from dawin_ray.errors import UserError
from dawin_ray.passes import Pass
from dawin_ray.runs.directory import RunDirectory
from tests.unit.engine.test_workers import CHUNK, _Scorer, _Spec


def shard(key: str) -> Shard:
    return Shard(dataset="set", name=key, address="", format="webdataset", bytes=1, key=key)


class _Reader:
    """Two chunks of each shard, by turns with their scoring."""

    def __init__(self):
        self.log = []

    def counted(self, tries):
        return self

    def __call__(self, part, finished=()):
        shard = part.shard
        for name in ("0", "1"):
            self.log.append(f"read {shard.key}-{name}")
            yield Chunk(**{**vars(CHUNK), "name": f"{shard.key}-{name}", "shard_key": shard.key})


def test_the_engine_is_the_jobs():
    assert isinstance(engine_of(ComputeConfig()), RayEngine)
    assert isinstance(engine_of(ComputeConfig(engine="local")), LocalEngine)


@pytest.mark.parametrize(
    "wrong", [{"address": "auto"}, {"actors": 2}, {"actors": {"min": 1, "max": 2}}]
)
def test_what_one_process_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError, match="engine: local is this process alone"):
        ComputeConfig(engine="local", **wrong)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine = engine_of(ComputeConfig(engine="local", device="cuda"))
    with pytest.raises(UserError, match=r"asks for a GPU.*device: cpu"), engine.session(print):
        pass


def test_chunks_are_read_and_scored_by_turns(tmp_path):
    engine, reader = engine_of(ComputeConfig(engine="local")), _Reader()
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=_Scorer)
    with engine.session(print) as on:
        assert (on.actors, on.threads) == (1, torch.get_num_threads())
        wiring = Wiring(
            read=reader, finished=lambda s: {"s-9"}, run=RunDirectory(str(tmp_path)), on=on
        )
        found, tasks = [], [tuple(Slice(shard=shard(key)) for key in "st")]
        for summary in engine.run(stage, tasks, wiring):
            reader.log.append(f"done {summary.chunk or 'end'}")
            found.append(summary)
        assert on.tries.state(loading("pass 1"), "pass 1") == (1, 0, 0)
    assert reader.log == [
        "read s-0", "done s-0", "read s-1", "done s-1", "done end",
        "read t-0", "done t-0", "read t-1", "done t-1", "done end",
    ]  # fmt: skip
    assert Counter(summary.shard for summary in found) == {"s": 3, "t": 3}
    assert found[2].end == {"read": {"s-0": 2, "s-1": 2}, "before": ["s-9"], "slice": 0, "of": 1}
    assert [summary.merges for summary in found] == [7, 7, 0, 7, 7, 0]


def test_nothing_is_loaded_where_nothing_is_left(tmp_path):
    engine = engine_of(ComputeConfig(engine="local"))
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=None)
    assert list(engine.run(stage, [], None)) == []


def test_tasks_are_done_in_their_order():
    engine = engine_of(ComputeConfig(engine="local"))
    with engine.session(print) as on:
        assert list(engine.map(abs, [-2, 1, -3], on)) == [2, 1, 3]
        assert list(engine.map(abs, [], on)) == []
