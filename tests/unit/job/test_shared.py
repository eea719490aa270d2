"""A run directory that nodes do not share is refused before anything runs."""

import os
from pathlib import Path

import fsspec
import pytest

from dawin_ray.engine import Resources
from dawin_ray.errors import UserError
from dawin_ray.job import shared
from dawin_ray.job.shared import check_shared
from dawin_ray.storage import write_whole


def resources(nodes: int) -> Resources:
    return Resources(
        device="cpu", actors=1, cpus=1, gpus=0, threads=1, readers=1, nodes=nodes, joined=True
    )


class _Nodes:
    """Stands for an engine: each node is a folder that it works in."""

    def __init__(self, **folders: Path):
        self.folders, self.asked = folders, 0

    def each_node(self, task, on):
        self.asked += 1
        here, found = os.getcwd(), {}
        for node, folder in self.folders.items():
            os.chdir(folder)
            try:
                found[node] = task()
            finally:
                os.chdir(here)
        return found


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The driver's and another node's working directory, each with a run directory of its own."""
    for name in ("near", "far"):
        (tmp_path / name / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "near")
    return tmp_path / "near", tmp_path / "far"


def test_a_relative_run_dir_is_not_shared_and_nodes_are_named(folders):
    near, far = folders
    with pytest.raises(UserError) as told:
        check_shared("run", _Nodes(head=near, worker=far), resources(2))
    words = str(told.value)
    assert words.startswith("The run_dir 'run' is not shared by 1 of 2 nodes, and nothing was run")
    assert "worker: it does not see" in words
    assert "head" not in words
    assert "s3://bucket/run" in words
    for folder in folders:
        assert not list((folder / "run").iterdir())


@pytest.mark.parametrize("address", ["absolute", "memory"])
def test_a_shared_one_passes_and_is_left_as_it_was(folders, address):
    near, far = folders
    run_dir = str(near / "run") if address == "absolute" else f"memory://{near}/run"
    check_shared(run_dir, _Nodes(head=near, worker=far), resources(2))
    assert not list((near / "run").iterdir())
    if address == "memory":
        assert not fsspec.filesystem("memory").find(f"{near}/run")


def test_a_node_that_reads_and_writes_elsewhere_is_told(folders, monkeypatch):
    """As over a mount that hides another one."""
    near, far = folders

    def elsewhere(fs, path, data):
        if os.getcwd() == str(far):
            path = path.replace(str(near), str(far))
        write_whole(fs, path, data)

    monkeypatch.setattr(shared, "write_whole", elsewhere)
    with pytest.raises(UserError, match=r"worker: what it writes is not seen"):
        check_shared(str(near / "run"), _Nodes(head=near, worker=far), resources(2))


def test_a_node_that_may_not_write_says_why(folders, monkeypatch):
    near, far = folders

    def refused(fs, path, data):
        if os.getcwd() == str(far):
            raise UserError("Cannot write 's3://b/run': NoCredentialsError: none here.")
        write_whole(fs, path, data)

    monkeypatch.setattr(shared, "write_whole", refused)
    with pytest.raises(UserError, match=r"worker: Cannot write.*NoCredentialsError: none here"):
        check_shared(str(near / "run"), _Nodes(head=near, worker=far), resources(2))
    assert not list((near / "run").iterdir())


def test_one_node_is_not_asked(tmp_path):
    nodes = _Nodes()
    check_shared(str(tmp_path), nodes, resources(1))
    assert not nodes.asked
