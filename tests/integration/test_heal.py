"""What a run has done and somebody spoils is made again by the same command; or told."""

import importlib
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.runs.manifest import manifest_of
from tests.conftest import make_images, write_tar
from tests.integration.processes import assert_equal_runs, job_file

scoring = importlib.import_module("dawin_ray.job.score")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("data")
    write_tar(root / "a.tar", [*make_images(40), b"broken"], None)
    return [{"name": "set", "path": str(root)}]


@pytest.fixture(scope="module")
def sound(small, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    invoke(job_file(small, folder, data))
    return folder / "run"


def invoke(job: Path, *options: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["run", str(job), *options])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def chunks(run_dir: Path, kind: str) -> list[Path]:
    return sorted((run_dir / "work" / kind).rglob("*.parquet"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("before", "kind", "spoil"),
    [
        ("predictions_pass", "experts", Path.unlink),
        ("predictions_parts", "predictions", cut),
        ("experts_parts", "experts", Path.unlink),  # as where a node wrote it on a disk of its own
        pytest.param("predictions_pass", "experts", cut, marks=pytest.mark.slow),
        pytest.param("predictions_parts", "predictions", Path.unlink, marks=pytest.mark.slow),
        pytest.param("experts_parts", "experts", cut, marks=pytest.mark.slow),
        pytest.param("experts_parts", "rejects", cut, marks=pytest.mark.slow),
        pytest.param("experts_parts", "rejects", Path.unlink, marks=pytest.mark.slow),
    ],
)
def test_a_chunk_that_is_lost_is_made_again(
    small, data, sound, tmp_path, monkeypatch, spoil, before, kind
):
    """Behind a pass, before it is read: by the parts of the pass, or by the second pass."""
    job, whole, spoilt = job_file(small, tmp_path, data), getattr(scoring, before), []

    def spoiling(*args):
        if not spoilt:
            spoilt.append(chunks(tmp_path / "run", kind)[-1])
            spoil(spoilt[0])
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, before, spoiling)
        output = invoke(job, code=2)
    assert spoilt[0].name in output.replace(" ", "")
    assert "Run the same command again" in output
    if before == "experts_parts":
        assert not (tmp_path / "run" / "mixture.json").exists()  # nothing is fitted to less
    kept = {p: p.stat().st_mtime_ns for k in ("experts", "predictions")
            for p in chunks(tmp_path / "run", k)}  # fmt: skip
    seen = []
    monkeypatch.setattr(
        scoring, "manifest_of",
        lambda *args: seen.append({p: p.stat().st_mtime_ns for p in kept if p.exists()})
        or manifest_of(*args),
    )  # fmt: skip
    invoke(job)
    assert_equal_runs(sound, tmp_path / "run")
    again = {p.stem for p in kept if seen[0].get(p) != kept[p]}
    assert again <= {spoilt[0].stem}  # all other work is kept
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "run")]).exit_code == 0


@pytest.mark.parametrize("before", ["fit_datasets", "predictions_parts"])
def test_a_part_that_is_spoilt_is_made_again(small, data, sound, tmp_path, monkeypatch, before):
    """Before the fit reads it, and before the second pass is held against it."""
    job, whole = job_file(small, tmp_path, data), getattr(scoring, before)
    path = tmp_path / "run" / "experts" / "dataset=set" / "part-00000.parquet"

    def spoiling(*args):
        content = path.read_bytes()
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, before, spoiling)
        output = invoke(job, code=2)
    assert "part-00000.parquet' of this run is damaged" in output
    assert "Run the same command again" in output
    stamps = {p: p.stat().st_mtime_ns for p in chunks(tmp_path / "run", "experts")}
    seen = []
    monkeypatch.setattr(
        scoring, "manifest_of",
        lambda *args: seen.append({p: p.stat().st_mtime_ns for p in stamps})
        or manifest_of(*args),
    )  # fmt: skip
    invoke(job)
    assert seen == [stamps]  # no sample was scored again
    assert_equal_runs(sound, tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        "mark",
        pytest.param("mixture.json", marks=pytest.mark.slow),
        pytest.param("fingerprint.json", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_file_between_the_passes(small, data, sound, tmp_path, monkeypatch, name):
    """A mark is made again; what cannot be is told by its name."""
    job, run_dir = job_file(small, tmp_path, data), tmp_path / "run"

    def dies(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "predictions_parts", dies)
        invoke(job, code=130)
    path = next((run_dir / "work/marks").rglob("*.json")) if name == "mark" else run_dir / name
    path.write_text(path.read_text()[:-4])
    if name == "mark":
        invoke(job)
        assert_equal_runs(sound, run_dir)
        return
    assert f"{name}' is damaged" in invoke(job, code=2)
    invoke(job, "--restart")
    assert_equal_runs(sound, run_dir)


def test_data_that_change_under_an_unfinished_run_are_told(small, tmp_path, monkeypatch):
    path = write_tar(tmp_path / "data" / "a.tar", make_images(20), None)
    job, run_dir = (
        job_file(small, tmp_path, [{"name": "set", "path": str(path.parent)}]),
        tmp_path / "run",
    )

    def dies(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "fit_datasets", dies)
        invoke(job, code=130)
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))
    write_tar(path.parent / "b.tar", make_images(2), None)
    output = invoke(job, code=2)
    assert "is unfinished, and its data are not what they were" in output
    assert "'a.tar' of data set 'set' has changed" in output
    assert "'b.tar' of data set 'set' is new" in output
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (path.parent / "b.tar").unlink()
    invoke(job)
    assert json.loads((run_dir / "manifest.json").read_text())["rows"]["set"]["predictions"] == 20


def test_a_restart_leaves_no_lock_and_what_is_not_its_own(small, data, sound, tmp_path):
    job, run_dir = job_file(small, tmp_path, data), tmp_path / "run"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("x")
    invoke(job, "--restart", f"run_dir={tmp_path / 'theirs'}", code=2)
    assert [p.name for p in (tmp_path / "theirs").iterdir()] == ["thesis.tex"]
    invoke(job)
    (run_dir / "notes.txt").write_text("mine")
    (run_dir / "predictions" / "dataset=set" / "mine.parquet").write_text("mine")
    assert "predictions/dataset=set/mine.parquet" in invoke(job, "--restart", code=2)
    (run_dir / "predictions" / "dataset=set" / "mine.parquet").unlink()
    invoke(job, "--restart")
    assert (run_dir / "notes.txt").read_text() == "mine"
    assert not (run_dir / ".lock").exists()
    assert_equal_runs(sound, run_dir)
