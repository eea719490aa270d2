"""Run directories that do not exist yet."""

import fsspec
import pytest

from dawin_ray.runs.directory import RunDirectory


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
