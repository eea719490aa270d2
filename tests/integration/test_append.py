"""A run directory that grows day by day: what is new is scored, once, and what changed again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from tests.conftest import CLASSES, make_images, write_tar
from tests.integration.processes import DRIVER, KILLED, job_file, rows

IMAGES = 8  # of a shard
KEYS = ["dataset", "sample_id"]


@pytest.fixture(scope="module")
def fit(small, tmp_path_factory) -> dict:
    """A saved fit, for jobs to apply."""
    root = tmp_path_factory.mktemp("fitted")
    write_tar(root / "tars" / "a.tar", make_images(40, seed=99), None)
    job = job_file(small, root, [{"name": "tars", "path": str(root / "tars")}])
    result = CliRunner().invoke(app, ["run", str(job)])
    assert result.exit_code == 0, result.output
    return {"from": str(root / "run"), "dataset": "tars"}


class Feed:
    """Two data sets that grow; every image is another one."""

    def __init__(self, root: Path):
        self.root, self.seed, self.files = root, 0, 0
        for label in range(CLASSES):  # or their labels would not be settled
            (root / "folder" / f"class_{label}").mkdir(parents=True)

    @property
    def datasets(self) -> list[dict]:
        formats = {"tars": "webdataset", "folder": "folder"}
        return [{"name": n, "path": str(self.root / n), "format": f} for n, f in formats.items()]

    def images(self, count: int) -> list[bytes]:
        self.seed += 1
        return make_images(count, seed=self.seed)

    def tar(self, name: str, broken: bool = False) -> None:
        extra = [b"no image"] if broken else []
        write_tar(self.root / "tars" / f"{name}.tar", [*self.images(IMAGES), *extra], None)

    def folder(self, count: int) -> None:
        """New images, spread over the classes: they come between those that are there."""
        for i, image in enumerate(self.images(count)):
            path = self.root / "folder" / f"class_{i % CLASSES}" / f"{1000 - self.files}.png"
            path.write_bytes(image)
            self.files += 1

    def change(self, path: str) -> None:
        """An image of the folder becomes another one."""
        (self.root / "folder" / path).write_bytes(self.images(1)[0])


def append(job: Path) -> str:
    result = CliRunner().invoke(app, ["run", str(job)])
    assert result.exit_code == 0, result.output
    return result.output


def verify(run_dir: Path):
    return CliRunner().invoke(app, ["verify", str(run_dir), "--sample", "1"])


def assert_verified(run_dir: Path) -> None:
    result = verify(run_dir)
    assert result.exit_code == 0, result.output


def batches(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "batches").iterdir())


def streamed(batch: Path) -> int:
    """Samples that the last run of a batch sent through its actors."""
    return json.loads((batch / "report.json").read_text())["passes"]["at_once"]["rows"]


def assert_as_of_one_run(
    small, run_dir: Path, feed: Feed, fit: dict, folder: Path, engine: str = "local"
) -> None:
    """All rows once, and as one run over the data as they are now has them."""
    job = job_file(small, folder, feed.datasets, engine=engine, fit=fit, max_reject_fraction=0.2)
    append(job)
    for kind in ("predictions", "experts", "rejects"):
        ours, theirs = rows(run_dir, kind), rows(folder / "run", kind)
        assert not ours.duplicated(KEYS).any()
        ours = ours.drop(columns="batch")[theirs.columns]
        if kind == "rejects":
            assert len(ours)
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
            continue
        tars = theirs.dataset == "tars"
        assert tars.any()
        assert not tars.all()
        pd.testing.assert_frame_equal(ours[tars], theirs[tars], check_exact=True)
        # images of a folder share their forwards with others than in one run: float32 rounding
        pd.testing.assert_frame_equal(
            ours[~tars], theirs[~tars], check_exact=False, rtol=0, atol=1e-5
        )


def test_what_is_new_is_scored_and_what_changed_is_replaced(small, fit, tmp_path):
    feed, run_dir = Feed(tmp_path / "data"), tmp_path / "run"
    job = job_file(small, tmp_path, feed.datasets, mode="append", fit=fit, max_reject_fraction=0.2)
    feed.tar("a", broken=True)
    feed.tar("b")
    feed.folder(10)
    append(job)
    feed.tar("c")
    feed.folder(5)
    plan = CliRunner().invoke(app, ["plan", str(job)]).output
    assert f"{IMAGES + 5} forwards of merged models" in plan
    append(job)
    plan = CliRunner().invoke(app, ["plan", str(job)]).output
    assert "All files are scored" in plan
    first, second = batches(run_dir)
    assert (streamed(first), streamed(second)) == (2 * IMAGES + 10, IMAGES + 5)
    written = {p: p.stat().st_mtime_ns for p in run_dir.rglob("*.parquet")}
    output = append(job)
    assert "all files are scored" in output
    assert batches(run_dir) == [first, second]
    assert written == {p: p.stat().st_mtime_ns for p in run_dir.rglob("*.parquet")}

    feed.tar("a", broken=True)  # of the first batch, with its reject
    feed.change("class_1/999.png")
    output = append(job)
    assert "rows of 2 changed files were taken out of older batches" in " ".join(output.split())
    third = batches(run_dir)[-1]
    assert streamed(third) == IMAGES + 1
    assert_as_of_one_run(small, run_dir, feed, fit, tmp_path / "once")
    assert_verified(run_dir)
    for path in (feed.root / "tars").iterdir():
        path.unlink()  # all of them: their rows stay
    assert "all files are scored" in append(job)
    assert rows(run_dir).sample_id.str.startswith("b.tar/").sum() == IMAGES
    assert_verified(run_dir)
    folder = f"dataset=tars/batch={batches(run_dir)[0].name}"
    part = run_dir / "predictions" / folder / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    result = verify(run_dir)
    assert result.exit_code == 1
    assert f"batch {batches(run_dir)[0].name}: predictions/dataset=tars/batch=" in result.output

    other = tmp_path / "other"
    result = CliRunner().invoke(app, ["run", str(job), f"run_dir={other}", "fit=per_dataset"])
    assert result.exit_code == 2
    assert "mode: append scores each batch as it comes" in " ".join(result.output.split())
    result = CliRunner().invoke(app, ["run", str(job), "mixture.clusters=3"])
    assert result.exit_code == 2
    assert "job.mixture.clusters: 2 there, 3 here" in result.output


def test_what_somebody_else_does_to_batches_is_told_and_loses_no_row(small, fit, tmp_path):
    feed, run_dir = Feed(tmp_path / "data"), tmp_path / "run"
    job = job_file(small, tmp_path, feed.datasets, mode="append", fit=fit)
    for name in ("a", "b"):
        feed.tar(name)
        feed.folder(2)
        append(job)
    first, _ = batches(run_dir)
    before = rows(run_dir)
    copy = first.with_name(f"{first.name}.bak")
    shutil.copytree(first, copy)
    output = " ".join(append(job).split())
    assert f"{copy.name} in batches/ is none of its batches" in output
    assert "all files are scored" in output
    result = verify(run_dir)
    assert result.exit_code == 1
    assert f"batch {copy.name} is not in the manifest.json" in result.output
    shutil.rmtree(copy)
    (feed.root / "tars" / "a.tar").unlink()  # a feed that is cleaned up
    kept = (first / "manifest.json").read_text()
    (first / "manifest.json").unlink()
    result = CliRunner().invoke(app, ["run", str(job)])
    assert result.exit_code == 2
    assert f"{first.name} of" in result.output
    assert "has lost its manifest.json" in result.output
    result = CliRunner().invoke(app, ["plan", str(job)])
    assert "has lost its manifest.json" in result.output
    result = verify(run_dir)
    assert result.exit_code == 1
    assert f"batch {first.name}: manifest.json is missing" in result.output
    pd.testing.assert_frame_equal(rows(run_dir), before)
    (first / "manifest.json").write_text(kept)
    for target in (run_dir, first):
        (first / "report.html").write_text("better!")
        result = CliRunner().invoke(app, ["report", str(target)])
        assert result.exit_code == 0, result.output
        assert_verified(run_dir)
    result = CliRunner().invoke(app, ["run", str(job), "--restart"])
    assert result.exit_code == 0, result.output
    assert len(batches(run_dir)) == 1
    assert_verified(run_dir)


@pytest.mark.slow
def test_ten_days_with_all_that_happens_in_them(small, fit, local_ray, tries, tmp_path):
    feed, run_dir = Feed(tmp_path / "data"), tmp_path / "run"
    job = job_file(
        small,
        tmp_path,
        feed.datasets,
        engine="ray",
        mode="append",
        fit=fit,
        max_reject_fraction=0.2,
    )
    scored = expected = 0

    def killed(target: str, call: int) -> None:
        code, output = tries.run(DRIVER, target, call, job)
        assert code == KILLED, output

    for day in range(1, 11):
        feed.tar(f"{day:02d}-a", broken=day == 2)
        feed.tar(f"{day:02d}-b")
        if day != 8:
            feed.folder(4)
        expected += 2 * IMAGES + (4 if day != 8 else 0)
        if day == 3:  # missed
            continue
        if day == 7:
            feed.tar("02-a", broken=True)
            feed.change("class_2/998.png")
            expected += IMAGES + 1
        if day == 6:  # killed midway: three chunks are done, and none of them is done again
            killed("dawin_ray.runs.ledger:PassLedger.add", 3)
            work = {p: p.stat().st_mtime_ns for p in run_dir.rglob("work/predictions/**/*.parquet")}
            scored += sum(len(pd.read_parquet(p)) for p in work)
            assert work
        if day == 9:  # killed between the batch's manifest and the removal of old rows
            feed.tar("05-b")
            expected += IMAGES
            killed("dawin_ray.runs.parts:Parts.rewrite", 2)
            scored += streamed(batches(run_dir)[-1])
            before = batches(run_dir)
            assert "all files are scored" in append(job)
            assert batches(run_dir) == before
            continue
        append(job)
        scored += streamed(batches(run_dir)[-1])
        if day == 5:  # twice by accident
            before = batches(run_dir)
            append(job)
            assert batches(run_dir) == before
    assert len(batches(run_dir)) == 9
    assert scored == expected
    assert_verified(run_dir)
    assert_as_of_one_run(small, run_dir, feed, fit, tmp_path / "once", "ray")
    print(f"{len(rows(run_dir))} rows in {len(batches(run_dir))} batches, {scored} samples scored")
