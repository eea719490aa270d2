"""The reference's multi-task figures, unpacked: those beside this file, and the whole set.

`multitask/` has three experts of eight. Where the whole set lies beside the project, in
`../shared/golden/multitask`, tests run on all eight too.
"""

import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from dawin_ray.cli import app

HERE = Path(__file__).parent / "multitask"
WHOLE = Path(__file__).parents[3] / "shared" / "golden" / "multitask"
LOGITS = 1e-4  # logits reach 24, and float32 in another order of sums moves them by 1e-5


@dataclass(frozen=True)
class Golden:
    """Checkpoints, heads and images of M tasks in a folder, and what the reference makes of them.

    `figures` are those of figures.json, `arrays` those of figures.npz without their `M<M>|`.
    """

    count: int
    folder: Path
    source: Path
    figures: dict = field(repr=False)

    @property
    def tasks(self) -> list[str]:
        return self.figures[f"M{self.count}"]["tasks"]

    @property
    def base(self) -> str:
        return str(self.source / "base.safetensors")

    def expert(self, task: str) -> str:
        return str(self.folder / "experts" / f"{task}.safetensors")

    def head(self, task: str) -> str:
        return str(self.source / "heads" / f"{task}.safetensors")

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.source / "figures.npz") as stored:
            return {name: stored[name] for name in stored.files}

    def array(self, method: str, task: str) -> np.ndarray:
        """Such as logits [N, C] of a method, in the order of `images(task)`."""
        return self.arrays[f"M{self.count}|{method}|{task}"]

    def images(self, task: str) -> list[str]:
        """Sample ids."""
        return self.figures["tasks"][task]["images"]

    def job(self, run_dir: Path, **sections) -> dict:
        """A job of all tasks, in this process."""
        none = {"even_interpolation": False, "output_ensembles": False}
        return {
            "run_dir": str(run_dir),
            "model": {"architecture": str(self.source / "model_config.json")},
            "experts": [{"name": task, "checkpoint": self.expert(task)} for task in self.tasks],
            "datasets": [
                {"name": task, "path": str(self.folder / "images" / task), "expert": task,
                 "head": {"checkpoint": self.head(task)}}
                for task in self.tasks
            ],
            "merge": {"base": self.base, "scale": self.figures["scale"]},
            "baselines": none,
            "compute": {"engine": "local"},
        } | sections  # fmt: skip

    def run(self, run_dir: Path, **sections) -> Path:
        """Run that job by the command, from a job file."""
        job_file = run_dir.with_suffix(".yaml")
        job_file.write_text(yaml.safe_dump(self.job(run_dir, **sections)))
        result = CliRunner().invoke(app, ["run", str(job_file)])
        assert result.exit_code == 0, result.output
        return run_dir

    def predictions(self, run_dir: Path, task: str) -> pd.DataFrame:
        """A task's rows of a run, in the order of its images."""
        rows = pd.read_parquet(run_dir / "predictions" / f"dataset={task}").set_index("sample_id")
        rows = rows.loc[self.images(task)]
        assert rows["label"].tolist() == self.figures["tasks"][task]["labels"]
        return rows


def unpack(archive: Path, folder: Path) -> None:
    """The plain files of a tar; `extractall` has no filter for them before Python 3.11.4."""
    with tarfile.open(archive) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())


def golden(count: int, folder: Path) -> Golden | None:
    """The set of `count` tasks, unpacked into `folder`; None where it is not there."""
    source = HERE if count == 3 else WHOLE
    if not source.exists():
        return None
    figures = json.loads((source / "figures.json").read_text())
    made = Golden(count, folder, source, figures)
    (folder / "experts").mkdir(parents=True)
    if source == WHOLE:
        for task in made.tasks:
            Path(made.expert(task)).symlink_to(source / "experts" / f"{task}.safetensors")
        unpack(source / "images.tar", folder)
        return made
    with zipfile.ZipFile(source / "images.zip") as images:
        images.extractall(folder)
    base = load_file(made.base)
    for task, planes in np.load(source / "experts.npz").items():
        save_file(_from_planes(planes, base), made.expert(task))
    return made


def _from_planes(planes: np.ndarray, base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An expert: of its tower the bits that differ from the base's, as four planes of bytes."""
    tower = [name for name in sorted(base) if name.startswith("model.visual.")]
    bits = np.ascontiguousarray(planes.T).view(np.uint32).ravel()
    ends = np.cumsum([base[name].size for name in tower])
    parts = np.split(bits, ends[:-1])
    return base | {
        name: (base[name].view(np.uint32) ^ part.reshape(base[name].shape)).view(np.float32)
        for name, part in zip(tower, parts, strict=True)
    }
