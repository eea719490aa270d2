"""A run's work: chunks are whole or absent, and marks say what is complete."""

import os
import pickle

import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs import work
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.work import Mark, Work
from tests.unit.runs.made import files_below, fill, scored


def test_what_is_committed_is_read_back(address):
    run = RunDirectory(address)
    table = scored(0)
    run.work.commit("experts", "set", "s", "chunk", table)
    assert run.work.read("experts", "set", "s", "chunk").equals(table)
    assert run.work.chunks("experts", "set", "s") == ["chunk"]
    assert run.work.chunks("predictions", "set", "s") == []
    assert run.work.chunks("experts", "set", "t") == []
    assert run.work.chunks("experts", "other", "s") == []
    assert run.work.count("experts", "set", "s", "chunk") == 3
    assert run.work.count("rejects", "set", "s", "chunk") == 0


def test_chunks_are_listed_in_the_order_of_their_names(address):
    run = RunDirectory(address)
    for start in (9, 0, 3, 6):
        run.work.commit("experts", "set", "s", f"shard-{start:09d}", scored(start))
    run.work.commit("experts", "set", "t", "other-000000000", scored(100))
    assert run.work.chunks("experts", "set", "s") == [
        f"shard-{start:09d}" for start in (0, 3, 6, 9)
    ]


def test_many_chunks_are_read_in_the_order_that_is_asked_for(address, monkeypatch):
    monkeypatch.setattr(work, "AT_ONCE", 3)
    run = RunDirectory(address)
    for start in range(8):
        run.work.commit("experts", "set", f"s{start % 2}", f"c{start}", scored(start))
    files = [(f"s{start % 2}", f"c{start}") for start in (7, 0, 3, 2, 5, 1, 4, 6)]
    read = run.work.read_many("experts", "set", files)
    assert [table["sample_id"][0].as_py() for table in read] == [
        f"s.tar/{start}" for start in (7, 0, 3, 2, 5, 1, 4, 6)
    ]
    assert list(run.work.read_many("experts", "set", [])) == []


def test_names_of_all_chunks_are_a_text_a_shard(address):
    """A kilobyte for each name would be gigabytes of a resumed run's driver."""
    run = RunDirectory(address)
    for shard, names in {"s": "ab", "t": "c", "s-1": "d"}.items():
        for name in names:
            run.work.commit("experts", "set", shard, name, scored(0))
    assert run.work.all_chunks("experts", "set") == {"s": "a/b", "t": "c", "s-1": "d"}
    assert run.work.all_chunks("rejects", "set") == {}


def test_which_chunks_are_there_is_asked_once_a_shard(address, monkeypatch):
    run = RunDirectory(address)
    for name in "abc":
        run.work.commit("experts", "set", "s", name, scored(0))
    run.work.commit("experts", "set", "t", "a", scored(0))
    listed, chunks = [], Work.chunks
    monkeypatch.setattr(Work, "chunks", lambda *args: listed.append(args[-1]) or chunks(*args))
    asked = [("t", "b"), ("s", "c"), ("t", "a"), ("s", "a"), ("u", "a")]
    assert run.work.committed("experts", "set", asked) == [("s", "c"), ("t", "a"), ("s", "a")]
    assert sorted(listed) == ["s", "t", "u"]
    assert run.work.committed("rejects", "set", []) == []


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_of_many_chunks_the_damaged_one_is_told_and_goes(address, content):
    run = RunDirectory(address)
    for name in "abc":
        run.work.commit("experts", "set", "s", name, scored(0))
    name = "work/experts/set/s/b.parquet"
    whole = run.read_bytes(name)
    run.write(run.path(name), whole[:50] + b"x" + whole[51:] if content is None else content)
    with pytest.raises(UserError, match=r"b\.parquet' of this run is damaged.*made again"):
        list(run.work.read_many("experts", "set", [("s", n) for n in "abc"]))
    assert run.work.chunks("experts", "set", "s") == ["a", "c"]
    with pytest.raises(UserError, match=r"b\.parquet' of this run is missing.*made again"):
        list(run.work.read_many("experts", "set", [("s", n) for n in "abc"]))


