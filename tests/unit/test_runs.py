"""The run directory: what it claims, what it refuses, and that outputs are whole or absent."""

import os
import pickle

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from dawin_ray import runs, tables
from dawin_ray.errors import UserError
from dawin_ray.runs import MANIFEST, RunDirectory

FINGERPRINT = {"code": "0.1", "job": {"seed": 1, "fit": "joint"}, "checkpoints": {"a.pt": "123"}}


@pytest.fixture(params=["local", "memory"])
def address(request, tmp_path):
    """A run directory that does not exist yet, here and behind another fsspec address."""
    if request.param == "local":
        yield str(tmp_path / "some" / "run")
    else:
        yield f"memory://{tmp_path.name}/run"
        memory = fsspec.filesystem("memory")
        if memory.exists(f"/{tmp_path.name}"):
            memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(str(tmp_path / "run"))


def scored(first: int, count: int = 3) -> pa.Table:
    columns = {
        "sample_id": [f"s.tar/{i}" for i in range(first, first + count)],
        "label": [None] * count,
        "log_expertise": np.arange(2 * count, dtype=np.float32).reshape(count, 2),
    }
    return tables.table(tables.EXPERTS, columns)


def files_below(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Claiming a directory


def test_a_run_is_new_then_unfinished_then_finished(address):
    run = RunDirectory(address)
    assert run.open(FINGERPRINT, "job: 1\n") == "new"
    assert run.open(FINGERPRINT, "job: 1\n") == "unfinished"
    run.commit("experts", "set", "s", "chunk", scored(0))
    assert run.open(FINGERPRINT, "job: 1\n") == "unfinished"
    run.write_json(MANIFEST, {})
    assert run.open(FINGERPRINT, "job: 1\n") == "finished"
    fs, path = run.path("job.yaml")
    assert fs.cat_file(path) == b"job: 1\n"


def test_the_order_of_keys_is_no_difference(run):
    run.open(FINGERPRINT, "")
    assert run.open(dict(reversed(FINGERPRINT.items())), "") == "unfinished"


@pytest.mark.parametrize("finished", [False, True])
def test_another_job_is_refused_with_what_differs(address, finished):
    run = RunDirectory(address)
    run.open(FINGERPRINT, "job: 1\n")
    if finished:
        run.write_json(MANIFEST, {})
    other = FINGERPRINT | {"job": {"seed": 2, "fit": "joint"}}
    with pytest.raises(UserError) as caught:
        run.open(other, "job: 2\n")
    message = str(caught.value)
    assert address in message
    assert "Give another run_dir" in message
    assert message.split("They differ in:\n")[1] == "  job.seed: 1 there, 2 here"
    fs, path = run.path("job.yaml")
    assert fs.cat_file(path) == b"job: 1\n"  # the other run's files are as they were


def test_what_only_one_job_has_is_a_difference_too(run):
    run.open(FINGERPRINT, "")
    with pytest.raises(UserError) as caught:
        run.open(FINGERPRINT | {"checkpoints": {"a.pt": "123", "b.pt": "456"}}, "")
    [line] = str(caught.value).split("They differ in:\n")[1].splitlines()
    assert line.startswith("  checkpoints.b.pt: ")
    assert line.endswith(" there, 456 here")


def test_many_differences_are_cut_and_counted(run):
    run.open({"data": list(range(100))}, "")
    with pytest.raises(UserError) as caught:
        run.open({"data": list(range(1, 101))}, "")
    lines = str(caught.value).split("They differ in:\n")[1].splitlines()
    assert len(lines) == runs.MAX_DIFFERENCES + 1
    assert lines[-1] == f"  and {100 - runs.MAX_DIFFERENCES} more"


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, run):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds files, but no fingerprint\.json.*another run_dir"):
        run.open(FINGERPRINT, "")
    assert files_below(tmp_path / "run") == {"thesis.tex"}


def test_an_empty_folder_is_new(tmp_path, run):
    (tmp_path / "run").mkdir()
    assert run.open(FINGERPRINT, "") == "new"


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"Cannot write.*file/run"):
        RunDirectory(str(tmp_path / "file" / "run")).open(FINGERPRINT, "")


def test_a_claim_that_was_cut_short_can_be_made_again(tmp_path, run, monkeypatch):
    whole = runs.write_whole
    written = []

    def once(*args):
        if written:
            raise OSError("the machine went down")
        written.append(args)
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_whole", once)
        with pytest.raises(UserError, match="went down"):
            run.open(FINGERPRINT, "job: 1\n")
    assert run.open(FINGERPRINT, "job: 1\n") in ("new", "unfinished")
    assert {"job.yaml", "fingerprint.json"} <= files_below(tmp_path / "run")


# Outputs


def test_what_is_committed_is_read_back(address):
    run = RunDirectory(address)
    table = scored(0)
    run.commit("experts", "set", "s", "chunk", table)
    assert run.read("experts", "set", "s", "chunk").equals(table)
    assert run.read("experts", "set", "s", "chunk", ["sample_id"]).column_names == ["sample_id"]
    assert run.chunks("experts", "set", "s") == ["chunk"]
    assert run.chunks("predictions", "set", "s") == []
    assert run.chunks("experts", "set", "t") == []
    assert run.chunks("experts", "other", "s") == []
    assert run.count("experts", "set", "s", "chunk") == 3
    assert run.count("rejects", "set", "s", "chunk") == 0


