"""The run directory: what it claims, what it refuses, and what it deletes."""

import pytest

from dawin_ray import tables
from dawin_ray.errors import UserError
from dawin_ray.runs import directory, folder
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import MANIFEST
from tests.unit.runs.made import FINGERPRINT, files_below, fill, scored

# Claiming a directory


def test_a_run_is_new_then_unfinished_then_finished(address):
    run = RunDirectory(address)
    assert run.open(FINGERPRINT, "job: 1\n") == "new"
    assert run.open(FINGERPRINT, "job: 1\n") == "unfinished"
    run.work.commit("experts", "set", "s", "chunk", scored(0))
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


def test_a_run_of_other_devices_is_told_how_to_go_on(run):
    """Its precision auto went by them: float32 where no GPU was there yet, say."""
    run.open(FINGERPRINT | {"precision": "float32"}, "")
    with pytest.raises(UserError, match=r"compute\.precision=float32 goes on with that run"):
        run.open(FINGERPRINT | {"precision": "bfloat16"}, "")
    with pytest.raises(UserError) as caught:
        run.open(FINGERPRINT | {"precision": "bfloat16", "code": "0.2"}, "")
    assert "goes on with that" not in str(caught.value)


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
    assert len(lines) == directory.MAX_DIFFERENCES + 1
    assert lines[-1] == f"  and {100 - directory.MAX_DIFFERENCES} more"


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
    whole = folder.write_whole
    written = []

    def once(*args):
        if written:
            raise OSError("the machine went down")
        written.append(args)
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_whole", once)
        with pytest.raises(UserError, match="went down"):
            run.open(FINGERPRINT, "job: 1\n")
    assert run.open(FINGERPRINT, "job: 1\n") in ("new", "unfinished")
    assert {"job.yaml", "fingerprint.json"} <= files_below(tmp_path / "run")


def test_a_run_directory_may_have_any_name(tmp_path):
    run = RunDirectory(str(tmp_path / "lr=[1e-5] *best*" / "run"))
    run.open(FINGERPRINT, "")
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    assert run.work.chunks("experts", "set", "s") == ["chunk"]
    run.parts.write(("experts", "dataset=set"), tables.EXPERTS, [scored(0)])
    assert [table.num_rows for table in run.parts.read("experts", "dataset=set")] == [3]


def test_a_run_is_cleared_and_nothing_else(tmp_path, address):
    run = RunDirectory(address)
    fill(run)
    run.write_text("notes.txt", "mine")
    run.write_text("work/notes.txt", "mine")
    run.clear()
    fs, root = run.path()
    assert {path.rsplit("/run/", 1)[1] for path in fs.find(root)} == {"notes.txt", "work/notes.txt"}
    with pytest.raises(UserError, match="nothing in it was deleted"):
        run.clear()


@pytest.mark.parametrize(
    "name",
    [
        "predictions/x.parquet", "predictions/dataset=set/copy.parquet", "csv/mine.csv",
        "predictions/dataset=evil/deep/part-00000.parquet", "rejects/.hidden", "experts/a/b/c",
        "batches/2026-01-01T0000/manifest.json", "predictions/dataset=a/batch=x/part-00000.parquet",
    ],
)  # fmt: skip
def test_a_restart_among_files_of_somebody_else_is_refused(tmp_path, address, name):
    run = RunDirectory(address)
    fill(run)
    run.write_text(name, "mine")
    fs, root = run.path()
    before = fs.find(root)
    with pytest.raises(UserError, match=r"files that no run wrote.*Nothing was deleted") as caught:
        run.clear()
    assert name in str(caught.value)
    assert fs.find(root) == before


