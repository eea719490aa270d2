"""A broken shard ends a run with its name and what is lost, or is named wherever a person reads."""

import gzip
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.names import MADE
from tests.conftest import CLASSES, make_images, write_tar

COUNT = 20
LABELS = [i % CLASSES for i in range(COUNT)]


@pytest.fixture(scope="module")
def job(small, tmp_path_factory) -> str:
    """A job over a whole shard in two gzip members, one that was cut and one that was damaged."""
    root = tmp_path_factory.mktemp("broken")
    images = make_images(COUNT)
    parts = [write_tar(root / f"{i}.tar", images[i : i + 10], LABELS[:10], i) for i in (0, 10)]
    whole = write_tar(root / "whole.tar", images, LABELS).read_bytes()
    data = root / "data"
    data.mkdir()
    (data / "a.tar.gz").write_bytes(b"".join(gzip.compress(p.read_bytes()) for p in parts))
    (data / "cut.tar").write_bytes(whole[: len(whole) // 2 // 512 * 512])
    damaged = bytearray(whole)
    at = whole.index(b"0005.png")
    damaged[at : at + 512] = b"\xa5" * 512
    (data / "damaged.tar").write_bytes(damaged)
    datasets = [{"name": "set", "path": str(data)}]
    return small.job_file(root / "job.yaml", root / "run", datasets, max_broken_shards=0)


@pytest.fixture(scope="module")
def refused(job) -> str:
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 2, result.output
    return result.output


@pytest.fixture(scope="module")
def passed(job, refused) -> str:
    result = CliRunner().invoke(app, ["run", job, "max_broken_shards=2"])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_tells_of_broken_tars(job):
    output = CliRunner().invoke(app, ["plan", job]).output.replace("\n", " ")
    assert "broken    set: cut.tar: the shard breaks after byte" in output
    assert "broken    set: damaged.tar: the shard breaks after byte" in output
    assert "unknown until read" in output


def test_broken_shards_end_a_run_behind_its_pass_with_their_names(refused):
    assert "2 shards are broken, which is more than max_broken_shards (0)" in refused
    assert "set: cut.tar: an unknown number of samples lost: the shard breaks after" in refused
    assert "set: damaged.tar: about " in refused
    assert "samples (estimated) lost" in refused
    assert "the work done is kept" in refused
    assert "Traceback" not in refused


def test_the_work_is_kept_where_more_may_be_broken(passed):
    assert "is unfinished; its finished chunks are kept" in passed
    assert "pass 1, experts: 3 of 3 shards are there already" in passed


def test_broken_shards_are_in_the_last_lines_the_report_and_the_first_screen(job, passed):
    last = passed.splitlines()[-6:]
    assert sum(line.startswith("broken       set: ") for line in last) == 2
    run = job.replace("job.yaml", "run")
    with open(f"{run}/report.json") as stream:
        [row] = json.load(stream)["datasets"]
    assert [(b["shard"], b["lost"] is None, b["estimated"]) for b in row["broken"]] == [
        ("cut.tar", True, True), ("damaged.tar", False, True),
    ]  # fmt: skip
    with open(f"{run}/report.html") as stream:
        page = stream.read()
    body = page[page.index("<body>") :]
    assert "cut.tar: an unknown number of samples lost" in body[: body.index("<table>")]


def test_rejects_say_what_stands_for_a_shard(job, passed):
    rejects = pd.read_parquet(job.replace("job.yaml", "run") + "/rejects")
    assert rejects["broken"].tolist() == [True, True]
    assert all(f".tar/{MADE}" in name for name in rejects["sample_id"])
    assert 10 <= rejects["lost"].max() <= 20


def test_all_streams_of_a_compressed_shard_are_scored_with_their_labels(job, passed):
    rows = pd.read_parquet(job.replace("job.yaml", "run") + "/predictions/dataset=set")
    rows = rows[rows["sample_id"].str.startswith("a.tar.gz/")]
    assert len(rows) == COUNT
    assert rows["label"].tolist() == LABELS[:10] * 2
    everything = pd.read_parquet(job.replace("job.yaml", "run") + "/predictions/dataset=set")
    assert everything["label"].notna().all()
