"""Promises of the README and of docstrings that span modules; each without Ray."""

import errno
import io
import json
import os
import sys
import tarfile
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import yaml
from fsspec.implementations.memory import MemoryFile

import dawin_ray
from dawin_ray.config import load_job, make_job
from dawin_ray.data.chunks import Chunk, from_row, to_row
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.decoding import DecodeImages
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import Source
from dawin_ray.engine import ray_address, ray_cluster, ray_resources, ray_start, workers
from dawin_ray.engine.compute import ComputeConfig
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import prepare
from dawin_ray.method.fit import Fit
from dawin_ray.method.samplewise.classifier import SamplewiseClassifier
from dawin_ray.models.experts import load_experts
from dawin_ray.passes.experts import ScoreExperts
from dawin_ray.passes.predictions import Float32Sample, Predict
from dawin_ray.records import write_record
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.fits import FitEntry, SavedFits
from dawin_ray.statistics import ScoredRows
from dawin_ray.storage.files import filesystem, write_whole
from tests.conftest import CLASSES, make_images, write_folder, write_parquet, write_tar

EXACT = {"mixture": {"clusters": "exact"}}
ATOL = 1e-5  # of probabilities, in float32


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    write_folder(root / "set", make_images(12), sorted(i % CLASSES for i in range(12)))
    return [{"name": "set", "path": str(root / "set")}]


# The job file