def test_a_restart_does_not_follow_links(tmp_path, run):
    fill(run)
    (tmp_path / "elsewhere" / "experts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "part-00000.parquet").write_text("mine")
    (tmp_path / "run" / "predictions" / "dataset=b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"predictions/dataset=b\. Nothing was deleted"):
        run.clear()
    (tmp_path / "run" / "predictions" / "dataset=b").unlink()
    (tmp_path / "run" / "work" / "link").symlink_to(tmp_path / "elsewhere")
    run.clear()
    assert (tmp_path / "elsewhere" / "part-00000.parquet").exists()


# The data of a run

FILES = {"set": {"a.tar": (10, "v1"), "b.tar": (20, "v1")}, "other": {"x/1.png": (5, "")}}


def test_the_listing_of_the_data_comes_back(address):
    run = RunDirectory(address)
    assert run.files() is None
    files = FILES | {"odd": {"caf\u00e9 \udcff\n.png": (1, "[etag]")}}
    run.open(FINGERPRINT, "", files)
    assert run.files() == files
    assert run.open(FINGERPRINT, "", files) == "unfinished"


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"set": {"a.tar": (10, "v2"), "b.tar": (20, "v1")}},
         "'a.tar' of data set 'set' has changed: 10 bytes of version v1 then, 10 bytes of version"),
        ({"set": {"a.tar": (11, "v1"), "b.tar": (20, "v1")}}, "11 bytes of version v1 now"),
        ({"set": {"a.tar": (10, "v1")}}, "'b.tar' of data set 'set' is gone"),
        ({"other": {"x/1.png": (5, ""), "x/2": (5, "")}}, "'x/2' of data set 'other' is new"),
        ({"other": {}}, "'x/1.png' of data set 'other' is gone"),
    ],
)  # fmt: skip
def test_other_data_are_refused_with_the_files_that_differ(address, finished, change, told):
    run = RunDirectory(address)
    run.open(FINGERPRINT, "", FILES)
    if finished:
        run.write_json(MANIFEST, {})
    for claim in (lambda: run.state(FINGERPRINT, FILES | change),
                  lambda: run.open(FINGERPRINT, "", FILES | change)):  # fmt: skip
        with pytest.raises(UserError) as caught:
            claim()
        message = str(caught.value)
        assert told in message
        assert f"is {'' if finished else 'un'}finished" in message
        assert "--restart" in message
    assert run.files() == FILES


def test_a_listing_that_is_not_there_yet_is_made(run):
    """An unfinished run of an older version."""
    run.open(FINGERPRINT, "")
    assert run.open(FINGERPRINT, "", FILES) == "unfinished"
    assert run.files() == FILES


def test_many_files_that_differ_are_cut_and_counted(run):
    many = {f"{i:03d}.png": (i, "v") for i in range(30)}
    run.open(FINGERPRINT, "", {"set": many})
    now = {name: (size, "w") for name, (size, _) in list(many.items())[:25]} | {"new": (1, "v")}
    with pytest.raises(UserError) as caught:
        run.open(FINGERPRINT, "", {"set": now})
    assert str(caught.value).count("  data: ") == 11
    assert "31 files differ (25 changed, 1 new, 5 gone)" in str(caught.value)


def test_a_job_that_differs_is_told_before_its_data(run):
    run.open(FINGERPRINT, "", FILES)
    with pytest.raises(UserError, match=r"job\.seed: 1 there, 2 here"):
        run.open(FINGERPRINT | {"job": {"seed": 2, "fit": "joint"}}, "", {})


# Files that are damaged


@pytest.mark.parametrize("text", ["[1]", "3", "", '{"a": ', "null", "\x00"])
@pytest.mark.parametrize("name", ["fingerprint.json", MANIFEST])
def test_a_damaged_json_file_is_told_by_its_name(address, name, text):
    run = RunDirectory(address)
    run.open(FINGERPRINT, "")
    run.write_json(MANIFEST, {})
    run.write_text(name, text)
    with pytest.raises(UserError, match=rf"{name}' is damaged.*--restart"):
        run.open(FINGERPRINT, "")


def test_a_damaged_listing_is_told(run):
    run.open(FINGERPRINT, "", FILES)
    run.write_text("data.jsonl.gz", "x")
    with pytest.raises(UserError, match=r"data\.jsonl\.gz' is damaged"):
        run.open(FINGERPRINT, "", FILES)


def test_json_comes_back_as_it_was(address):
    run = RunDirectory(address)
    value = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    run.write_json("report.json", value)
    assert run.read_json("report.json") == value
