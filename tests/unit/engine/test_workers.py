"""Model actors, some of whose processes died before, without Ray: what they do the next time."""

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from dawin_ray.attempts import loading, together
from dawin_ray.data.chunks import Chunk, ChunkSummary, Reject, end_of, from_row, pack
from dawin_ray.data.datasets import Shard
from dawin_ray.data.slices import Slice
from dawin_ray.engine import workers
from dawin_ray.engine.ray_stream import RayWorker
from dawin_ray.errors import StageError, UserError
from dawin_ray.passes import Pass
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.work import Work


class _Spec:
    batch_size, precision = 64, "float32"


class _Scorer:
    def __init__(self, load_error=None, score_error=None, made=None):
        if load_error is not None:
            raise load_error
        self.score_error, self.merges, self.made = score_error, 3, made or {}
        self.feed = SimpleNamespace(reached=None)

    def __call__(self, chunk, read):
        if self.score_error is not None:
            raise self.score_error
        self.merges += 7
        return self.made


def shard_of_set() -> Shard:
    return Shard(dataset="set", name="a.tar", address="", format="webdataset", bytes=1, key="key")


def packed(*chunks: Chunk) -> pa.Table:
    return pa.concat_tables(map(pack, chunks))


CHUNK = Chunk(
    name="key-0", dataset="set", shard="a.tar", shard_key="key", sample_ids=["a", "b"],
    labels=[None, None], images=np.zeros((2, 4, 4, 3), np.uint8),
)  # fmt: skip


def actor_of(on, tmp_path, **errors):
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=lambda: _Scorer(**errors))
    return RayWorker(stage, RunDirectory(str(tmp_path)), on)


def score(on, tmp_path, chunk=CHUNK, **errors) -> ChunkSummary:
    (found,) = summaries(actor_of(on, tmp_path, **errors), chunk)
    return found


def summaries(actor: RayWorker, *chunks: Chunk) -> list[ChunkSummary]:
    return from_row({name: value for name, (value,) in actor(packed(*chunks)).items()})


def test_rejects_are_committed_first_and_the_last_table_last(on, tmp_path, monkeypatch):
    """A run that is killed in between makes the chunk again, and so loses no reject."""
    table, written = pa.table({"sample_id": ["a", "b"]}), []
    monkeypatch.setattr(Work, "commit", lambda self, kind, *where: written.append(kind))
    names = ("experts", "predictions")
    stage = Pass(
        name="at_once", spec=_Spec(), tables=names,
        make=lambda: _Scorer(made=dict.fromkeys(names, table)),
    )  # fmt: skip
    chunk = dataclasses.replace(CHUNK, rejects=[Reject("c", "no image")])
    RayWorker(stage, RunDirectory(str(tmp_path)), on)(packed(chunk))
    assert written == ["rejects", "experts", "predictions"]


def chunk_of(name: str) -> Chunk:
    return dataclasses.replace(CHUNK, name=name)


class _Slow:
    """Stands for a run's work, whose files take a while; `held` lets them go on."""

    def __init__(self):
        self.held, self.log = threading.Event(), []

    def read(self, kind, dataset, shard, name):
        self.log.append(f"read {name}")
        return name

    def commit(self, kind, dataset, shard, name, table):
        assert self.held.wait(10)
        self.log.append(f"committed {name}")


def slow_actor(on, tmp_path, monkeypatch, scorer):
    work = _Slow()
    monkeypatch.setattr(RunDirectory, "work", work)
    stage = Pass(
        name="merged", spec=_Spec(), tables=("predictions",), make=scorer, reads=("experts",)
    )
    return RayWorker(stage, RunDirectory(str(tmp_path)), on), work


def test_files_pass_beside_forwards_and_nothing_is_told_before_it_is_committed(
    on, tmp_path, monkeypatch
):
    """No commit ends before the last forward; the next block is scored meanwhile too."""
    forwards, all_scored = [], threading.Event()

    class Scorer(_Scorer):
        def __call__(self, chunk, read):
            assert read("experts") == chunk.name
            forwards.append(chunk.name)
            if len(forwards) == 4:
                all_scored.set()
            return {"predictions": None}

    actor, work = slow_actor(on, tmp_path, monkeypatch, Scorer)
    with ThreadPoolExecutor() as pool:
        blocks = ("ab", "cd")
        told = [pool.submit(summaries, actor, *map(chunk_of, block)) for block in blocks]
        assert all_scored.wait(10)
        assert sorted(forwards) == list("abcd")
        assert {"".join(forwards[:2]), "".join(forwards[2:])} == {"ab", "cd"}  # one by one
        assert not any(line.startswith("committed") for line in work.log)
        assert not any(future.done() for future in told)
        work.held.set()
        assert [s.chunk for future in told for s in future.result()] == list("abcd")
    assert sum(line.startswith("committed") for line in work.log) == 4


