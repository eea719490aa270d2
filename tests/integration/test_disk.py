"""A full disk stops a run with a message, and room lets it go on."""

import shutil
import subprocess

import pytest

from tests.integration.processes import DRIVER, assert_equal_runs, job_file

pytestmark = pytest.mark.slow

SIZE = 4 << 20  # bytes of the disk
LEFT = 24 << 10  # bytes that a pass finds: room for a few chunks, not for all
# Fills the disk when the given pass begins.
FILLING = """
import sys
from pathlib import Path
name, left, job = sys.argv[1], int(sys.argv[2]), sys.argv[3]
from dawin_ray.job.running import Passes
original = Passes.__call__
def filling(passes, stage):
    if stage.name != name:
        return original(passes, stage)
    filler = Path(job).parent / "disk" / "filler"
    with open(filler, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            stream.truncate(stream.tell() - left)
    return original(passes, stage)
Passes.__call__ = filling
from dawin_ray.cli import main
sys.argv = ["dawin-ray", "run", job]
main()
"""


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, with nothing else on it."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("stage", ["experts", "merged"])
def test_the_disk_is_full(small, datasets, tries, undisturbed, tmp_path, disk, stage):
    job = job_file(small, tmp_path, datasets, run_dir=disk / "run", engine="ray")
    code, output = tries.run(FILLING, stage, LEFT, job)
    assert code == 2, output
    assert "no space is left" in output
    assert "Make room and run the job again" in output
    assert "Traceback" not in output
    kind = {"experts": "experts", "merged": "predictions"}[stage]
    kept = len(list((disk / "run" / "work" / kind).rglob("*.parquet")))
    (disk / "filler").unlink()
    code, output = tries.run(DRIVER, "", 0, job)
    assert code == 0, output
    assert_equal_runs(undisturbed, disk / "run")
    print(f"{stage}: disk full after {kept} chunks; resumed to the same rows")
