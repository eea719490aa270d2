"""The demo's job files, and its experts for those who want only them."""

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG, TASKS_CONFIG, TASKS_PACKED
from dawin_ray.demo.datasets import DATASETS, write_datasets, write_shards
from dawin_ray.demo.packed import BASE, unpack
from dawin_ray.demo.tasks import TASKS, make_test_set
from dawin_ray.method import TASK_SCALE
from dawin_ray.models import HEAD, ExpertConfig, HeadSpec, ModelConfig, ModelSpec

STATIC = [round(0.1 * i, 1) for i in range(11)]  # WiSE-FT's curve


def model_spec(folder: Path | None = None) -> ModelSpec:
    """The demo's two experts, or those of the same names in a folder."""
    experts = tuple(
        ExpertConfig(name=name, checkpoint=str(path if folder is None else folder / path.name))
        for name, path in CHECKPOINTS.items()
    )
    model = ModelConfig(architecture=str(MODEL_CONFIG))
    return ModelSpec(config=model, experts=experts, base=None, heads=(HeadSpec(),))


def write_job(folder: Path) -> Path:
    """Write the demo's images and its job file under `folder`; returns the job file's path."""
    data = folder / "data"
    if not (folder / "job.yaml").exists():
        write_datasets(data)
    job = {
        "run_dir": str(folder / "run"),
        "model": {"architecture": str(MODEL_CONFIG)},
        "experts": [{"name": name, "checkpoint": str(path)} for name, path in CHECKPOINTS.items()],
        "datasets": [{"name": name, "path": str(data / name)} for name in DATASETS],
        "mixture": {"clusters": 3},
        "in_distribution": next(iter(DATASETS)),
        "baselines": {
            "static": STATIC,
            "exact": True,
            "oracle": True,
            "random": True,
            "fits": [{"clusters": 10}, {"offset_adjustment": True}],
        },
    }
    return _write(job, folder)


def write_tasks_job(folder: Path) -> Path:
    """Write the second suite's images, models and job file under `folder`; the job file's path."""
    data, models = folder / "data", folder / "models"
    if not (folder / "job.yaml").exists():
        write_shards(data, {name: make_test_set(name) for name in TASKS})
        write_models(models)
    job = {
        "run_dir": str(folder / "run"),
        "model": {"architecture": str(TASKS_CONFIG)},
        "experts": [
            {"name": name, "checkpoint": str(models / f"{name}.safetensors")} for name in TASKS
        ],
        "merge": {"base": str(models / f"{BASE}.safetensors")},
        "datasets": [
            {
                "name": name,
                "path": str(data / name),
                "head": {"checkpoint": str(models / f"head_{name}.safetensors")},
                "expert": name,
            }
            for name in TASKS
        ],
        # one cluster by moments is the mean of the coefficients, the reference's default
        "mixture": {"clusters": 3, "estimator": "moments"},
        "baselines": {
            "output_ensembles": False,  # each head is one task's: experts of others know nothing
            "even_interpolation": False,  # that is task arithmetic
            "own_expert": True,
            "base": True,
            "averaging": True,
            "task_arithmetic": [TASK_SCALE],
            "ties": {},  # the reference's share and scale
            "exact": True,
            "oracle": True,
            "fits": [{"clusters": 1}],
        },
    }
    return _write(job, folder)


def write_models(folder: Path) -> None:
    """Write the second suite's base and experts (`visual.*`) and its heads as checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    models, heads = unpack(TASKS_PACKED)
    files: dict[str, dict[str, torch.Tensor]] = models | {
        f"head_{task}": {f"{HEAD}.weight": weight} for task, weight in heads.items()
    }
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")


def _write(job: dict[str, Any], folder: Path) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path