def test_every_thread_that_calls_an_actor_has_the_same_number_of_threads(on, tmp_path, monkeypatch):
    """MKL keeps it by thread, and the last bits of a product go by it."""
    told = []
    monkeypatch.setattr(torch, "set_num_threads", lambda n: told.append((threading.get_ident(), n)))
    actor = actor_of(on, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(summaries, actor, CHUNK).result()
        caller = pool.submit(threading.get_ident).result()
    assert (caller, on.threads) in told


def test_what_waits_for_files_is_no_work_of_the_models(on, tmp_path, monkeypatch):
    class Scorer(_Scorer):
        def __call__(self, chunk, read):
            read("experts")
            time.sleep(0.01)
            return {"predictions": None}

    actor, work = slow_actor(on, tmp_path, monkeypatch, Scorer)
    work.held.set()
    monkeypatch.setattr(work, "read", lambda *where: time.sleep(0.5))
    (found,) = summaries(actor, CHUNK)
    assert 0.01 <= found.seconds < 0.4
    assert found.wait_seconds >= 0.4


def test_models_and_waits_are_all_of_an_actors_time(on, tmp_path):
    class Scorer(_Scorer):
        def __call__(self, chunk, read):
            time.sleep(0.02)
            return {}

    begin = time.time()
    stage = Pass(name="experts", spec=_Spec(), tables=(), make=Scorer)
    actor = RayWorker(stage, RunDirectory(str(tmp_path)), on)
    timed = dataclasses.replace(CHUNK, read_seconds=3.0, decode_seconds=4.0)
    ended = end_of(Slice(shard=shard_of_set()), {}, ())
    found = summaries(actor, timed, ended)
    time.sleep(0.1)
    found += summaries(actor, timed)
    first, end, second = found
    assert second.wait_seconds >= 0.1
    assert 0 <= first.wait_seconds < 0.1
    assert (end.actor, end.wait_seconds) == ("", 0)
    total = sum(summary.seconds + summary.wait_seconds for summary in (first, second))
    assert total == pytest.approx(second.done - first.begun + first.wait_seconds, abs=0.01)
    assert total < time.time() - begin
    assert first.actor == second.actor
    assert first.actor.endswith(f"/{os.getpid()}")
    assert (first.read_seconds, first.decode_seconds) == (3, 4)


def test_a_summary_has_the_requests_that_its_reader_and_its_actor_sent_again(
    on, tmp_path, monkeypatch
):
    taken = iter([4, 0, 9])
    monkeypatch.setattr(workers, "take_retries", lambda: next(taken))
    again = dataclasses.replace(CHUNK, storage_retries=3)
    ended = end_of(Slice(shard=shard_of_set()), {}, ())
    found = summaries(actor_of(on, tmp_path), again, CHUNK, ended)
    assert [summary.storage_retries for summary in found] == [7, 0, 0]


def test_what_was_scored_before_an_error_is_committed(on, tmp_path, monkeypatch):
    class Scorer(_Scorer):
        def __call__(self, chunk, read):
            if chunk.name == "b":
                raise ValueError("a fault")
            return {"predictions": None}

    actor, work = slow_actor(on, tmp_path, monkeypatch, Scorer)
    work.held.set()
    with pytest.raises(StageError, match=r"chunk b of data set 'set'.*a fault"):
        summaries(actor, chunk_of("a"), chunk_of("b"), chunk_of("c"))
    assert "committed a" in work.log
    assert "committed c" not in work.log


def test_an_error_of_a_commit_names_its_chunk(on, tmp_path, monkeypatch):
    actor, work = slow_actor(on, tmp_path, monkeypatch, lambda: _Scorer(made={"predictions": None}))
    monkeypatch.setattr(work, "commit", lambda *where: [][0])
    with pytest.raises(StageError, match=r"pass 2 of chunk key-0.*IndexError"):
        summaries(actor, CHUNK)


def test_what_is_scored_of_a_chunk_is_told_meanwhile(on, attempts, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "REPORT_SECONDS", 0.0)
    told = []

    class Slow(_Scorer):
        def __call__(self, chunk, read):
            self.feed.reached(1, 2)
            told.append(attempts.state(loading("pass 1"), "pass 1"))
            return {}

    stage = Pass(name="experts", spec=_Spec(), tables=(), make=Slow)
    RayWorker(stage, RunDirectory(str(tmp_path)), on)(packed(CHUNK))
    assert told == [(1, 1, 2)]
    assert attempts.state(loading("pass 1"), "pass 1") == (1, 0, 0)


def test_a_chunk_is_counted_and_its_end_too(on, attempts, tmp_path):
    assert score(on, tmp_path).merges == 7
    assert not +attempts.open
    assert attempts.ended == {"pass 1": 1, loading("pass 1"): 1}
    assert attempts.told() == []


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_death_or_two_at_a_chunk_are_told(on, attempts, tmp_path, deaths):
    for _ in range(deaths):
        attempts.begin("pass 1", "set/key-0")
    actor_of(on, tmp_path)(packed(CHUNK))
    (line,) = attempts.told()
    assert attempts.retries() == {"scoring": 1}
    assert f"died ({deaths}{'st' if deaths == 1 else 'nd'} time) at chunk key-0" in line


def test_the_third_death_at_a_chunk_ends_the_run(on, attempts, tmp_path):
    for _ in range(3):
        attempts.begin("pass 1", "set/key-0")
    with pytest.raises(UserError, match=r"3 model actors.*'a' to 'b'.*batch_size \(now 64\)"):
        actor_of(on, tmp_path)(packed(CHUNK))


def test_chunks_of_a_message_are_one_try(on, attempts, tmp_path, monkeypatch):
    """Asked for once, and told of while they are under way."""
    asked, told = [], []
    monkeypatch.setattr(workers, "REPORT_SECONDS", 0.0)

    class Scorer(_Scorer):
        def __call__(self, chunk, read):
            self.feed.reached(1, 2)
            told.append(attempts.state(loading("pass 1"), "pass 1")[1:])
            return {}

    stage = Pass(name="experts", spec=_Spec(), tables=(), make=Scorer)
    actor = RayWorker(stage, RunDirectory(str(tmp_path)), on)
    begin_all = attempts.begin_all
    monkeypatch.setattr(attempts, "begin_all", lambda *a: asked.append(a) or begin_all(*a))
    monkeypatch.setattr(attempts, "begin", lambda *a: 1 / 0 if asked == [] else 0)
    assert [s.chunk for s in summaries(actor, *map(chunk_of, "abc"))] == list("abc")
    assert asked == [(together("pass 1"), ["set/a", "set/b", "set/c"])]
    assert told == [(1, 2), (2, 4), (3, 6)]
    assert attempts.state(loading("pass 1"), "pass 1") == (1, 0, 0)


def test_chunks_at_which_an_actor_died_are_tried_one_by_one(on, attempts, tmp_path):
    """One that kills every actor is found among those that went with it, and named."""
    attempts.begin_all(together("pass 1"), ["set/a", "set/b", "set/c"])
    actor = actor_of(on, tmp_path)
    assert [s.chunk for s in summaries(actor, *map(chunk_of, "abc"))] == list("abc")
    (line,) = attempts.told()
    assert "died at one of the chunks set/a to set/c" in line
    for _ in range(3):
        attempts.begin("pass 1", "set/b")
    with pytest.raises(UserError, match=r"3 model actors.*at chunk b of data set 'set'"):
        summaries(actor, *map(chunk_of, "abc"))


def test_the_end_of_a_shard_is_no_try(on, attempts, tmp_path):
    shard = Shard(dataset="set", name="a", address="", format="webdataset", bytes=1, key="key")
    for _ in range(5):
        attempts.begin("pass 1", "set/")
    end = score(on, tmp_path, end_of(Slice(shard=shard), {"key-0": 2}, ["key-1"]))
    assert (end.merges, end.rows, end.chunk) == (0, 0, "")
    assert end.end == {"read": {"key-0": 2}, "before": ["key-1"], "slice": 0, "of": 1}


def test_actors_that_load_at_once_are_no_deaths(on, attempts, tmp_path):
    attempts.begin(loading("pass 1"), "")  # of two, one is at it
    actor_of(on, tmp_path)(packed(CHUNK))
    assert attempts.told() == []


def test_actors_that_die_while_they_load_end_the_run(on, attempts, tmp_path):
    for _ in range(5):
        attempts.begin(loading("pass 1"), "")
    with pytest.raises(UserError, match=r"4 model actors of pass 1 died while they loaded"):
        actor_of(on, tmp_path)(packed(CHUNK))


@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        ({"load_error": OSError("gone \udcff")}, UserError, r"cannot load.*OSError: gone \\xff"),
        ({"load_error": UserError("no \udcff")}, UserError, r"^no \\xff$"),
        ({"load_error": MemoryError()}, UserError, r"to load the models.*batch_size.*MemoryError"),
        (
            {"score_error": torch.OutOfMemoryError("CUDA out of memory.\nTried")},
            UserError, r"does not suffice at chunk key-0.*compute\.batch_size.*CUDA out of mem",
        ),
        (
            {"score_error": RuntimeError("DefaultCPUAllocator: can't allocate memory")},
            UserError, r"memory of the machine.*compute\.actors",
        ),
        ({"score_error": ValueError("\ud800")}, StageError, r"ValueError: \\xed\\xa0\\x80"),
        ({"score_error": UserError("disk \udcff")}, UserError, r"^disk \\xff$"),
    ],
)  # fmt: skip
def test_errors_are_messages_that_can_be_encoded(on, tmp_path, errors, kind, message):
    with pytest.raises(kind, match=message) as raised:
        actor_of(on, tmp_path, **errors)(packed(CHUNK))
    str(raised.value).encode()