def test_marks_are_read_in_the_order_that_is_asked_for(address, monkeypatch):
    monkeypatch.setattr(work, "AT_ONCE", 2)
    run = RunDirectory(address)
    marks = {f"s{i}": Mark(chunks={"a": (i, 0), "b": None}) for i in range(5)}
    for key, mark in marks.items():
        run.work.mark("experts", "set", key, mark)
    asked = ["s4", "s0", "s2"]
    assert list(run.work.read_marks("experts", "set", asked)) == [marks[key] for key in asked]
    run.write_text("work/marks/experts/set/s0.json", "{")
    for key in ("s0", "s9"):
        with pytest.raises(UserError, match=rf"{key}\.json' of this run is missing or damaged"):
            list(run.work.read_marks("experts", "set", [key]))


def test_marks_say_which_shards_are_complete(address):
    run = RunDirectory(address)
    assert run.work.marks("experts", "set") == set()
    run.work.mark("experts", "set", "s", Mark(chunks={"a": (3, 1)}))
    assert run.work.marks("experts", "set") == {"s"}
    assert run.work.marks("predictions", "set") == set()
    assert next(run.work.read_marks("experts", "set", ["s"])) == Mark(chunks={"a": (3, 1)})


def test_work_that_is_not_ours_stays(tmp_path, run):
    fill(run)
    run.write_text("work/experts/set/s/notes.txt", "mine")
    run.work.remove()
    assert files_below(tmp_path / "run" / "work") == {"experts/set/s/notes.txt"}


def test_folders_of_chunks_are_removed_one_by_one(tmp_path, run):
    fill(run)
    run.work.mark("experts", "set", "s", Mark(chunks={"a": (3, 1)}))
    folders = run.work.folders()
    assert "work/experts/set" in folders
    for folder in folders:
        run.work.remove(folder)
    left = files_below(tmp_path / "run" / "work")
    assert "marks/experts/set/s.json" in left
    assert not [name for name in left if name.endswith(".parquet")]


def test_a_chunk_that_is_missing_or_damaged_is_told_and_can_be_made_again(address):
    run = RunDirectory(address)
    run.work.commit("experts", "set", "s", "a", scored(0))
    fs, path = run.path("work", "experts", "set", "s", "a.parquet")
    whole = fs.cat_file(path)
    for data in (whole[:-10], b"", b"x" * len(whole), whole[:40] + bytes(60) + whole[100:]):
        fs.pipe_file(path, data)
        with pytest.raises(UserError, match=r"a\.parquet.* damaged .*Run the same command again"):
            run.work.read("experts", "set", "s", "a")
        assert run.work.chunks("experts", "set", "s") == []  # so it is not taken for done
        with pytest.raises(UserError, match=r"a\.parquet.* is missing\. Run the same command"):
            run.work.read("experts", "set", "s", "a")
    run.work.commit("experts", "set", "s", "a", scored(0))
    assert run.work.read("experts", "set", "s", "a").equals(scored(0))


def test_an_error_of_the_disk_deletes_no_chunk(run, monkeypatch):
    run.work.commit("experts", "set", "s", "a", scored(0))
    fs = run.path()[0]

    def fails(*_, **__):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "open", fails)
        with pytest.raises(UserError, match="Input/output error"):
            run.work.read("experts", "set", "s", "a")
    assert run.work.read("experts", "set", "s", "a").equals(scored(0))


def test_committing_twice_writes_the_same_bytes(tmp_path, run):
    path = tmp_path / "run" / "work" / "experts" / "set" / "s" / "chunk.parquet"
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    before = path.read_bytes()
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    assert path.read_bytes() == before
    assert files_below(tmp_path / "run") == {"work/experts/set/s/chunk.parquet"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_commit_that_fails_midway_leaves_nothing(tmp_path, run, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(UserError, match="no space"):
            run.work.commit("experts", "set", "s", "chunk", scored(0))
    assert files_below(tmp_path / "run") == set()
    assert run.work.chunks("experts", "set", "s") == []


def test_a_commit_that_fails_midway_leaves_what_was_there(run, monkeypatch):
    run.work.commit("experts", "set", "s", "chunk", scored(0))

    def fail(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match="no space"):
            run.work.commit("experts", "set", "s", "chunk", scored(50))
    assert run.work.read("experts", "set", "s", "chunk").equals(scored(0))


def test_nobody_sees_a_part_of_a_file(tmp_path, run, monkeypatch):
    listed = []
    replace = os.replace

    def look(source, target):
        listed.append(run.work.chunks("experts", "set", "s"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    assert listed == [[]]  # written in full by then, and not among the chunks
    assert run.work.chunks("experts", "set", "s") == ["chunk"]


def test_a_run_directory_survives_the_way_to_a_worker(run):
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    assert pickle.loads(pickle.dumps(run)).work.chunks("experts", "set", "s") == ["chunk"]  # noqa: S301
