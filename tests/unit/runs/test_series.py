"""The ledger of a run directory that grows; no Ray, no model."""

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

from dawin_ray import tables
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import Source
from dawin_ray.errors import UserError
from dawin_ray.runs import series as batches_module
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import RunFolder
from dawin_ray.runs.layout import AUDIT, BATCHES, LEDGER, MANIFEST, MIXTURE, SHARDS
from dawin_ray.runs.manifest import Input, Manifest, Rows, SeriesManifest, reseal, seal_of
from dawin_ray.runs.series import Series, shards_of
from dawin_ray.runs.work import Mark


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
            inputs[dataset].append(Input.of(shard, len(rest), 1))
        for kind, schema in (("experts", tables.EXPERTS), ("predictions", tables.PREDICTIONS)):
            table = tables.table(schema, {"sample_id": kept})
            outputs.append(batch.parts.write((kind, f"dataset={dataset}"), schema, [table]))
        rows[dataset] = Rows(predictions=len(kept), rejects=len(shards))
    columns = {key: [row[key] for row in rejects] for key in rejects[0]}
    rejects = tables.table(tables.REJECTS, columns)
    outputs.append(batch.parts.write(("rejects",), tables.REJECTS, [rejects]))
    Manifest(
        code="1", libraries={}, precision="float32", fingerprint={}, outputs=tuple(outputs),
        inputs={dataset: tuple(entries) for dataset, entries in inputs.items()}, rows=rows,
    ).write(batch)  # fmt: skip


def ids(batch: RunDirectory, *folder: str) -> list[str]:
    return [i for table in batch.parts.read(*folder) for i in table["sample_id"].to_pylist()]


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
            batch.work.commit("experts", dataset, shard.key, "chunk", empty)
            batch.work.mark("experts", dataset, shard.key, Mark(chunks={}))
    batch.parts.write(("experts", "dataset=tars"), tables.EXPERTS, [empty])
    batch.write_json(MIXTURE, {})
    (data / "tars" / "b.tar").write_bytes(b"changed")
    (data / "tars" / "c.tar").write_bytes(b"new")
    again = series.begin(series.unscored(sources(data)))
    assert again.address == batch.address
    assert not again.exists(MIXTURE)  # of rows that there were
    keys = {shard.name: shard.key for shard in shards_of(again)["tars"]}
    assert keys.keys() == {"a.tar", "b.tar", "c.tar"}
    assert again.work.marks("experts", "tars") == {keys["a.tar"]}
    assert [bool(again.work.chunks("experts", "tars", k)) for k in keys.values()] == [
        True,
        False,
        False,
    ]
    assert again.work.marks("experts", "folder") == {"images-000000000"}
    assert list(again.parts.read("experts", "dataset=tars")) == []
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
    manifest = Manifest.read(first)
    assert manifest.rows == {
        "tars": Rows(predictions=1, rejects=1), "folder": Rows(predictions=2, rejects=0)
    }  # fmt: skip
    assert [(e.shard, e.rows, e.rejects) for e in manifest.inputs["tars"]] == [("a.tar", 1, 1)]
    ((shard, entry),) = zip(shards_of(first)["folder"], manifest.inputs["folder"], strict=True)
    assert (entry.bytes, entry.version) == (2 + 4, shard.version)
    described = {o.path: o.rows for o in manifest.outputs}
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
    whole = SeriesManifest.read(series.run)
    assert whole.batches == {batch.batch: Manifest.read(batch).seal}


def test_a_batch_is_found_by_its_address(series, data):
    batch = series.begin(series.unscored(sources(data)))
    finish(batch)
    found = RunDirectory.at(batch.address + "/")
    assert (found.root, found.batch) == (batch.root, batch.batch)
    assert ids(found, "rejects") == ids(batch, "rejects")
    assert RunDirectory.at(series.address).batch is None
    assert time.strptime(batch.batch, batches_module.BATCH_NAME)


# What somebody else does to batches/


@pytest.fixture
def grown(series, data, monkeypatch) -> list[RunDirectory]:
    """Two finished batches; the second has scored one tar and one image."""
    finish(series.begin(series.unscored(sources(data))))
    (data / "tars" / "c.tar").write_bytes(b"new")
    (data / "folder" / "x" / "9.png").write_bytes(b"new")
    finish(series.begin(series.unscored(sources(data))))
    series.settle()
    series.finish("1.0")
    return series.batches()


