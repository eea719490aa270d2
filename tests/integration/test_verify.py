"""`dawin-ray verify` passes a sound run and finds what was changed behind its back."""

import importlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.manifest import seal_of
from tests.conftest import CLASSES, make_images, write_tar

rescoring = importlib.import_module("dawin_ray.job.rescoring")
verify_module = importlib.import_module("dawin_ray.job.verify")


IMAGES = 40


@pytest.fixture(scope="module")
def sound(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    labels = [i % CLASSES for i in range(IMAGES)]
    write_tar(folder / "data" / "a.tar", [*make_images(IMAGES), b"broken"], [*labels, 0])
    datasets = [{"name": "set", "path": str(folder / "data")}]
    job = small.job_file(folder / "job.yaml", folder / "run", datasets)
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def run_dir(sound, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def verify(run_dir: Path, sample: float = 1.0):
    return CliRunner().invoke(app, ["verify", str(run_dir), "--sample", str(sample)])


def part(run_dir: Path, kind: str = "predictions") -> Path:
    return run_dir / kind / "dataset=set" / "part-00000.parquet"


def test_a_sound_run_passes(run_dir):
    result = verify(run_dir)
    assert result.exit_code == 0, result.output
    assert "is what its manifest says" in result.output


@pytest.mark.parametrize("kind", ["predictions", "experts"])
def test_a_flipped_byte_is_found(run_dir, kind):
    data = bytearray(part(run_dir, kind).read_bytes())
    data[len(data) // 2] ^= 1
    part(run_dir, kind).write_bytes(data)
    result = verify(run_dir)
    assert result.exit_code == 1
    assert f"{kind}/dataset=set/part-00000.parquet was changed" in result.output


def test_a_deleted_part_is_found(run_dir):
    part(run_dir).unlink()
    result = verify(run_dir, sample=0)
    assert result.exit_code == 1
    assert "predictions/dataset=set/part-00000.parquet is missing" in result.output


def test_a_part_too_many_is_found(run_dir):
    shutil.copy(part(run_dir), part(run_dir).with_name("part-00001.parquet"))
    result = verify(run_dir, sample=0)
    assert result.exit_code == 1
    assert "part-00001.parquet is not in the manifest" in result.output


def test_a_changed_manifest_is_found(run_dir):
    path = run_dir / "manifest.json"
    path.write_text(path.read_text().replace('"predictions": 40', '"predictions": 41'))
    result = verify(run_dir)
    assert result.exit_code == 1
    assert "manifest.json was changed" in result.output


def replace_predictions(run_dir: Path, table: pa.Table) -> None:
    """Write other predictions, with their hashes and the manifest's seal."""
    pq.write_table(table, part(run_dir))
    run, manifest = RunDirectory(str(run_dir)), json.loads((run_dir / "manifest.json").read_text())
    for output in manifest["outputs"]:
        if output["path"] == "predictions/dataset=set/part-00000.parquet":
            output |= asdict(run.describe(output["path"])) | {"rows": table.num_rows}
    manifest["seal"] = seal_of(manifest)
    (run_dir / "manifest.json").write_text(json.dumps(manifest))


def test_a_prediction_edited_by_hand_is_found_even_with_its_hashes(run_dir):
    table = pq.ParquetFile(part(run_dir)).read()
    values = table["prediction"].to_pylist()
    values[7] = (values[7] + 1) % CLASSES
    index = table.schema.get_field_index("prediction")
    edited = table.set_column(index, table.schema.field(index), pa.array(values, pa.int32()))
    replace_predictions(run_dir, edited)
    result = verify(run_dir)
    assert result.exit_code == 1
    assert "sample 'a.tar/0007' of data set 'set': prediction is" in result.output
    assert verify(run_dir, sample=0).exit_code == 0  # only scoring again can tell


def test_rows_are_found_in_whatever_order_they_are(run_dir):
    table = pq.ParquetFile(part(run_dir)).read()
    replace_predictions(run_dir, table.take(list(reversed(range(table.num_rows)))))
    result = verify(run_dir)
    assert result.exit_code == 0, result.output


def test_a_row_of_another_sample_is_no_row_of_this_one(run_dir):
    table = pq.ParquetFile(part(run_dir)).read()
    twice = table.take([*range(7), 6, *range(8, table.num_rows)])
    replace_predictions(run_dir, twice)
    result = verify(run_dir)
    assert result.exit_code == 1
    assert "sample 'a.tar/0007' of data set 'set' has no prediction" in result.output


def test_about_the_asked_share_is_drawn_each_shard_and_row_group_read_once(run_dir, monkeypatch):
    read, drawn = [], []
    whole = pq.ParquetFile.read_row_group

    def noted(self, group, **kwargs):
        if "prediction" in self.schema_arrow.names:
            read.append(group)
        return whole(self, group, **kwargs)

    def shards(decode, shard):
        drawn.append(len(shard.starts))
        return reading(decode, shard)

    reading = rescoring._read
    monkeypatch.setattr(rescoring, "_read", shards)
    assert verify(run_dir, sample=0.3).exit_code == 0
    assert drawn in ([1], [2])  # 13 of 41 samples: a chunk of 16, or that of 9 and another one
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    monkeypatch.setattr(verify_module, "faults_of_outputs", lambda *_: [])
    assert verify(run_dir).exit_code == 0
    assert drawn[1:] == [3]
    assert read == [0]


def test_changed_data_is_found(run_dir, sound):
    path = sound.parent / "data" / "a.tar"
    kept, stamp = path.read_bytes(), path.stat()
    try:
        write_tar(path, make_images(3), [0, 1, 2])
        result = verify(run_dir)
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert result.exit_code == 1
    assert "data: " in result.output


def test_an_unfinished_run_is_no_run_to_verify(run_dir):
    (run_dir / "manifest.json").unlink()
    result = verify(run_dir)
    assert result.exit_code == 2
    assert "Finish it with dawin-ray" in result.output


@pytest.mark.parametrize("name", ["report.html", "audit.json", "csv/scores.csv", "data.jsonl.gz"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_every_file_is_sealed(run_dir, name, how):
    (run_dir / name).unlink() if how == "missing" else (run_dir / name).write_text("better!")
    result = verify(run_dir, sample=0)
    assert result.exit_code == 1
    assert f"{name} {'was changed' if how == 'changed' else 'is missing'}" in result.output


@pytest.mark.parametrize("name", ["predictions/dataset=evil/p.parquet", "predictions/x.parquet"])
def test_rows_that_pandas_would_read_and_nothing_lists_are_found(run_dir, name):
    (run_dir / name).parent.mkdir(exist_ok=True)
    shutil.copy(part(run_dir), run_dir / name)
    result = verify(run_dir, sample=0)
    assert result.exit_code == 1
    assert f"{name} is not in the manifest" in result.output


def test_a_report_that_is_made_again_is_sealed_again(run_dir):
    (run_dir / "report.html").write_text("better!")
    (run_dir / "csv" / "scores.csv").unlink()
    for options in ([], ["--thumbnails", "2"], ["--incumbent", "expert_1"]):
        result = CliRunner().invoke(app, ["report", str(run_dir), *options])
        assert result.exit_code == 0, result.output
        assert verify(run_dir, sample=0).exit_code == 0
    assert not (run_dir / ".lock").exists()


def test_a_report_does_not_seal_what_it_has_not_made(run_dir):
    (run_dir / "report.json").write_text((run_dir / "report.json").read_text() + " ")
    CliRunner().invoke(app, ["report", str(run_dir)])
    assert "report.json was changed" in verify(run_dir, sample=0).output
    path = run_dir / "manifest.json"
    path.write_text(path.read_text().replace('"predictions": 40', '"predictions": 41'))
    result = CliRunner().invoke(app, ["report", str(run_dir)])
    assert result.exit_code == 2
    assert "its seal is not" in result.output


@pytest.mark.parametrize("text", ["[1, 2]", "7", "{", '{"seal": null}'])
@pytest.mark.parametrize("command", ["verify", "report", "run"])
def test_a_damaged_manifest_is_a_message(run_dir, sound, text, command):
    (run_dir / "manifest.json").write_text(text)
    target = [str(run_dir)]
    if command == "run":
        target = [str(sound.parent / "job.yaml"), f"run_dir={run_dir}"]
    result = CliRunner().invoke(app, [command, *target])
    assert result.exit_code in (1, 2)
    assert "manifest.json" in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_data_of_the_same_size_are_other_data(run_dir, sound):
    path = sound.parent / "data" / "a.tar"
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))
    try:
        result = verify(run_dir, sample=0)
        again = CliRunner().invoke(
            app, ["run", str(sound.parent / "job.yaml"), f"run_dir={run_dir}"]
        )
    finally:
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert result.exit_code == 1
    assert "data: 'a.tar' of data set 'set' has changed" in result.output
    assert again.exit_code == 2
    assert "is finished, and its data are not what they were" in again.output
    assert "data: 'a.tar' of data set 'set' has changed" in again.output
    result = CliRunner().invoke(app, ["run", str(sound.parent / "job.yaml"), f"run_dir={run_dir}"])
    assert "complete already" in result.output


def test_a_figure_that_needs_a_label_equals_itself_without_one():
    assert rescoring._same(float("nan"), float("nan"), 1e-4)
    assert not rescoring._same(float("nan"), 1.0, 1e-4)