def test_chunks_are_listed_and_read_in_the_order_of_their_names(address):
    run = RunDirectory(address)
    for start in (9, 0, 3, 6):
        run.commit("experts", "set", "s", f"shard-{start:09d}", scored(start))
    run.commit("experts", "set", "t", "other-000000000", scored(100))
    assert run.chunks("experts", "set", "s") == [f"shard-{start:09d}" for start in (0, 3, 6, 9)]
    read = run.read_shard("experts", "set", "s")
    ids = [i for table in read for i in table["sample_id"].to_pylist()]
    assert ids == [f"s.tar/{i}" for i in range(12)]
    [column] = {tuple(t.column_names) for t in run.read_shard("experts", "set", "s", ["label"])}
    assert column == ("label",)


def test_a_run_directory_may_have_any_name(tmp_path):
    run = RunDirectory(str(tmp_path / "lr=[1e-5] *best*" / "run"))
    run.open(FINGERPRINT, "")
    run.commit("experts", "set", "s", "chunk", scored(0))
    assert run.chunks("experts", "set", "s") == ["chunk"]
    run.write_parts(("experts", "dataset=set"), tables.EXPERTS, [scored(0)])
    assert [table.num_rows for table in run.read_parts("experts", "dataset=set")] == [3]


def test_marks_say_which_shards_are_complete(address):
    run = RunDirectory(address)
    assert run.marks("experts", "set") == set()
    run.mark("experts", "set", "s", {"chunks": {"a": [3, 1]}})
    assert run.marks("experts", "set") == {"s"}
    assert run.marks("predictions", "set") == set()
    assert run.read_mark("experts", "set", "s") == {"chunks": {"a": [3, 1]}}


def test_parts_hold_all_rows_and_are_described_truly(address, monkeypatch):
    monkeypatch.setattr(runs, "PART_BYTES", 1500)
    monkeypatch.setattr(runs, "ROW_GROUP", 5)
    run = RunDirectory(address)
    folder = ("experts", "dataset=set")
    given = [scored(start) for start in range(0, 30, 3)]
    parts = run.write_parts(folder, tables.EXPERTS, given)
    assert len(parts) > 1
    assert sum(part["rows"] for part in parts) == 30
    for part in parts:
        described = run.describe(part["path"])
        assert described == {key: part[key] for key in ("path", "bytes", "sha256")}
    read = pa.concat_tables(run.read_parts(*folder))
    assert read.equals(pa.concat_tables(given))
    assert run.write_parts(folder, tables.EXPERTS, given) == parts


def test_a_table_without_rows_is_a_part_with_its_columns(address):
    run = RunDirectory(address)
    [part] = run.write_parts(("rejects",), tables.REJECTS, [])
    assert part["rows"] == 0
    assert list(run.read_parts("rejects", columns=["reason"])) == []


def test_a_run_is_cleared_and_nothing_else(tmp_path, run):
    run.open(FINGERPRINT, "")
    run.commit("experts", "set", "s", "chunk", scored(0))
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run.clear()
    assert files_below(tmp_path / "run") == {"notes.txt"}
    with pytest.raises(UserError, match="nothing in it was deleted"):
        run.clear()


def test_committing_twice_writes_the_same_bytes(tmp_path, run):
    path = tmp_path / "run" / "work" / "experts" / "set" / "s" / "chunk.parquet"
    run.commit("experts", "set", "s", "chunk", scored(0))
    before = path.read_bytes()
    run.commit("experts", "set", "s", "chunk", scored(0))
    assert path.read_bytes() == before
    assert files_below(tmp_path / "run") == {"work/experts/set/s/chunk.parquet"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_commit_that_fails_midway_leaves_nothing(tmp_path, run, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(UserError, match="no space"):
            run.commit("experts", "set", "s", "chunk", scored(0))
    assert files_below(tmp_path / "run") == set()
    assert run.chunks("experts", "set", "s") == []


def test_a_commit_that_fails_midway_leaves_what_was_there(run, monkeypatch):
    run.commit("experts", "set", "s", "chunk", scored(0))

    def fail(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match="no space"):
            run.commit("experts", "set", "s", "chunk", scored(50))
    assert run.read("experts", "set", "s", "chunk").equals(scored(0))


def test_nobody_sees_a_part_of_a_file(tmp_path, run, monkeypatch):
    listed = []
    replace = os.replace

    def look(source, target):
        listed.append(run.chunks("experts", "set", "s"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    run.commit("experts", "set", "s", "chunk", scored(0))
    assert listed == [[]]  # written in full by then, and not among the chunks
    assert run.chunks("experts", "set", "s") == ["chunk"]


def test_json_comes_back_as_it_was(address):
    run = RunDirectory(address)
    value = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    run.write_json("report.json", value)
    assert run.read_json("report.json") == value


def test_a_run_directory_survives_the_way_to_a_worker(run):
    run.commit("experts", "set", "s", "chunk", scored(0))
    assert pickle.loads(pickle.dumps(run)).chunks("experts", "set", "s") == ["chunk"]  # noqa: S301
