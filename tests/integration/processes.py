"""Runs in processes of their own, which may die; and what is left of them."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pandas as pd
import psutil

KILLED = -signal.SIGKILL
# Kills itself at the given call of a function of ours.
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

    def run(self, script: str, *arguments: object, seconds: float = 300) -> tuple[int, str]:
        process = self.start(script, *arguments)
        output, _ = process.communicate(timeout=seconds)
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


def job_file(
    small, folder: Path, datasets: list[dict], run_dir: object = None, *, engine: str = "local",
    **sections,
) -> Path:  # fmt: skip
    """A job of small chunks in `folder`, which is its run directory's parent too."""
    compute = {"engine": engine, "batch_size": 8, "chunk_size": 16}
    job = {"compute": compute, "max_reject_fraction": 0.1} | sections
    path = folder / "job.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    small.job_file(path, run_dir or folder / "run", datasets, **job)
    return path


def job_at(small, folder: Path, root: str, run_dir: str, **sections) -> Path:
    """A job whose data and models lie under `root`, as the fixture `uploaded` has them."""
    names = ("tars", "folder", "parquet")
    models = [f"{root}/models/{Path(path).name}" for path in small.checkpoints[:2]]
    there = {
        "model": {"architecture": f"{root}/models/{Path(small.config).name}"},
        "experts": [{"name": Path(path).stem, "checkpoint": path} for path in models],
        "max_reject_fraction": 0.05,
    }
    datasets = [{"name": name, "path": f"{root}/data/{name}"} for name in names]
    return job_file(small, folder, datasets, run_dir, **there | sections)


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
