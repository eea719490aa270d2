"""The ledger of a run directory that grows; no Ray, no model."""

import os
import time

import pyarrow as pa
import pytest

from dawin_ray import batches as batches_module
from dawin_ray import tables
from dawin_ray.batches import Series, shards_of
from dawin_ray.datasets import DatasetConfig, Source, list_files
from dawin_ray.manifest import input_of, sealed
from dawin_ray.runs import MANIFEST, MIXTURE, RunDirectory


@pytest.fixture
def data(tmp_path):
    """Two tars and a folder of four images, of which nothing but names and sizes matters."""
    for name in ("a", "b"):
        path = tmp_path / "data" / "tars" / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"t" * 10)
    for i in range(4):
        path = tmp_path / "data" / "folder" / "x" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"i" * (i + 1))
    return tmp_path / "data"


@pytest.fixture
def series(tmp_path) -> Series:
    return Series(str(tmp_path / "run"))


def sources(data) -> dict[str, Source]:
    found = {}
    for name in ("tars", "folder"):
        config = DatasetConfig(name=name, path=str(data / name))
        labels = {"x": 0} if name == "folder" else None
        found[name] = Source(config=config, listing=list_files(config), labels=labels)
    return found


def unscored(series, data) -> dict[str, set[str]]:
    found = series.unscored(sources(data))
    return {d: {file for shard in of_set for file in shard.files} for d, of_set in found.items()}


def ids_of(shard) -> list[str]:
    return list(shard.files) if shard.format == "folder" else [f"{shard.name}/{i}" for i in (0, 1)]


def finish(batch: RunDirectory) -> None:
    """Parts with two samples of a tar and one of an image, one reject of each data set."""
    outputs, inputs, rows, rejects = [], {}, {}, []
    for dataset, shards in shards_of(batch).items():
        kept = []
        inputs[dataset] = []
        for shard in shards:
            first, *rest = ids_of(shard)
            rejects.append({"dataset": dataset, "shard": shard.name, "sample_id": first})
            kept += rest
            inputs[dataset].append(input_of(shard, len(rest), 1))
        for kind, schema in (("experts", tables.EXPERTS), ("predictions", tables.PREDICTIONS)):
            table = tables.table(schema, {"sample_id": kept})
            outputs += batch.write_parts((kind, f"dataset={dataset}"), schema, [table])
        rows[dataset] = {"predictions": len(kept), "rejects": len(shards)}
    columns = {key: [row[key] for row in rejects] for key in rejects[0]}
    outputs += batch.write_parts(
        ("rejects",), tables.REJECTS, [tables.table(tables.REJECTS, columns)]
    )
    content = {"inputs": inputs, "rows": rows, "outputs": outputs}
    batch.write_json(MANIFEST, sealed(content))


def ids(batch: RunDirectory, *folder: str) -> list[str]:
    return [i for table in batch.read_parts(*folder) for i in table["sample_id"].to_pylist()]


def test_what_is_scored_is_scored_no_more(series, data):
    everything = {"tars": {"a.tar", "b.tar"}, "folder": {f"x/{i}.png" for i in range(4)}}
    assert unscored(series, data) == everything
    batch = series.begin(series.unscored(sources(data)))
    assert unscored(series, data) == everything  # it is not finished
    finish(batch)
    assert unscored(series, data) == {}
    (data / "tars" / "c.tar").write_bytes(b"new")
    (data / "folder" / "x" / "1.png").write_bytes(b"another size")
    stamp = (data / "folder" / "x" / "2.png").stat()
    (data / "folder" / "x" / "2.png").write_bytes(b"iii")  # of the same size
    os.utime(data / "folder" / "x" / "2.png", (stamp.st_atime, stamp.st_mtime + 1))
    (data / "folder" / "x" / "3.png").unlink()
    assert unscored(series, data) == {"tars": {"c.tar"}, "folder": {"x/1.png", "x/2.png"}}


def test_a_begun_batch_keeps_the_work_on_shards_that_are_the_same(series, data):
    batch = series.begin(series.unscored(sources(data)))
    empty = tables.table(tables.EXPERTS, {"sample_id": []})
    for dataset, shards in shards_of(batch).items():
        for shard in shards:
            batch.commit("experts", dataset, shard.key, "chunk", empty)
            batch.mark("experts", dataset, shard.key, {})
    batch.write_parts(("experts", "dataset=tars"), tables.EXPERTS, [empty])
    batch.write_json(MIXTURE, {})
    (data / "tars" / "b.tar").write_bytes(b"changed")
    (data / "tars" / "c.tar").write_bytes(b"new")
    again = series.begin(series.unscored(sources(data)))
    assert again.address == batch.address
    assert not again.exists(MIXTURE)  # of rows that there were
    keys = {shard.name: shard.key for shard in shards_of(again)["tars"]}
    assert keys.keys() == {"a.tar", "b.tar", "c.tar"}
    assert again.marks("experts", "tars") == {keys["a.tar"]}
    assert [bool(again.chunks("experts", "tars", k)) for k in keys.values()] == [True, False, False]
    assert again.marks("experts", "folder") == {"images-000000000"}
    assert list(again.read_parts("experts", "dataset=tars")) == []
    series.abandon()
    assert series.begun() is None
    assert not os.path.exists(batch.address)


