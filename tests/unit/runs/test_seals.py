"""What `verify` looks at without scoring anything: hashes, counts, numbers, and files too many."""

import os

import numpy as np
import pytest

from dawin_ray import tables
from dawin_ray.job.rescoring import _is_no_number
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import MANIFEST
from dawin_ray.runs.manifest import Manifest, Rows, reseal
from dawin_ray.runs.seals import faults_of_manifest, faults_of_outputs, unlisted_files
from dawin_ray.storage.folders import files_below
from dawin_ray.tables import OF_DATASETS

COLUMNS = {
    "sample_id": ["a", "b"], "label": [1, None], "confidence": [0.5, 0.5], "nll": [0.1, np.nan],
    "brier": [0.1, np.nan], "coefficient": np.full((2, 2), 0.5, np.float32),
    "fit_nll": np.array([[0.1], [np.nan]], np.float32),
    "fit_brier": np.array([[0.1], [np.nan]], np.float32),
}  # fmt: skip


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def write(run: RunDirectory, **columns) -> Manifest:
    """A finished run of two predictions, and its manifest."""
    table = tables.table(tables.PREDICTIONS, COLUMNS | columns)
    scored = tables.table(tables.EXPERTS, {"sample_id": ["a", "b"], "label": [1, None]})
    outputs = [run.parts.write(("predictions", "dataset=set"), tables.PREDICTIONS, [table])]
    outputs.append(run.parts.write(("experts", "dataset=set"), tables.EXPERTS, [scored]))
    outputs.append(run.parts.write(("rejects",), tables.REJECTS, []))
    run.write_json("audit.json", {"a": 1})
    run.write_text("csv/scores.csv", "a")
    outputs += [run.describe(name) for name in ("audit.json", "csv/scores.csv")]
    Manifest(
        code="1", libraries={}, precision="float32", fingerprint={}, inputs={},
        rows={"set": Rows(predictions=2, rejects=0)}, outputs=tuple(outputs),
    ).write(run)  # fmt: skip
    return Manifest.read(run)


def faults(run: RunDirectory, manifest: Manifest):
    return faults_of_outputs(run, manifest.outputs, manifest.rows)


def listed(manifest) -> set[str]:
    return {MANIFEST, *(output.path for output in manifest.outputs)}


def test_a_sound_run_has_no_faults(run):
    manifest = write(run)
    assert list(faults_of_manifest(run.read_json(MANIFEST))) == list(faults(run, manifest)) == []
    assert list(unlisted_files(run.address, listed(manifest))) == []


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"confidence": [0.5, np.nan]}, "confidence of 1 rows"),
        ({"confidence": [np.inf, np.nan]}, "confidence of 2 rows"),
        ({"nll": [np.nan, np.nan]}, "nll of 1 rows"),  # the first has a label
        ({"brier": [-np.inf, np.nan]}, "brier of 1 rows"),
        ({"fit_brier": np.full((2, 1), np.nan, np.float32)}, "fit_brier of 1 rows"),
        ({"coefficient": np.array([[0.5, np.nan], [0.5, 0.5]], np.float32)}, "coefficient of 1"),
    ],
)
def test_figures_that_are_no_numbers_are_found(run, columns, told):
    found = list(faults(run, write(run, **columns)))
    assert len(found) == 1
    assert told in found[0]
    assert "is no number" in found[0]


def test_a_row_knows_where_no_number_is_right():
    row = {"label": None, "nll": float("nan"), "confidence": float("nan"), "coefficient": [1, 0]}
    assert [name for name in row if _is_no_number(name, row)] == ["confidence"]
    row |= {"label": 3}
    assert [name for name in row if _is_no_number(name, row)] == ["nll", "confidence"]


@pytest.mark.parametrize("kind", OF_DATASETS)
def test_each_table_has_a_row_for_each_sample(run, kind):
    manifest = write(run)
    outputs = tuple(o for o in manifest.outputs if not o.path.startswith(f"{kind}/"))
    [fault] = faults_of_outputs(run, outputs, manifest.rows)
    assert fault.startswith(f"{kind} of 'set': 0 rows; the manifest says")


@pytest.mark.parametrize("name", ["audit.json", "csv/scores.csv"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_every_listed_file_is_looked_at(run, name, how):
    manifest = write(run)
    if how == "changed":
        run.write_text(name, "better!")
    else:
        run.remove(name)
    [fault] = faults(run, manifest)
    assert fault.startswith(f"{name} {'was changed' if how == 'changed' else 'is missing'}")


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt", "predictions/x.parquet", "predictions/dataset=evil/part-00000.parquet",
        "predictions/dataset=set/a/b/c.parquet", "experts/.hidden", "rejects/batch=x/y",
        "batches/x/manifest.json", "csv/more.csv", "predictions/dataset=set/part-00000.parquet.bak",
    ],
)  # fmt: skip
def test_a_file_that_nothing_lists_is_found(run, name):
    manifest = write(run)
    run.write_text(name, "x")
    assert list(unlisted_files(run.address, listed(manifest))) == [f"{name} is not in the manifest"]


def test_locks_temporary_files_work_and_crops_are_no_strangers(run):
    manifest = write(run)
    for name in (".lock", f"predictions/.part-00000.parquet.{'0' * 32}.tmp", "work/a", "cache/b/c"):
        run.write_text(name, "x")
    assert list(unlisted_files(run.address, listed(manifest))) == []


def test_links_are_followed_and_end(tmp_path, run):
    """pandas follows them too; a disk that is linked in is looked at, and a circle ends."""
    manifest = write(run)
    os.rename(tmp_path / "run" / "predictions", tmp_path / "other_disk")
    os.symlink(tmp_path / "other_disk", tmp_path / "run" / "predictions")
    assert list(unlisted_files(run.address, listed(manifest))) == []
    (tmp_path / "other_disk" / "x.parquet").write_text("x")
    os.symlink(tmp_path / "run", tmp_path / "run" / "experts" / "loop")
    assert "predictions/x.parquet is not in the manifest" in list(
        unlisted_files(run.address, listed(manifest))
    )
    fs, root = run.path()
    assert "predictions" in files_below(fs, root)  # not followed where files are deleted


def test_of_a_batch_whose_manifest_is_lost_nothing_more_is_said(run):
    manifest = write(run)
    for name in ("batches/x/report.html", "predictions/dataset=set/batch=x/p", "batches/y/a"):
        run.write_text(name, "x")
    found = list(unlisted_files(run.address, listed(manifest), ["x"]))
    assert found == ["batches/y/a is not in the manifest"]


def test_many_strangers_are_counted(run):
    manifest = write(run)
    for i in range(50):
        run.write_text(f"predictions/{i:02d}", "x")
    faults = list(unlisted_files(run.address, listed(manifest)))
    assert len(faults) == 21
    assert faults[-1] == "and 30 more files are not in the manifest"


def test_a_file_that_was_made_again_is_sealed_again(run):
    write(run)
    run.write_json("audit.json", {"a": 2})
    reseal(run, ["audit.json"])
    manifest = Manifest.read(run)
    assert list(faults_of_manifest(run.read_json(MANIFEST))) == list(faults(run, manifest)) == []
