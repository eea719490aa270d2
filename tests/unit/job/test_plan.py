"""A plan tells what headers alone show, a line each and not too many."""

import importlib
import io
import re
import resource
import tarfile

from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.runs.broken import SHOWN_BROKEN
from tests.conftest import make_images, write_tar


def plan_of(small, folder, data, *overrides) -> str:
    job = small.job_file(folder / "job.yaml", folder / "run", [{"name": "set", "path": str(data)}])
    result = CliRunner().invoke(app, ["plan", job, *overrides])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_plan_tells_what_tars_hold_that_cannot_be_used(small, tmp_path):
    images = make_images(3)
    path = write_tar(tmp_path / "data" / "s.tar", images, [0, 1, 2])
    with tarfile.open(path, "a") as tar:
        for name in ("a.jpg", "a.png", "b.jpg", "b.webp", "c.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(images[0])
            tar.addfile(info, io.BytesIO(images[0]))
    output = plan_of(small, tmp_path, path.parent)
    assert "rejects set: 1 x # images under one key, jpg, png" in output
    assert "rejects set: 1 x # images under one key, jpg, webp" in output
    assert "rejects set: 1 x no image member" in output
    assert "broken" not in output
    assert "reading with 1 readers: each shard by one reader" in output


def test_a_plan_names_a_few_of_many_broken_tars(small, tmp_path):
    for i in range(SHOWN_BROKEN + 7):
        write_tar(tmp_path / "data" / f"{i:02d}.tar", make_images(1), [0])
        (tmp_path / "data" / f"{i:02d}.tar").write_bytes(b"no tar at all" * 100)
    output = plan_of(small, tmp_path, tmp_path / "data")
    assert output.count("broken set: ") == SHOWN_BROKEN + 1
    assert "broken set: 00.tar: the shard breaks after byte 0: a header is damaged" in output
    assert "broken set: and 7 more shards" in output


def test_a_plan_of_the_exact_mode_tells_its_price_and_its_memory(small, tmp_path):
    path = write_tar(tmp_path / "data" / "s.tar", make_images(3), [0, 1, 2])
    assert "GB of weights" not in plan_of(small, tmp_path, path.parent)
    output = plan_of(small, tmp_path, path.parent, "mixture.clusters=exact")
    assert "3 exact forwards, each at the price of about 2" in output
    parameters = int(re.search(r"experts of ([\d,]+) parameters", output)[1].replace(",", ""))
    # two experts and two parts of them, in float32
    assert f"up to {4 * 4 * parameters / 1e9:.2g} GB of weights" in output
    assert "2 experts and P = 2 parts" in output


def test_a_plan_says_what_is_read_in_parts(small, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("dawin_ray.data.splitting.MIN_SPLIT_BYTES", 10_000)
    write_tar(tmp_path / "data" / "large.tar", make_images(60), [0] * 60)
    write_tar(tmp_path / "data" / "small.tar", make_images(1), [0])
    output = plan_of(small, tmp_path, tmp_path / "data", "compute.engine=ray")
    assert "reading with 4 readers: 1 shards of more than 0 MB in parts" in output


def test_a_plan_says_how_many_files_it_listed_and_what_memory_it_took(small, tmp_path):
    """As the system counts it, of which the kernel's own counters lag by some pages."""
    for i in range(3):
        write_tar(tmp_path / "data" / f"{i}.tar", make_images(1), [0])
    output = plan_of(small, tmp_path, tmp_path / "data")
    told = re.search(r"planning 3 files listed; at most ([\d,]+) MB of memory", output)
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert 0.9 * now <= int(told[1].replace(",", "")) <= now + 10


def test_a_plan_of_many_files_says_why_all_are_listed_first(small, tmp_path, monkeypatch):
    path = write_tar(tmp_path / "data" / "0.tar", make_images(1), [0])
    why = "all before the first is read: labels, shards and what can be resumed depend on all"
    assert why not in plan_of(small, tmp_path, path.parent)
    monkeypatch.setattr(importlib.import_module("dawin_ray.job.prepare"), "MANY", 0)
    assert f"1 files ({why})" in plan_of(small, tmp_path, path.parent)


def test_a_plan_says_that_auto_waits_for_no_gpu(small, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = write_tar(tmp_path / "data" / "s.tar", make_images(3), [0, 1, 2])
    ray, there = "compute.engine=ray", "compute.address=10.0.0.1:6379"
    waits = "waited for with device: cuda alone"
    assert "on this machine" in (output := plan_of(small, tmp_path, path.parent, ray))
    assert waits not in output
    output = plan_of(small, tmp_path, path.parent, ray, there, "compute.wait_for=15m")
    assert "on the cluster at 10.0.0.1:6379, up to 15m for nodes still to come" in output
    assert waits in output
    assert waits not in plan_of(small, tmp_path, path.parent, ray, there, "compute.device=cuda")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:1")  # as ray job submit sets it
    assert "on the cluster at 10.0.0.2:1" in plan_of(small, tmp_path, path.parent, ray)