def test_the_names_of_batches_are_in_their_order_whatever_the_clock_says(series, data, monkeypatch):
    names, now = [], time.gmtime
    for i, clock in enumerate((1_800_000_000, 1_800_000_059, 1_700_000_000, 1_800_086_400)):
        with monkeypatch.context() as patch:
            patch.setattr(
                batches_module.time, "gmtime", lambda at=None, c=clock: now(c if at is None else at)
            )
            (data / "tars" / f"new-{i}.tar").write_bytes(b"new")
            (data / "tars" / "a.tar").write_bytes(b"changed" * i)
            batch = series.begin(series.unscored(sources(data)))
            finish(batch)
            names.append(batch.batch)
            series.settle()
            assert unscored(series, data) == {}
    assert names == ["2027-01-15T0800", "2027-01-15T0801", "2027-01-15T0802", "2027-01-16T0800"]
    assert [b.batch for b in series.batches()] == names
    assert "a.tar/1" in ids(series.batches()[-1], "predictions", "dataset=tars")


def test_rows_of_changed_files_are_taken_out_of_the_older_batch(series, data, monkeypatch):
    first = series.begin(series.unscored(sources(data)))
    finish(first)
    (data / "tars" / "b.tar").write_bytes(b"changed")
    (data / "folder" / "x" / "0.png").write_bytes(b"changed")
    (data / "folder" / "x" / "2.png").write_bytes(b"changed")
    second = series.begin(series.unscored(sources(data)))
    finish(second)
    before = {p: ids(second, *p) for p in (("rejects",), ("predictions", "dataset=folder"))}

    # killed before the ledger is written: the next time does it all again
    monkeypatch.setattr(batches_module, "_write_shards", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        series.settle()
    monkeypatch.undo()
    assert series.settle() == 3
    assert series.settle() == 0

    for kind in ("predictions", "experts"):
        assert ids(first, kind, "dataset=tars") == ["a.tar/1"]
        assert ids(first, kind, "dataset=folder") == ["x/1.png", "x/3.png"]
    assert ids(first, "rejects") == ["a.tar/0"]
    assert before == {p: ids(second, *p) for p in before}
    manifest = first.read_json(MANIFEST)
    assert manifest == sealed(manifest)
    assert manifest["rows"] == {
        "tars": {"predictions": 1, "rejects": 1}, "folder": {"predictions": 2, "rejects": 0}
    }  # fmt: skip
    assert [(e["shard"], e["rows"], e["rejects"]) for e in manifest["inputs"]["tars"]] == [
        ("a.tar", 1, 1)
    ]
    ((shard, entry),) = zip(shards_of(first)["folder"], manifest["inputs"]["folder"], strict=True)
    assert (entry["bytes"], entry["version"]) == (2 + 4, shard.version)
    described = {o["path"]: o["rows"] for o in manifest["outputs"]}
    for path, rows in described.items():
        where = first.output(path)[1]
        assert pa.parquet.ParquetFile(where).metadata.num_rows == rows
        assert f"batch={first.batch}" in path
    assert len(described) == 5
    assert unscored(series, data) == {}


def test_names_with_the_same_beginning_are_not_mixed_up(series, data):
    (data / "tars" / "a.tar.tar").write_bytes(b"x")
    (data / "tars" / "aXtar").write_bytes(b"no tar")
    first = series.begin(series.unscored(sources(data)))
    finish(first)
    (data / "tars" / "a.tar").write_bytes(b"changed")
    finish(series.begin(series.unscored(sources(data))))
    assert series.settle() == 1
    assert ids(first, "predictions", "dataset=tars") == ["a.tar.tar/1", "b.tar/1"]


def test_the_whole_has_the_seals_of_its_batches(series, data):
    batch = series.begin(series.unscored(sources(data)))
    finish(batch)
    series.finish("1.0")
    whole = series.run.read_json(MANIFEST)
    assert whole == sealed(whole)
    assert whole["batches"] == {batch.batch: batch.read_json(MANIFEST)["seal"]}


def test_a_batch_is_found_by_its_address(series, data):
    batch = series.begin(series.unscored(sources(data)))
    finish(batch)
    found = RunDirectory.at(batch.address + "/")
    assert (found.root, found.batch) == (batch.root, batch.batch)
    assert ids(found, "rejects") == ids(batch, "rejects")
    assert RunDirectory.at(series.address).batch is None
    assert time.strptime(batch.batch, batches_module.BATCH_NAME)
