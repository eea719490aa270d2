"""Whole runs on a local Ray: formats, sizes, damaged data, resume, many experts."""

import hashlib
import importlib
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from dawin_ray import tables
from dawin_ray.cli import app
from dawin_ray.engine import local, ray_stream
from dawin_ray.job.running import Passes
from dawin_ray.runs.work import Work
from tests.conftest import (
    CLASSES,
    MODEL_CONFIG,
    make_images,
    write_folder,
    write_parquet,
    write_tar,
)

IMAGES = 45
# in the order of a sorted folder: a fit starts from k-means, whose draws follow the samples' order
LABELS = sorted(i % CLASSES for i in range(IMAGES))
# float32 sums of another order, batch size or thread count, through a softmax of logits near 10
ATOL = 1e-4


def run(*arguments: str):
    result = CliRunner().invoke(app, ["run", *arguments])
    assert result.exit_code == 0, result.output
    return result


def predictions(run_dir: Path, dataset: str) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "predictions" / f"dataset={dataset}")


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert len(one) == len(other)
    for column in one.columns.drop("sample_id"):
        a, b = one[column], other[column]
        if a.isna().all():
            assert b.isna().all(), column
            continue
        if a.dtype == object:
            a, b = np.stack(a), np.stack(b)
        if np.issubdtype(a.dtype, np.integer):
            np.testing.assert_array_equal(a, b, err_msg=column)
        else:
            np.testing.assert_allclose(a, b, atol=ATOL, err_msg=column)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The same images as folder, tars and Parquet; a damaged tar; images without labels."""
    root = tmp_path_factory.mktemp("data")
    images = make_images(IMAGES)
    write_folder(root / "folder", images, LABELS)
    write_tar(root / "tars" / "a-0.tar", images[:20], LABELS[:20])
    write_tar(root / "tars" / "a-1.tar", images[20:], LABELS[20:], start=20)
    write_parquet(root / "parquet" / "0.parquet", images[:31], LABELS[:31])
    write_parquet(root / "parquet" / "1.parquet", images[31:], LABELS[31:])
    damaged = [*images[:20], images[20][:200], b"no image at all", b""]
    write_tar(root / "damaged" / "d.tar", damaged, None)
    with tarfile.open(root / "damaged" / "d.tar", "a") as tar:
        info = tarfile.TarInfo("lonely.cls")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"3"))
    broken = write_tar(root / "broken" / "b.tar", images[:30], LABELS[:30])
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return root


DATASETS = ("folder", "tars", "parquet", "damaged", "broken")


@pytest.fixture(scope="module")
def first(small, data, tmp_path_factory) -> Path:
    """The run that the tests of this module look at."""
    folder = tmp_path_factory.mktemp("first")
    datasets = [{"name": name, "path": str(data / name)} for name in DATASETS]
    run(small.job_file(folder / "job.yaml", folder / "run", datasets))
    return folder / "run"


@pytest.mark.parametrize("other", ["tars", "parquet"])
def test_folder_webdataset_and_parquet_give_the_same_predictions(first, other):
    assert_same(predictions(first, "folder"), predictions(first, other))


def test_samples_are_named_by_where_they_lie(first):
    assert predictions(first, "folder")["sample_id"][0] == "class_0/0000.jpg"
    assert list(predictions(first, "tars")["sample_id"][[0, 44]]) == [
        "a-0.tar/0000",
        "a-1.tar/0044",
    ]
    assert list(predictions(first, "parquet")["sample_id"][[0, 44]]) == [
        "0.parquet/0",
        "1.parquet/13",
    ]


@pytest.mark.slow
def test_batches_chunks_and_actors_on_ray_change_nothing(first, small, data, local_ray, tmp_path):
    names = ("folder", "damaged")
    datasets = [{"name": name, "path": str(data / name)} for name in names]
    compute = {"engine": "ray", "batch_size": 7, "chunk_size": 5, "actors": 2}
    run(small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets, compute=compute))
    for name in names:
        assert_same(predictions(first, name), predictions(tmp_path / "run", name))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # two clusters for each data set, at most once in each of the two actors
    assert 2 * len(names) <= report["passes"]["merged"]["merges"] <= 4 * len(names)


def test_predictions_are_those_of_the_model_merged_by_hand(first, small, data):
    """From pixels to probabilities with open_clip and plain torch alone."""
    states = [load_file(path) for path in small.checkpoints[:2]]
    mixture = json.loads((first / "mixture.json").read_text())["fits"]["folder"]["mixture"]
    concentrations = np.array(mixture["concentrations"])
    means = concentrations / concentrations.sum(axis=1, keepdims=True)
    visual = open_clip.model.CLIP(**MODEL_CONFIG).visual.eval()
    transform = open_clip.image_transform(32, is_train=False)

    def probabilities(state: dict, image: Image.Image, temperature: float = 1.0) -> torch.Tensor:
        visual.load_state_dict(
            {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
        )
        with torch.inference_mode():
            features = visual(transform(image)[None])
        features = features / features.norm(dim=-1, keepdim=True)
        logits = features @ state["classification_head.weight"].T
        return ((logits + state["classification_head.bias"])[0] / temperature).softmax(-1)

    rows = predictions(first, "folder")
    for _, row in rows.iloc[::6].iterrows():
        image = Image.open(data / "folder" / row["sample_id"])
        experts = [probabilities(s, image, t) for s, t in zip(states, (0.9, 1.0), strict=True)]
        entropies = torch.stack([-(p * p.log()).sum() for p in experts])
        np.testing.assert_allclose(row["expert_entropy"], entropies, atol=ATOL)
        np.testing.assert_allclose(row["coefficient"], (-entropies).softmax(-1), atol=ATOL)
        low, high = means[row["cluster"]]
        merged = {k: low * states[0][k] + high * states[1][k] for k in states[0]}
        expected = probabilities(merged, image)
        top = expected.topk(5)
        np.testing.assert_allclose(row["top_probabilities"], top.values, atol=ATOL)
        assert row["prediction"] == expected.argmax()
        assert row["confidence"] == pytest.approx(float(expected.max()), abs=ATOL)
        even = {k: 0.5 * states[0][k] + 0.5 * states[1][k] for k in states[0]}
        assert row["even_prediction"] == probabilities(even, image).argmax()


def test_every_damaged_sample_is_a_reject_with_its_reason(first):
    rejects = pd.concat(pd.read_parquet(path) for path in (first / "rejects").iterdir())
    reasons = rejects.set_index("sample_id")["reason"].to_dict()
    assert reasons.keys() == {f"d.tar/00{i}" for i in (20, 21, 22)} | {"d.tar/lonely"} | {
        key for key in reasons if key.startswith("b.tar/\\@")
    }
    assert "truncated" in reasons["d.tar/0020"].lower()
    assert "cannot be decoded" in reasons["d.tar/0021"]
    assert "no image member" in reasons["d.tar/lonely"]
    assert len(predictions(first, "damaged")) == 20
    assert 5 < len(predictions(first, "broken")) < 30
    assert sum("the shard breaks after byte" in reason for reason in reasons.values()) == 1


def test_labels_are_optional(first):
    assert predictions(first, "damaged")["label"].isna().all()
    report = json.loads((first / "report.json").read_text())
    row = next(row for row in report["datasets"] if row["dataset"] == "damaged")
    assert (row["rows"], row["rejects"], row["labelled"]) == (20, 4, 0)
    assert set(row["accuracy"].values()) == {None}


def test_accuracies_of_the_report_follow_from_the_predictions(first):
    report = json.loads((first / "report.json").read_text())
    row = next(row for row in report["datasets"] if row["dataset"] == "folder")
    rows = predictions(first, "folder")
    assert row["accuracy"]["dawin"] == (rows["prediction"] == rows["label"]).mean()
    even = (rows["even_prediction"] == rows["label"]).mean()
    assert row["accuracy"]["even_interpolation"] == even
    experts = np.stack(rows["expert_prediction"])
    for m in range(2):
        assert row["accuracy"][f"expert_{m}"] == (experts[:, m] == rows["label"]).mean()
    sizes = rows["cluster"].value_counts().sort_index().tolist()
    assert [cluster["size"] for cluster in row["clusters"]] == sizes


def test_files_have_exactly_the_columns_of_the_contract(first):
    for path in (first / "predictions").rglob("*.parquet"):
        assert pq.ParquetFile(path).schema_arrow.equals(tables.PREDICTIONS)
    for path in (first / "experts").rglob("*.parquet"):
        assert pq.ParquetFile(path).schema_arrow.equals(tables.EXPERTS)


def test_a_finished_run_is_left_alone(first):
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*") if p.is_file()}
    result = run(str(first.parent / "job.yaml"))
    assert "complete already" in result.output
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*") if p.is_file()} == before


def test_another_job_is_refused_with_what_differs(first):
    arguments = ["run", str(first.parent / "job.yaml"), "experts.1.temperature=1.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "job.experts.1.temperature: 1.0 there, 1.5 here" in result.output


@pytest.fixture
def unfinished(small, data, tmp_path, monkeypatch):
    """A job whose first run ends just before compaction; its run directory; files of its chunks."""
    datasets = [{"name": name, "path": str(data / name)} for name in ("folder", "damaged")]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("dawin_ray.job.score"), "predictions_parts", stop)
        result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 130, result.output
    return job, tmp_path / "run", sorted((tmp_path / "run" / "work").rglob("*.parquet"))


def test_a_swapped_checkpoint_is_refused_with_its_hashes(small, data, tmp_path):
    """Of equal shape, so that nothing but its hash gives it away."""
    path = tmp_path / "expert.safetensors"
    shutil.copy(small.checkpoints[1], path)
    experts = [
        {"name": "expert_0", "checkpoint": small.checkpoints[0]},
        {"name": "expert_1", "checkpoint": str(path)},
    ]
    job = small.job_file(
        tmp_path / "job.yaml", tmp_path / "run",
        [{"name": "folder", "path": str(data / "folder")}], experts=experts,
    )  # fmt: skip
    run(job)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(small.checkpoints[2], path)
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == 2
    assert f"checkpoints.{path}: {before} there, {after} here" in " ".join(result.output.split())


def test_an_unfinished_run_is_resumed_and_done_work_is_kept(unfinished, first, monkeypatch):
    job, run_dir, files = unfinished
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
    marks = run_dir / "work" / "marks"
    lost = [
        next((run_dir / "work" / "experts" / "folder").rglob("*.parquet")),
        *sorted((run_dir / "work" / "predictions" / "folder").rglob("*.parquet"))[1:3],
    ]
    for path in [*lost, *marks.rglob("experts/folder/*"), *marks.rglob("predictions/folder/*")]:
        path.unlink()
    after = {}
    whole = Work.remove

    def look(work, *folder):
        if not after:  # chunks go folder by folder
            after.update({p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files})
        whole(work, *folder)

    monkeypatch.setattr(Work, "remove", look)
    result = run(job)

    assert "unfinished" in result.output
    assert "pass 1, experts: 1 of 2 shards are there already" in result.output
    assert {p: content for p, (_, content) in after.items()} == {
        p: content for p, (_, content) in before.items()
    }
    assert {p for p in files if after[p][0] != before[p][0]} == set(lost)
    assert not (run_dir / "work").exists()
    assert_same(predictions(run_dir, "folder"), predictions(first, "folder"))


def test_nothing_is_run_where_only_compaction_is_left(unfinished, monkeypatch):
    job, run_dir, _ = unfinished
    monkeypatch.setattr(ray_stream, "RayWorker", None)
    monkeypatch.setattr(local, "Worker", None)
    run(job)
    assert len(predictions(run_dir, "folder")) == IMAGES


def test_three_task_experts_over_a_base(small, data, tmp_path):
    """theta_0 + s M sum lambda_t (theta_t - theta_0), one Dirichlet mixture for two data sets."""
    sections = {
        "experts": [
            {"name": f"task_{i}", "checkpoint": path} for i, path in enumerate(small.checkpoints)
        ],
        "merge": {"base": small.checkpoints[0], "scale": 0.2},
        "fit": "joint",
        "coefficient": {"metric": "cross_entropy", "target": "soft_merged"},
        "baselines": {"even_interpolation": False},
    }
    head = {"checkpoint": small.checkpoints[0]}  # one serves all models
    datasets = [
        {"name": name, "path": str(data / name), "head": head} for name in ("folder", "tars")
    ]
    run(small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets, **sections))

    fits = json.loads((tmp_path / "run" / "mixture.json").read_text())["fits"]
    assert list(fits) == ["joint"]
    assert fits["joint"]["samples"] == 2 * IMAGES
    rows = predictions(tmp_path / "run", "folder")
    assert_same(rows, predictions(tmp_path / "run", "tars"))
    assert np.stack(rows["coefficient"]).shape == (IMAGES, 3)
    assert rows["even_prediction"].isna().all()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "even_interpolation" not in report["datasets"][0]["accuracy"]
    # data sets with one fit share their merged models
    assert report["passes"]["merged"]["merges"] == 2

    concentrations = np.array(fits["joint"]["mixture"]["concentrations"])
    means = concentrations / concentrations.sum(axis=1, keepdims=True)
    states = [load_file(path) for path in small.checkpoints]
    row, base = rows.iloc[7], states[0]
    mean = means[row["cluster"]]
    merged = {
        k: base[k] + 0.2 * 3 * sum(mean[m] * (state[k] - base[k]) for m, state in enumerate(states))
        for k in base
    }
    visual = open_clip.model.CLIP(**MODEL_CONFIG).visual.eval()
    visual.load_state_dict(
        {k.removeprefix("visual."): v.float() for k, v in merged.items() if k.startswith("visual.")}
    )
    image = Image.open(data / "folder" / row["sample_id"])
    with torch.inference_mode():
        features = visual(open_clip.image_transform(32, is_train=False)(image)[None])
    features = torch.nn.functional.normalize(features, dim=-1)
    logits = features @ base["classification_head.weight"].float().T
    logits = logits + base["classification_head.bias"].float()
    expected = logits.softmax(-1).topk(5).values[0]
    np.testing.assert_allclose(row["top_probabilities"], expected, atol=ATOL)


def test_the_exact_mode_scores_in_one_pass_with_the_weights_of_each_sample(
    first, small, data, tmp_path
):
    """Without an offset: coefficients as in the clustered run, models merged by hand for each."""
    datasets = [{"name": name, "path": str(data / name)} for name in ("folder", "damaged")]
    job = small.job_file(
        tmp_path / "job.yaml", tmp_path / "run", datasets, mixture={"clusters": "exact"}
    )
    result = run(job)
    assert "off: one pass decodes each image once" in result.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["passes"]) == ["at_once"]
    assert report["passes"]["at_once"]["rows"] == IMAGES + 20
    rows, clustered = predictions(tmp_path / "run", "folder"), predictions(first, "folder")
    assert rows["cluster"].isna().all()
    for column in ("coefficient", "expert_entropy"):
        np.testing.assert_array_equal(np.stack(rows[column]), np.stack(clustered[column]))
    assert len(pd.read_parquet(tmp_path / "run" / "rejects")) == 4

    states = [load_file(path) for path in small.checkpoints[:2]]
    visual = open_clip.model.CLIP(**MODEL_CONFIG).visual.eval()
    transform = open_clip.image_transform(32, is_train=False)
    for _, row in rows.iloc[::9].iterrows():
        low, high = (float(share) for share in row["coefficient"])
        merged = {k: low * states[0][k] + high * states[1][k] for k in states[0]}
        visual.load_state_dict(
            {k.removeprefix("visual."): v for k, v in merged.items() if k.startswith("visual.")}
        )
        with torch.inference_mode():
            features = visual(transform(Image.open(data / "folder" / row["sample_id"]))[None])
        logits = (
            torch.nn.functional.normalize(features, dim=-1) @ merged["classification_head.weight"].T
        )
        top = (logits + merged["classification_head.bias"]).softmax(-1).topk(5)
        np.testing.assert_allclose(row["top_probabilities"], top.values[0], atol=ATOL)


def test_a_one_pass_run_is_resumed_within_a_shard(small, data, tmp_path, monkeypatch):
    datasets = [{"name": "tars", "path": str(data / "tars")}]
    exact = {"mixture": {"clusters": "exact"}}
    whole = small.job_file(tmp_path / "whole.yaml", tmp_path / "whole", datasets, **exact)
    run(whole)
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets, **exact)
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.import_module("dawin_ray.job.score"),
            "predictions_parts",
            lambda *_: sys.exit(9),
        )
        assert CliRunner().invoke(app, ["run", job]).exit_code == 9
    work = tmp_path / "run" / "work"
    chunks = sorted((work / "predictions").rglob("*.parquet"))
    assert len(chunks) == 4
    for path in (chunks[1], chunks[3], *(work / "marks").rglob("*.json")):
        path.unlink()  # the second chunk of each shard: its experts' files are still there
    run(job)
    pd.testing.assert_frame_equal(
        predictions(tmp_path / "whole", "tars"), predictions(tmp_path / "run", "tars")
    )


def test_the_exact_mode_with_offset_takes_two_passes(small, data, tmp_path):
    job = small.job_file(
        tmp_path / "job.yaml",
        tmp_path / "run",
        [{"name": "tars", "path": str(data / "tars")}],
        mixture={"clusters": "exact"},
        coefficient={"offset_adjustment": True},
    )
    run(job)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["passes"]) == ["experts", "exact"]
    fit = json.loads((tmp_path / "run" / "mixture.json").read_text())["fits"]["tars"]
    assert fit["mixture"] is None
    assert fit["offset"]["bias"] > 0


def test_pass_two_decodes_nothing_where_there_is_a_cache(small, data, tmp_path, monkeypatch):
    """Without the cache pass 2 needs the shards again; with it they may be gone."""
    tars = tmp_path / "tars"
    write_tar(tars / "a.tar", make_images(20), LABELS[:20])
    run_pass = Passes.__call__

    def then_lose_the_images(passes, stage):
        run_pass(passes, stage)
        (tars / "a.tar").write_bytes(b"")

    monkeypatch.setattr(Passes, "__call__", then_lose_the_images)
    datasets = [{"name": "set", "path": str(tars)}]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets)
    result = run(job)
    assert "crop cache at" in result.output
    assert len(predictions(tmp_path / "run", "set")) == 20
    assert not (tmp_path / "run" / "cache").exists()


def test_a_kept_cache_serves_the_next_run(small, data, tmp_path):
    compute = {"cache": str(tmp_path / "cache"), "keep_cache": True, "chunk_size": 16}
    datasets = [{"name": "tars", "path": str(data / "tars")}]
    for name in ("one", "two"):
        job = small.job_file(tmp_path / f"{name}.yaml", tmp_path / name, datasets, compute=compute)
        run(job)
        files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.crops")}
        if name == "one":
            before = files
    assert files == before
    assert len(files) == 4  # chunks of 16 of 20 and 25 samples
    assert_same(predictions(tmp_path / "one", "tars"), predictions(tmp_path / "two", "tars"))


@pytest.mark.parametrize("clusters", [2, "exact"])
def test_lower_precision_reports_its_agreement_with_float32(first, small, data, tmp_path, clusters):
    """Every eighth sample of chunks that are drawn, the data set's first among them."""
    compute = {"precision": "bfloat16", "chunk_size": 16}
    job = small.job_file(
        tmp_path / "job.yaml",
        tmp_path / "run",
        [{"name": "folder", "path": str(data / "folder")}],
        compute=compute,
        mixture={"clusters": clusters},
    )
    result = run(job)
    rows = predictions(tmp_path / "run", "folder")
    compared = rows["float32_prediction"].notna()
    assert list(np.flatnonzero(compared)) == [0, 8]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    equal = int((rows["float32_prediction"] == rows["prediction"])[compared].sum())
    assert report["datasets"][0]["float32_agreement"] == {"rows": 2, "equal": equal}
    assert report["compute"]["precision"] == "bfloat16"
    assert f"{equal} of 2 sampled predictions agree with float32" in result.output
    # the towers ran in bfloat16, whose 8 bits give entropies that are close, and not equal
    difference = np.stack(rows["expert_entropy"]) - np.stack(
        predictions(first, "folder")["expert_entropy"]
    )
    assert 1e-5 < np.abs(difference).max() < 0.3


def test_a_run_is_not_continued_in_another_precision(small, data, tmp_path):
    datasets = [{"name": "tars", "path": str(data / "tars")}]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", datasets)
    run(job)
    (tmp_path / "run" / "manifest.json").unlink()
    result = CliRunner().invoke(app, ["run", job, "compute.precision=bfloat16"])
    assert result.exit_code == 2
    assert "precision: float32 there, bfloat16 here" in result.output
