"""Killed at any moment, a run goes on to the same outputs: nothing lost, nothing twice.

Every case runs `dawin-ray run` in a process of its own, which SIGKILLs itself at a call of one of
its own functions, or whose actor is taken away. Drivers are killed one after the other
in one run directory, so that what one leaves the next one has to take up.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import CLASSES, make_images, write_folder, write_tar

pytestmark = pytest.mark.slow

IMAGES = 60
KILLED = -signal.SIGKILL
# Where the driver dies: the function and the number of its call. There are eight chunks in three
# shards. A point of the compaction comes after the others of its try: nothing is left to stream.
POINTS = [
    ("first chunk of pass 1", "dawin_ray.ledger:PassLedger.add", 1),
    ("middle of pass 1", "dawin_ray.ledger:PassLedger.add", 4),
    ("a shard's mark of pass 1", "dawin_ray.runs:RunDirectory.mark", 1),
    ("fit", "dawin_ray.scoring:fit", 1),
    ("mixture.json", "dawin_ray.runs:RunDirectory.write_json", 1),
    ("first chunk of pass 2", "dawin_ray.ledger:PassLedger.add", 1),
    ("a shard's mark of pass 2", "dawin_ray.runs:RunDirectory.mark", 2),
    ("compaction", "dawin_ray.runs:RunDirectory.write_parts", 3),
    ("manifest", "dawin_ray.scoring:manifest_of", 1),
    ("removal of work", "dawin_ray.runs:RunDirectory.remove_work", 1),
]
DRIVER = """
import importlib, os, signal, sys
target, call, job = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if target:
    module, _, path = target.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), []
    def killing(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, killing)