def everything(series) -> dict[str, bytes]:
    return {
        str(path.relative_to(series.address)): path.read_bytes()
        for path in sorted(Path(series.address).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("suffix", [".bak", "", "x", "/deep"])
@pytest.mark.parametrize("without", [None, MANIFEST, SHARDS])
def test_a_folder_that_the_ledger_does_not_name_is_no_batch(series, data, grown, suffix, without):
    """A copy, whatever it is called, and whether or not it looks finished."""
    name = f"{grown[0].batch}{suffix}" if suffix else "2026-01-01T0000"
    copy = Path(series.address, BATCHES, name)
    shutil.copytree(grown[0].address, copy) if suffix != "/deep" else copy.mkdir()
    if without and suffix != "/deep":
        (copy / without).unlink()
    before = everything(series)
    if suffix != "/deep":
        assert series.strangers() == [name]
    assert [b.batch for b in series.batches()] == [b.batch for b in grown]
    assert series.begun() is None
    assert unscored(series, data) == {}
    assert series.settle() == 0
    series.abandon()
    assert everything(series) == before
    (data / "tars" / "d.tar").write_bytes(b"new")
    batch = series.begin(series.unscored(sources(data)))
    assert set(files_of_batch(batch)) == {"d.tar"}
    assert batch.batch not in {name, *(b.batch for b in grown)}
    assert {k: v for k, v in everything(series).items() if k in before and k != LEDGER} == {
        k: v for k, v in before.items() if k != LEDGER
    }


def files_of_batch(batch) -> list[str]:
    return [f for of_set in shards_of(batch).values() for shard in of_set for f in shard.files]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def edit_shards(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        (MANIFEST, Path.unlink, "has lost its manifest.json"),
        (SHARDS, Path.unlink, "has lost its shards.jsonl"),
        (MANIFEST, truncate, "manifest.json.*is damaged"),
        (MANIFEST, lambda path: path.write_text("[1]"), "is damaged: it holds a list"),
        (MANIFEST, lambda path: path.write_text(path.read_text().replace("rows", "r")), "its seal"),
        (SHARDS, edit_shards, "another shards.jsonl than was written"),
        ("", shutil.rmtree, "has lost its manifest.json"),
    ],
)
def test_a_batch_that_was_spoilt_stops_the_run_and_nothing_is_deleted(
    series, data, grown, which, name, spoil, told
):
    spoil(Path(grown[which].address, name))
    (data / "tars" / "a.tar").unlink()  # a feed that is cleaned up
    before = everything(series)
    steps = (
        series.batches, series.settle, lambda: series.unscored(sources(data)),
        lambda: series.begin({}) and series.settle(),
    )  # fmt: skip
    for step in steps[:3]:
        with pytest.raises(UserError, match=told) as caught:
            step()
        assert grown[which].batch in str(caught.value)
    assert everything(series) == before


def test_a_manifest_of_another_batch_is_no_manifest_of_this_one(series, data, grown):
    shutil.copy(Path(grown[0].address, MANIFEST), Path(grown[1].address, MANIFEST))
    with pytest.raises(UserError, match=rf"{grown[1].batch} .* has another manifest\.json than"):
        series.settle()


@pytest.mark.parametrize("name", [LEDGER, MANIFEST])
@pytest.mark.parametrize("how", ["edited", "list", "cut"])
def test_a_ledger_or_manifest_that_was_changed_stops_the_run(series, data, grown, name, how):
    path = Path(series.address, name)
    text = path.read_text()
    path.write_text({"edited": text.replace(grown[0].batch, "2000-01-01T0000"), "list": "[]",
                     "cut": text[:-9]}[how])  # fmt: skip
    before = everything(series)
    with pytest.raises(UserError, match=rf"{name}.*(its seal is not|is damaged)"):
        series.settle()
    assert everything(series) == before


def test_a_ledger_that_is_lost_is_made_again_of_the_manifest(series, data, grown):
    Path(series.address, LEDGER).unlink()
    assert [b.batch for b in series.batches()] == [b.batch for b in grown]
    (data / "tars" / "a.tar").write_bytes(b"changed")
    finish(series.begin(series.unscored(sources(data))))
    assert series.settle() == 1
    assert Path(series.address, LEDGER).exists()


def test_a_directory_without_ledger_and_with_unlisted_batches_is_refused(series, data, grown):
    """As an older version may have left it, killed in the middle of a batch."""
    Path(series.address, LEDGER).unlink()
    shutil.copytree(grown[0].address, Path(series.address, BATCHES, "2030-01-01T0000"))
    before = everything(series)
    with pytest.raises(UserError, match=r"no ledger\.json.*does not list.*: 2030-01-01T0000"):
        series.settle()
    assert everything(series) == before


def test_an_older_ledger_is_told(series, data, grown):
    path = Path(series.address, LEDGER)
    ledger = json.loads(path.read_text())
    del ledger["batches"][grown[1].batch]
    path.write_text(json.dumps(ledger | {"seal": seal_of(ledger)}))
    with pytest.raises(UserError, match=rf"lacks batches.*{grown[1].batch}.*older copy"):
        series.settle()


def test_only_ones_own_files_of_an_abandoned_batch_are_deleted(series, data, grown):
    (data / "tars" / "d.tar").write_bytes(b"new")
    batch = series.begin(series.unscored(sources(data)))
    empty = tables.table(tables.EXPERTS, {"sample_id": []})
    batch.parts.write(("experts", "dataset=tars"), tables.EXPERTS, [empty])
    batch.work.commit("experts", "tars", "s", "chunk", empty)
    notes = [
        Path(batch.address, "notes.txt"),
        Path(series.address, "experts", "dataset=tars", f"batch={batch.batch}", "mine.parquet"),
    ]
    for path in notes:
        path.write_text("mine")
    series.abandon()
    assert series.begun() is None
    assert all(path.read_text() == "mine" for path in notes)
    assert list(Path(batch.address).iterdir()) == notes[:1]
    assert list(notes[1].parent.iterdir()) == notes[1:]


def test_a_restart_deletes_the_batches_and_refuses_where_there_are_others(series, data, grown):
    series.run.write_json("fingerprint.json", {"code": "1"})
    copy = Path(series.address, BATCHES, f"{grown[0].batch}.bak")
    shutil.copytree(grown[0].address, copy)
    before = everything(series)
    with pytest.raises(UserError, match=rf"no run wrote.*{copy.name}/manifest\.json.*Nothing was"):
        series.run.clear(series.names())
    assert everything(series) == before
    shutil.rmtree(copy)
    Path(series.address, LEDGER).write_text("damaged")
    series.run.clear(series.names_to_clear())
    assert everything(series) == {}


# Killed between two steps


def killed(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["first", "second", "shards"])
def test_a_batch_begun_by_a_run_that_was_killed_is_taken_up(series, data, grown, step, monkeypatch):
    (data / "tars" / "d.tar").write_bytes(b"new")
    with monkeypatch.context() as patch:
        if step == "shards":  # the ledger names it, and nothing else is there
            patch.setattr(batches_module, "_write_shards", killed)
            with pytest.raises(KeyboardInterrupt):
                series.begin(series.unscored(sources(data)))
        else:
            series.begin(series.unscored(sources(data)))
    begun = series.begun()
    assert begun.batch not in [b.batch for b in grown]
    batch = series.begin(series.unscored(sources(data)))
    assert batch.batch == begun.batch
    finish(batch)
    if step == "second":  # finished, but the ledger does not know: another run scores nothing twice
        assert unscored(series, data) == {}
    series.settle()
    series.finish("1.0")
    assert SeriesManifest.read(series.run).batches.keys() == {
        *(b.batch for b in grown), batch.batch
    }  # fmt: skip
    assert unscored(series, data) == {}


@pytest.mark.parametrize("call", range(1, 9))
def test_rows_are_taken_out_wherever_the_run_is_killed(series, data, grown, call, monkeypatch):
    (data / "tars" / "b.tar").write_bytes(b"changed")
    (data / "folder" / "x" / "0.png").write_bytes(b"changed")
    finish(series.begin(series.unscored(sources(data))))
    whole, calls = RunFolder.write, []

    def counting(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", counting)
        try:
            series.settle()
        except KeyboardInterrupt:
            pass
        else:
            assert len(calls) < call
    series.settle()
    series.finish("1.0")
    first = series.batches()[0]
    assert ids(first, "predictions", "dataset=tars") == ["a.tar/1"]
    assert "x/0.png" not in ids(first, "predictions", "dataset=folder") + ids(first, "rejects")
    for output in Manifest.read(first).outputs:
        if output.path.startswith(("rejects", "experts", "predictions")):
            fs, path = first.output(output.path)
            assert len(fs.cat_file(path)) == output.bytes
    assert series.settle() == 0
    assert unscored(series, data) == {}


def test_a_report_made_again_is_sealed_in_all_manifests(series, data, grown):
    with series.altering(grown[0]):
        grown[0].write_text(AUDIT, "{}")
        reseal(grown[0], [AUDIT])
    series.finish("1.0")
    assert [b.batch for b in series.batches()] == [b.batch for b in grown]
    seals = SeriesManifest.read(series.run).batches
    assert seals[grown[0].batch] == Manifest.read(grown[0]).seal
    listed = [output.path for output in Manifest.read(grown[0]).outputs]
    assert listed.count(f"{BATCHES}/{grown[0].batch}/{AUDIT}") == 1


def test_a_report_that_was_killed_midway_is_made_again(series, data, grown):
    def report():
        with series.altering(grown[0]):
            grown[0].write_text(AUDIT, "{}")
            reseal(grown[0], [AUDIT])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report()
    series.settle()
    series.finish("1.0")
    seals = SeriesManifest.read(series.run).batches
    assert seals[grown[0].batch] == Manifest.read(grown[0]).seal


# Images that could not be read


def test_an_image_that_could_not_be_read_is_scored_when_it_can_be(series, data):
    batch = series.begin(series.unscored(sources(data)))
    finish(batch)
    reasons = {"x/0.png": "cannot be read: permission denied", "x/1.png": "truncated",
               "x/2.png": "cannot be read: it is gone", "a.tar/0": "cannot be read: x"}  # fmt: skip
    columns = {
        "dataset": ["tars" if ".tar" in name else "folder" for name in reasons],
        "shard": ["s"] * 4, "sample_id": list(reasons), "reason": list(reasons.values()),
    }  # fmt: skip
    batch.parts.write(("rejects",), tables.REJECTS, [tables.table(tables.REJECTS, columns)])
    (data / "folder" / "x" / "2.png").unlink()
    assert unscored(series, data) == {"folder": {"x/0.png"}}
    shard = series.unscored(sources(data))["folder"]
    finish(series.begin({"folder": shard}))
    assert series.settle() == 1
    assert "x/0.png" not in ids(series.batches()[0], "rejects")
