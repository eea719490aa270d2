"""The demo's job file."""

from pathlib import Path

import yaml

from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import DATASETS, write_datasets

STATIC = [round(0.1 * i, 1) for i in range(11)]  # WiSE-FT's curve


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
