"""Shards that several readers share give the rows of one reader, killed half-way or not."""

import importlib

import pyarrow.parquet as pq
import pytest

from dawin_ray import load_job, prepare, score
from dawin_ray.runs import PassLedger
from tests.conftest import CLASSES, make_images, write_parquet, write_tar
from tests.integration.processes import assert_equal_runs, rows

scoring = importlib.import_module("dawin_ray.job.score")
running = importlib.import_module("dawin_ray.job.running")

COUNT = 100
SETS = ("tars", "parquet")  # of seven chunks each


class KilledError(BaseException):
    """Ends a run where it is."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("data")
    images, labels = make_images(COUNT), [i % CLASSES for i in range(COUNT)]
    images[40] = b"no image"
    write_tar(root / "tars" / "a.tar", images, labels)
    path = write_parquet(root / "parquet" / "a.parquet", images, labels)
    pq.write_table(pq.read_table(path), path, row_group_size=30)
    return [{"name": name, "path": str(root / name)} for name in SETS]


@pytest.fixture(scope="module")
def whole(small, datasets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(small, folder, datasets)
    return folder / "run"


@pytest.fixture
def slices(monkeypatch) -> list:
    """Every shard counts as a large one; the slices of each pass."""
    found, tasks_of = [], running.tasks_of

    def noting(*args):
        tasks = tasks_of(*args)
        found.append([(p.shard.dataset, p.index, p.count) for task in tasks for p in task])
        return tasks

    monkeypatch.setattr(scoring, "large_above", lambda shards, readers: 0)
    monkeypatch.setattr(running, "tasks_of", noting)
    return found


def run(small, folder, datasets, **compute) -> None:
    sections = {"compute": compute} if compute else {}
    score(
        prepare(load_job(small.job_file(folder / "job.yaml", folder / "run", datasets, **sections)))
    )


def assert_split(slices) -> None:
    for of_pass in slices:
        counts = {dataset: count for dataset, _, count in of_pass}
        assert counts.keys() == set(SETS)
        assert min(counts.values()) > 1
        assert len(of_pass) == sum(counts.values())


def test_rows_of_shards_that_are_split_are_those_of_whole_ones(
    small, datasets, whole, slices, tmp_path
):
    run(small, tmp_path, datasets)
    assert len(slices) == 2
    assert_split(slices)
    assert_equal_runs(whole, tmp_path / "run")
    assert len(rows(tmp_path / "run", "rejects")) == len(SETS)


def test_a_run_that_is_killed_between_slices_goes_on_to_the_same(
    small, datasets, whole, slices, tmp_path, monkeypatch
):
    add, calls = PassLedger.add, []

    def killing(self, summary):
        calls.append(summary)
        if len(calls) in (9, 40):  # in pass 1, and in pass 2 of the run that took it up
            raise KilledError
        add(self, summary)

    monkeypatch.setattr(PassLedger, "add", killing)
    for _ in range(2):
        with pytest.raises(KilledError):
            run(small, tmp_path, datasets)
    assert (tmp_path / "run" / "work").exists()
    run(small, tmp_path, datasets)
    assert_split(slices[:1])
    assert_equal_runs(whole, tmp_path / "run")


def test_rows_of_split_shards_on_ray_are_those_of_this_process(
    small, datasets, whole, slices, local_ray, tmp_path
):
    """To rounding, as threads sum in another order."""
    run(small, tmp_path, datasets, engine="ray")
    assert_split(slices)
    for kind in ("predictions", "experts", "rejects"):
        ours, theirs = rows(tmp_path / "run", kind), rows(whole, kind)
        assert ours[["dataset", "sample_id"]].equals(theirs[["dataset", "sample_id"]])
        if kind == "predictions":
            assert ours.label.equals(theirs.label)
            assert ours.confidence.to_numpy() == pytest.approx(theirs.confidence, abs=1e-4)