def test_paths_are_relative_to_the_working_directory(small, data, tmp_path, monkeypatch):
    """Not to the job file's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "labels.txt").write_text("\n".join(map(str, range(CLASSES))))
    sections = {
        "experts": [
            {"name": f"e{i}", "checkpoint": os.path.relpath(path, tmp_path)}
            for i, path in enumerate(small.checkpoints[:2])
        ],
        "model": {"architecture": os.path.relpath(small.config, tmp_path)},
    }
    datasets = [{"name": "set", "path": "data/set", "classes": "labels.txt"}]
    job = small.job_file(tmp_path / "jobs" / "job.yaml", "run", datasets, **sections)
    assert sum(len(s.images) for s in prepare(load_job(job)).shards["set"]) == 12


def test_the_job_of_a_run_can_be_run_again(small, data, tmp_path):
    job = make_job(small.job(tmp_path / "run", data))
    run = RunDirectory(job.run_dir)
    run.open(prepare(job).fingerprint, job.to_yaml())
    assert make_job(yaml.safe_load(run.read_text("job.yaml"))) == job


# A fit, and a run directory, of something else


def saved_fit(small, datasets, tmp_path, **sections) -> dict:
    """A fit.json of the exact mode, as a run would write it of these data."""
    prepared = prepare(make_job(small.job(tmp_path / "fitted", datasets, **sections)))
    draw = np.random.default_rng(0).random((60, 2))
    classes = prepared.fingerprint["classes"]["set"]
    rows = ScoredRows.of(
        entropy=draw, coefficient=draw / draw.sum(axis=1, keepdims=True), cluster=None,
        expert_prediction=(draw > 0.5).astype(int),
    )  # fmt: skip
    names, identity = ("expert_0", "expert_1"), dict(prepared.identity)
    entry = FitEntry.of(Fit(), names, rows, count=CLASSES, classes=classes)
    code, path = dawin_ray.__version__, tmp_path / "fit.json"
    saved = SavedFits(code=code, names=names, identity=identity, datasets={"set": entry})
    path.write_bytes(write_record(saved))
    return {"from": str(path), "dataset": "set"}


def test_a_saved_fit_is_refused_with_what_differs(small, data, tmp_path):
    """Experts, their temperatures, classes, preprocessing, coefficients; as it was, it holds."""
    fit = saved_fit(small, data, tmp_path, **EXACT)
    subset = tmp_path / "classes.txt"
    subset.write_text("\n".join(map(str, reversed(range(CLASSES)))))

    def prepared(datasets=data, **sections):
        job = small.job(tmp_path / "run", datasets, fit=fit, **EXACT | sections)
        return prepare(make_job(job))

    assert prepared().saved is not None
    mean = {"architecture": small.config, "preprocess": {"mean": [0.1, 0.2, 0.3]}}
    experts = [{"name": f"expert_{i}", "checkpoint": small.checkpoints[i], "temperature": 0.9 + i}
               for i in range(2)]  # fmt: skip
    for sections, what in (
        ({"experts": experts}, "experts"),
        ({"model": mean}, "preprocessing"),
        ({"coefficient": {"metric": "margin"}}, "coefficient"),
        ({"datasets": [data[0] | {"classes": str(subset)}]}, "classes"),
    ):
        with pytest.raises(UserError, match=rf"(?s)does not hold for this job:.*\n  {what}"):
            prepared(**sections)


def test_a_run_directory_of_other_data_or_another_version_is_refused(
    small, data, tmp_path, monkeypatch
):
    job = make_job(small.job(tmp_path / "run", data))
    run = RunDirectory(job.run_dir)
    assert run.open(prepare(job).fingerprint, job.to_yaml()) == "new"
    assert run.open(prepare(job).fingerprint, job.to_yaml()) == "unfinished"
    added = tmp_path / "data" / "set" / "class_0" / "one more.png"
    added.write_bytes(make_images(2)[1])
    with pytest.raises(UserError, match=r"(?s)another job.*--restart.*data\.set"):
        run.state(prepare(job).fingerprint)
    added.unlink()
    monkeypatch.setattr(dawin_ray, "__version__", "0.0.of-tomorrow")
    with pytest.raises(UserError, match=r"code: .* there, 0\.0\.of-tomorrow here"):
        run.state(prepare(job).fingerprint)


def test_a_growing_directory_takes_new_data_but_no_other_version(
    small, data, tmp_path, monkeypatch
):
    job = make_job(small.job(tmp_path / "run", data, mode="append", **EXACT))
    run = RunDirectory(job.run_dir)
    run.open(prepare(job).only({}).fingerprint, job.to_yaml())
    (tmp_path / "data" / "set" / "class_0" / "one more.png").write_bytes(make_images(2)[1])
    assert run.state(prepare(job).only({}).fingerprint) == "unfinished"
    monkeypatch.setattr(dawin_ray, "__version__", "0.0.of-tomorrow")
    with pytest.raises(UserError, match="of-tomorrow here"):
        run.state(prepare(job).only({}).fingerprint)


@pytest.mark.parametrize(
    "kept", ["max_reject_fraction", "compute", "in_distribution", "incumbent", "drift"]
)
def test_limits_and_machines_are_no_other_job(small, data, tmp_path, kept):
    """So that a run may be resumed with them changed: they move no value."""
    changed = {
        "max_reject_fraction": 0.5,
        "compute": {"engine": "ray", "batch_size": 2, "actors": 2, "cache": "off"},
        "in_distribution": "set",
        "incumbent": "even_interpolation",
        "drift": {"alpha": 0.1},
    }
    one, two = (
        prepare(make_job(small.job(tmp_path / "run", data, **sections))).fingerprint
        for sections in ({}, {kept: changed[kept]})
    )
    assert one == two


# The exact mode


def test_a_job_with_a_limited_rank_uses_it_and_samples_the_full_one(small, data, tmp_path):
    sections = {"mixture": {"clusters": "exact", "exact_rank": 1}}
    prepared = prepare(make_job(small.job(tmp_path / "run", data, **sections)))
    experts = load_experts(prepared.spec.model)
    fits = {"set": Fit()}
    (shard,) = prepared.shards["set"]
    (chunk,) = DecodeImages(prepared.preprocessing, 100, prepared.spec.classes)(shard)
    scored = ScoreExperts(prepared.spec, experts)(chunk)
    limited = Predict(prepared.spec, fits, experts)(chunk, scored)
    spec = replace(prepared.spec, exact_rank=None)
    full = Predict(spec, fits, experts)(chunk, scored)
    pixels = prepared.preprocessing.normalise(torch.tensor(chunk.images))
    shares = torch.tensor(np.stack(full["coefficient"].to_pylist()), dtype=torch.float32)
    for table, rank in ((limited, 1), (full, None)):
        model = experts.samplewise(rank=rank)
        with torch.inference_mode():
            best = model(pixels, shares, "checkpoint").softmax(dim=-1).amax(dim=-1)
        np.testing.assert_allclose(table["confidence"].to_numpy(), best, atol=ATOL)
    gap = np.abs(limited["confidence"].to_numpy() - full["confidence"].to_numpy()).max()
    assert gap > 100 * ATOL
    sampled = limited["float32_prediction"].to_pylist()
    compared = [i for i, value in enumerate(sampled) if value is not None]
    assert compared == [0, 8]
    assert [sampled[i] for i in compared] == [full["prediction"][i].as_py() for i in compared]
    assert full["float32_prediction"].null_count == len(chunk.sample_ids)
    assert isinstance(Predict(prepared.spec, fits, experts).agreement, Float32Sample)


def test_a_job_that_cannot_be_exact_is_refused_before_it_starts(small, data, tmp_path, monkeypatch):
    """Each job checks its own model against merged weights."""
    asked = []

    def wrong(model, *arguments, **settings):
        asked.append(type(model))
        raise UserError("an operation of its own")

    monkeypatch.setattr("dawin_ray.passes.interpolated.check_samplewise", wrong)
    prepare(make_job(small.job(tmp_path / "run", data)))
    for sections in (EXACT, {"baselines": {"exact": True}}, {"baselines": {"oracle": True}}):
        with pytest.raises(UserError, match="an operation of its own"):
            prepare(make_job(small.job(tmp_path / "run", data, **sections)))
    assert asked == [SamplewiseClassifier] * 3


# How it scales out and how it fails


@pytest.fixture
def cluster(monkeypatch):
    """Stands for a Ray that has joined a cluster of nodes with these CPUs and GPUs."""

    def of(*nodes: tuple[int, int]) -> None:
        total = {"CPU": sum(c for c, _ in nodes), "GPU": sum(g for _, g in nodes)}
        alive = [{"Alive": True, "Resources": {"CPU": c, "GPU": g}} for c, g in nodes]
        fake = SimpleNamespace(cluster_resources=lambda: total, nodes=lambda: alive)
        monkeypatch.setitem(sys.modules, "ray", fake)

    return of


def test_a_gpu_has_a_model_actor_and_the_other_cpus_decode(cluster):
    cluster((16, 2), (8, 1), (4, 0))
    on = ray_resources.resources(ComputeConfig())
    assert (on.device, on.actors, on.cpus, on.gpus) == ("cuda", 3, 0.98, 1)
    assert on.readers == 16 + 8 + 4 - 3
    assert on.nodes == 3


def test_a_cpu_node_is_shared_by_models_and_decoding(cluster):
    cluster((2, 0), (2, 0))
    on = ray_resources.resources(ComputeConfig())
    assert (on.device, on.actors, on.gpus) == ("cpu", 2, 0)
    assert on.actors * on.cpus < 4


@pytest.mark.parametrize(
    ("nodes", "compute", "message"),
    [
        ([(4, 1)], {"device": "cuda", "actors": 2}, "asks for 2 GPU actors.*the cluster has 1"),
        ([(8, 0)], {"device": "cuda"}, "asks for 1 GPU actor,.*the cluster has 0"),
        ([(2, 4)], {}, "4 GPU actors, one CPU each besides, but the cluster has 2"),
    ],
)
def test_a_job_that_asks_for_more_than_there_is_ends_at_once(cluster, nodes, compute, message):
    cluster(*nodes)
    with pytest.raises(UserError, match=message):
        ray_resources.resources(ComputeConfig(**compute))


@pytest.mark.parametrize(
    ("asked", "environment", "joined"),
    [(None, None, "local"), (None, "10.0.0.1:1", "10.0.0.1:1"), ("auto", "10.0.0.1:1", "auto")],
)
def test_a_cluster_is_joined_by_the_job_or_by_the_environment(
    monkeypatch, asked, environment, joined
):
    """`ray job submit` sets RAY_ADDRESS; without either a run starts a Ray of its own."""
    ray = MagicMock()
    ray.is_initialized.return_value = False
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_ADDRESS"):
        monkeypatch.setenv(name, environment or "")  # and restored afterwards
    if environment is None:
        monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    monkeypatch.setattr(ray_cluster, "check_answers", lambda address: None)
    monkeypatch.setattr(ray_start, "_check_not_imported", lambda: None)
    ray.__file__ = "/nowhere/ray/__init__.py"
    for name, value in ray_address.ASKED_ONCE.items():
        monkeypatch.setenv(name, value)
    with ray_cluster.ray_session(asked):
        (call,) = ray.init.call_args_list
    assert call.kwargs["address"] == joined
    assert (os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0") == (joined == "local")


def test_the_driver_gets_neither_images_nor_names():
    """Of a chunk of any size, the same few numbers."""

    def summary(count: int) -> dict:
        chunk = Chunk(
            name="c", dataset="d", shard="s", shard_key="s",
            sample_ids=[f"{'name':>99}{i}" for i in range(count)], labels=[None] * count,
            images=np.zeros((count, 8, 8, 3), np.uint8),
        )  # fmt: skip
        return to_row([workers.summary_of(chunk, 0.0)])

    (found,) = from_row({"summaries": summary(500)["summaries"][0]})
    assert found.rows == 500
    assert abs(len(json.dumps(summary(500))) - len(json.dumps(summary(1)))) < 9


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_no_part_of_a_file(tmp_path, monkeypatch, code):
    path = tmp_path / "run" / "chunk.parquet"
    write_whole(*filesystem(str(path)), b"as it was")

    def full(*_):
        raise OSError(code, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"no space is left there\. Make room and run"):
        write_whole(*filesystem(str(path)), b"new")
    assert [p.name for p in path.parent.iterdir()] == ["chunk.parquet"]
    assert path.read_bytes() == b"as it was"


def written(tmp_path, members: dict[str, bytes], link: str | None = None) -> Source:
    """A data set of one tar, whose last member may be a link out of it."""
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "s.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    config = DatasetConfig(name="set", path=str(tmp_path / "set"))
    return Source(config=config, listing=list_files(config), labels=None)


def test_a_label_longer_than_any_is_rejected_unread(tmp_path):
    """It would be an integer."""
    image, most = make_images(1)[0], 1024
    members = {
        "a.jpg": image, "a.cls": b"1".ljust(most), "b.jpg": image, "b.cls": b"1".ljust(most + 1)
    }  # fmt: skip
    (shard,) = written(tmp_path, members).shards()
    one, other = read_samples(shard)
    assert (one.label, one.error) == (1, None)
    assert (other.label, other.image) == (None, None)
    assert "b.cls" in other.error
    assert "1,025 bytes" in other.error


@pytest.mark.parametrize("write", [write_tar, write_parquet])
@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT])
def test_a_storage_that_breaks_off_while_it_is_read_is_no_reject(
    tmp_path, monkeypatch, write, code
):
    """What is read at first is sound; then every read fails."""
    name = {write_tar: "s.tar", write_parquet: "p.parquet"}[write]
    images = [os.urandom(200_000) for _ in range(20)]
    content = write(tmp_path / name, images, None).read_bytes()
    address = f"memory://{tmp_path.name}/set/{name}"
    memory, there = filesystem(address)
    memory.pipe_file(there, content)
    config = DatasetConfig(name="set", path=address)
    (shard,) = Source(config=config, listing=list_files(config), labels=None).shards()
    assert [s.image for s in read_samples(shard)] == images
    half = range(len(content) // 2, len(content))  # a tar's second; Parquet begins at its end
    bad = half if write is write_tar else range(half.start)

    def failing(file, size=-1):
        if file.tell() in bad:
            raise OSError(code, os.strerror(code))
        return io.BytesIO.read(file, size)

    monkeypatch.setattr(MemoryFile, "read", failing, raising=False)
    with pytest.raises(UserError, match=f"Cannot read the shard '.*{name}'"):
        list(read_samples(shard))


def test_names_inside_a_tar_are_never_used_as_paths(tmp_path):
    outside = tmp_path / "outside"
    names = ["../escaped", f"{outside}/absolute", "a/../../twice", "./plain", "a/b/c"]
    image = make_images(1)[0]
    members = {f"{name}.jpg": image for name in names}
    source = written(tmp_path, members, link=str(tmp_path / "secret.jpg"))
    (tmp_path / "secret.jpg").write_bytes(b"not of the data")
    before = sorted(tmp_path.rglob("*"))
    (shard,) = source.shards()
    samples = list(read_samples(shard))
    assert sorted(tmp_path.rglob("*")) == before
    assert not outside.exists()
    assert [s.image for s in samples[:-1]] == [image] * len(names)
    assert samples[-1].image is None
    assert samples[-1].error
    assert len({s.sample_id for s in samples}) == len(names) + 1
