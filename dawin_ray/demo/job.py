"""The demo's job file, and its experts for those who want only them."""

from pathlib import Path

import yaml

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import DATASETS, write_datasets
from dawin_ray.models import ExpertConfig, HeadSpec, ModelConfig, ModelSpec

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
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path
