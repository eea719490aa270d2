"""The job files under jobs/, on miniature data in the layouts that they name."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import load_job
from tests.conftest import MODEL_CONFIG, expert_state, make_images

JOBS = Path(__file__).parents[2] / "jobs"
# WordNet id -> index among ImageNet's classes, and their places in ImageNet-R's and -A's lists
TENCH, GOLDFISH, BACKPACK = "n01440764", "n01443537", "n02769748"


@pytest.fixture
def suite(small, tmp_path) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Overrides that point the suite's job at miniature data; the label of each sample."""
    torch.manual_seed(0)
    experts = []
    for seed in range(2):
        state = expert_state(seed)
        state["classification_head.weight"] = 8 * torch.randn(1000, MODEL_CONFIG["embed_dim"])
        state["classification_head.bias"] = torch.zeros(1000)
        experts.append(tmp_path / f"{seed}.safetensors")
        save_file(state, experts[-1])
    data = tmp_path / "data"
    layouts = {
        "imagenet": ("imagenet/val", {TENCH: 0, GOLDFISH: 1, BACKPACK: 414}),
        "imagenet-v2": ("imagenetv2", {"0": 0, "10": 10, "2": 2, "999": 999}),
        "imagenet-r": ("imagenet-r", {GOLDFISH: 0, "n01484850": 1}),
        "imagenet-a": ("imagenet-a", {"n01498041": 0, "n01531178": 1}),
        "imagenet-sketch": ("sketch", {TENCH: 0, BACKPACK: 414}),
        "objectnet": (
            "objectnet-1.0/images",
            {"alarm_clock": 0, "backpack": 1, "t-shirt": 2, "bath_towel_of_no_class": None},
        ),
    }
    images, labels = iter(make_images(64)), {}
    for name, (root, folders) in layouts.items():
        labels[name] = {}
        for folder, label in folders.items():
            for i in range(2):
                path = data / root / folder / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(next(images))
                if label is not None:
                    labels[name][f"{folder}/{i}.png"] = label
    mapping = data / "objectnet-1.0/mappings/objectnet_to_imagenet_1k.json"
    mapping.parent.mkdir()
    mapping.write_text(
        json.dumps(
            {
                "Alarm clock": "analog clock; digital clock",
                "Backpack": "backpack, back pack, knapsack, packsack, rucksack, haversack",
                "T-shirt": "jersey, T-shirt, tee shirt",
            }
        )
    )
    overrides = [f"run_dir={tmp_path / 'run'}", f"model.architecture={small.config}"]
    overrides.append("compute.engine=local")
    overrides += [f"experts.{i}.checkpoint={path}" for i, path in enumerate(experts)]
    overrides += [f"datasets.{i}.path={data / root}" for i, (root, _) in
                  enumerate(layouts.values())]  # fmt: skip
    overrides += [f"datasets.5.classes={mapping}", "baselines.static=[0, 0.5, 1]"]
    return overrides, labels


def test_the_imagenet_suite(suite, tmp_path, caplog):
    overrides, labels = suite
    result = CliRunner().invoke(app, ["run", str(JOBS / "imagenet_suite.yaml"), *overrides])
    assert result.exit_code == 0, result.output
    for name, expected in labels.items():
        rows = pd.read_parquet(tmp_path / "run" / "predictions" / f"dataset={name}")
        assert dict(zip(rows["sample_id"], rows["label"], strict=True)) == expected, name
    assert "3 of 4 folders are of its classes" in caplog.text
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert found["suite"]["datasets"] == list(labels)[1:]
    # ObjectNet's classes are maxima over groups of the head's
    rows = pd.read_parquet(tmp_path / "run" / "predictions" / "dataset=objectnet")
    assert np.stack(rows["expert_prediction"]).max() <= 2


def test_every_job_file_is_valid():
    files = sorted(JOBS.glob("*.yaml"))
    assert len(files) >= 2
    for path in files:
        assert load_job(str(path)).datasets