from dawin_ray.cli import main
sys.argv = ["dawin-ray", "run", job]
main()
"""


class Tries:
    """Runs drivers and ends whatever they leave behind, by a mark in their environment."""

    def __init__(self):
        self.mark = f"DAWIN_RAY_TEST={uuid.uuid4().hex}"

    def start(self, script: str, *arguments: object) -> subprocess.Popen:
        name, _, value = self.mark.partition("=")
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=os.environ | {name: value}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def run(self, script: str, *arguments: object) -> tuple[int, str]:
        process = self.start(script, *arguments)
        output, _ = process.communicate(timeout=300)
        self.end_orphans()
        return process.returncode, output

    def ours(self) -> list[psutil.Process]:
        name, _, value = self.mark.partition("=")
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(name) == value:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end_orphans(self) -> None:
        for process in self.ours():
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(self.ours(), timeout=20)


@pytest.fixture(scope="module")
def tries():
    made = Tries()
    yield made
    made.end_orphans()


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("data")
    images, labels = make_images(IMAGES), [i % CLASSES for i in range(IMAGES)]
    write_tar(root / "tars" / "a.tar", [*images[:30], b"no image"], None)
    write_tar(root / "tars" / "b.tar", images[30:50], None)
    write_folder(root / "folder", images, sorted(labels))
    return [{"name": name, "path": str(root / name)} for name in ("tars", "folder")]


def job_file(small, folder: Path, datasets: list[dict], **sections) -> Path:
    compute = {"batch_size": 8, "chunk_size": 16}
    job = {"compute": compute, "max_reject_fraction": 0.1} | sections
    path = folder / "job.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    small.job_file(path, folder / "run", datasets, **job)
    return path


@pytest.fixture(scope="module")
def undisturbed(small, datasets, tries, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = tries.run(DRIVER, "", 0, job_file(small, folder, datasets))
    assert code == 0, output
    return folder / "run"


def rows(run_dir: Path, kind: str = "predictions") -> pd.DataFrame:
    """All rows of a run, by data set and sample."""
    table = pd.read_parquet(run_dir / kind)
    return table.sort_values(["dataset", "sample_id"]).reset_index(drop=True)


def assert_equal_runs(one: Path, other: Path) -> None:
    """The same ids, each once, and every value the same to the last bit."""
    for kind in ("predictions", "rejects", "experts"):
        a, b = rows(one, kind), rows(other, kind)
        assert not a.duplicated(["dataset", "sample_id"]).any()
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def chunk_files(run_dir: Path) -> dict[str, int]:
    return {
        str(path.relative_to(run_dir)): path.stat().st_mtime_ns
        for path in (run_dir / "work").rglob("*.parquet")
    }


def test_the_driver_is_killed_in_every_phase(small, datasets, tries, undisturbed, tmp_path):
    job, run_dir = job_file(small, tmp_path, datasets), tmp_path / "run"
    kept: dict[str, int] = {}
    for where, target, call in POINTS:
        code, output = tries.run(DRIVER, target, call, job)
        assert code == KILLED, f"{where}: {output}"
        now = chunk_files(run_dir)
        if now:  # the last two points come when chunks are being removed
            again = {path for path, written in kept.items() if now.get(path) != written}
            assert not again, f"{where}: work was done again: {again}"
            print(f"{where}: {len(kept)} chunks kept, {len(now) - len(kept)} new")
            kept = now
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    assert "complete already" in output  # the last one died behind its manifest
    assert not (run_dir / "work").exists()
    assert_equal_runs(undisturbed, run_dir)
    print(f"{len(POINTS)} kills, {len(rows(run_dir))} predictions, {len(rows(run_dir, 'rejects'))}"
          " rejects, equal to the undisturbed run")  # fmt: skip


@pytest.mark.parametrize("kind", ["experts", "predictions"])
def test_an_actor_is_killed(small, datasets, tries, undisturbed, tmp_path, kind):
    job, run_dir = job_file(small, tmp_path, datasets), tmp_path / "run"
    process = tries.start(DRIVER, "", 0, job)
    name = {"experts": "ScoreExpertsActor", "predictions": "PredictActor"}[kind]
    killed, deadline = 0, time.monotonic() + 120
    while not killed and process.poll() is None and time.monotonic() < deadline:
        if list((run_dir / "work" / kind).rglob("*.parquet")):
            for candidate in tries.ours():
                try:
                    if any(name in part for part in candidate.cmdline()):
                        candidate.kill()
                        killed += 1
                except psutil.Error:
                    continue
        time.sleep(0.01)
    output, _ = process.communicate(timeout=300)
    tries.end_orphans()
    assert process.returncode == 0, output
    assert killed, "the pass was over before its actor could be killed"
    assert_equal_runs(undisturbed, run_dir)


def test_a_second_run_on_one_directory_is_refused(small, datasets, tries, tmp_path):
    job = job_file(small, tmp_path, datasets)
    first = tries.start(DRIVER, "", 0, job)
    lock, deadline = tmp_path / "run" / ".lock", time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    second = tries.start(DRIVER, "", 0, job)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2, output
    assert "Another run writes to the run_dir" in output
    assert str(first.pid) in output
    output, _ = first.communicate(timeout=300)
    tries.end_orphans()
    assert first.returncode == 0, output


def test_a_restart_begins_anew(small, datasets, tries, tmp_path):
    job, run_dir = job_file(small, tmp_path, datasets[:1]), tmp_path / "run"
    code, output = tries.run(DRIVER, "dawin_ray.scoring:fit", 1, job)
    assert code == KILLED, output
    text = job.read_text().replace("temperature: 1.0", "temperature: 1.5")
    job.write_text(text)
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 2
    assert "job.experts.1.temperature: 1.0 there, 1.5 here" in output
    assert "--restart" in output
    restarting = DRIVER.replace('"run", job]', '"run", "--restart", job]')
    code, output = tries.run(restarting, "", 0, job)
    assert code == 0, output
    assert json.loads((run_dir / "manifest.json").read_text())["rows"]["tars"]["rejects"] == 1
