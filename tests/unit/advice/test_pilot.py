"""What a pilot runs: variants of the job, on full batches, in a folder that goes."""

import dataclasses
from pathlib import Path

import pytest

from dawin_ray.advice import pilot as module
from dawin_ray.advice.copied import copy_samples
from dawin_ray.advice.picks import counted
from dawin_ray.advice.pilot import chunk_of, clustered_of, exact_of
from dawin_ray.config import make_job
from dawin_ray.data import DatasetConfig, list_files, make_shards, read_samples
from dawin_ray.engine import Resources
from dawin_ray.errors import UserError
from dawin_ray.job import prepare
from tests.conftest import make_images, write_folder, write_parquet, write_tar

ON = Resources(device="cpu", actors=1, cpus=1, gpus=0, threads=1, readers=1)


@pytest.fixture(scope="module")
def prepared(small, tmp_path_factory):
    root = tmp_path_factory.mktemp("pilot")
    write_folder(root / "data", make_images(6), list(range(6)))
    return prepare(make_job(small.job(root / "run", [{"name": "d", "path": str(root / "data")}])))


def job_with(small, **compute):
    return make_job(small.job(Path("run"), [{"name": "d", "path": "d"}], compute=compute))


@pytest.mark.parametrize(
    ("batch", "chunk", "samples", "wanted"),
    [(64, 256, 500, 125), (256, 512, 500, 256), (64, 256, 20_000, 256), (256, 128, 500, 128)],
)
def test_chunks_are_full_batches_and_several_where_that_can_be(
    small, batch, chunk, samples, wanted
):
    assert chunk_of(job_with(small, batch_size=batch, chunk_size=chunk), samples) == wanted


def test_what_labels_cannot_judge_is_not_run(prepared):
    job = prepared.job
    with_labels, without = clustered_of(job, prepared, True), clustered_of(job, prepared, False)
    assert [m.name for m in with_labels.methods if m.kind != "expert"] == [
        "even_interpolation", "static_0.25", "static_0.75"
    ]  # fmt: skip
    assert {m.kind for m in without.methods} == {"expert"}
    assert without.mixture == job.mixture
    exact = exact_of(job)
    assert exact.exact
    assert {m.kind for m in exact.methods} == {"expert"}
    assert clustered_of(exact, prepared, False).mixture.clusters == 3


def test_the_exact_mode_that_cannot_be_run_is_left_out_and_says_why(prepared, monkeypatch):
    def refuse(*arguments):
        raise UserError("no such operation")

    monkeypatch.setattr(module, "check_exact", refuse)
    monkeypatch.setattr(module, "_try", lambda prepared, say: prepared.job.run_dir)
    shards = prepared.shards["d"]
    copied = module.Copied(shards=shards, samples=6, labelled=6, rejects={}, seconds=0.0)
    found = module._runs(prepared, {"d": copied}, "/folder", print)
    assert found == {
        "clustered": "/folder/clustered", "exact": None, "no_exact": "no such operation"
    }  # fmt: skip


def test_samples_that_are_all_rejects_are_told(prepared):
    none = module.Copied(shards=(), samples=2, labelled=0, rejects={"no image": 2}, seconds=0.0)
    with pytest.raises(UserError, match="2 x no image"):
        module._runs(prepared, {"d": none}, "/folder", print)


def test_the_folder_is_of_this_machine_or_beside_the_run_and_goes(tmp_path):
    run_dir = str(tmp_path / "runs" / "a")
    for nodes in (1, 2):
        with module._folder(run_dir, dataclasses.replace(ON, nodes=nodes)) as folder:
            beside = Path(folder).parent == tmp_path / "runs"
            assert beside == (nodes == 2)
            (Path(folder) / "x").mkdir(parents=True)
            (Path(folder) / "x" / "file").touch()
        assert not Path(folder).exists()
    assert not [*(tmp_path / "runs").iterdir()]


def test_samples_of_every_format_are_copied_with_their_labels(tmp_path):
    images, labels = make_images(12), [i % 6 for i in range(12)]
    write_folder(tmp_path / "folder", images, labels)
    write_tar(tmp_path / "tars" / "a.tar", [*images[:11], b""], labels)
    write_parquet(tmp_path / "parquet" / "0.parquet", images, labels)
    for name, rejected in (("folder", 0), ("tars", 1), ("parquet", 0)):
        config = DatasetConfig(name=name, path=str(tmp_path / name))
        shards = make_shards(
            config, list_files(config), {f"class_{i}": i for i in range(6)} if not rejected else {}
        )
        counts = counted(shards)
        found = copy_samples(shards, counts, 12, str(tmp_path / "copy" / name), 5)
        assert [len(shard.images) for shard in found.shards] == [5, 5, 2]
        assert (found.samples, found.labelled) == (12, 12)
        there = {s.image: s.label for shard in found.shards for s in read_samples(shard)}
        wanted = dict(zip(images, labels, strict=True))
        if rejected:
            wanted = {image: wanted.get(image, labels[11]) for image in there}
        assert there == wanted
        few = copy_samples(shards, counts, 3, str(tmp_path / "few" / name), 5)
        assert few.samples == 3
