"""Small, real inputs: an open_clip ViT of 60,000 parameters, its experts, and noisy images."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from dawin_ray.engine import ray_cluster
from dawin_ray.models import clip
from dawin_ray.storage import lock

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # as many workers as cores: more threads only wait for each other

# Of what a shell began in its background, Python heeds no Ctrl-C, and tests send some.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray runs its workers with a niceness of 15: beside tests that take the cores they would get a
# thirtieth of one, and take minutes to start. Read when a Ray starts.
os.environ.setdefault("RAY_worker_niceness", "0")


# What every worker imports. In a new environment each would compile it, at the same time.
LIBRARIES = ("open_clip", "ray.data", "moto.server", "scipy.stats", "sklearn.metrics",
             "statsmodels.stats.proportion")  # fmt: skip


@pytest.hookimpl(optionalhook=True)  # where xdist is
def pytest_xdist_setupnodes():
    """What is not compiled yet is compiled once, in a process of its own, before workers start."""
    packages = (find_spec(name.partition(".")[0]) for name in LIBRARIES)
    if not all(package is None or Path(package.cached).exists() for package in packages):
        subprocess.run([sys.executable, "-c", f"import {', '.join(LIBRARIES)}"], check=False)


def pytest_collection_modifyitems(items):
    """Tests of cluster/ import Ray, which settles how it begins: behind those that start one."""
    items.sort(key=lambda item: item.path.parent.name == "cluster")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files stay together (`--dist loadfile`), and so do all whose tests share one Ray.

    They begin in their order, Ray and integration first: xdist would begin with the files of most
    tests, and end with those of few and long ones, for which other workers wait.
    """
    from xdist.scheduler import LoadFileScheduling  # not where tests run alone

    config.option.loadscopereorder = False

    class WithOneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if "local_ray" in (config.rootpath / file).read_text() else file

    return WithOneRay(config, log)


CLASSES = 6
MODEL_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Small:
    """Paths of a model config and of three experts' checkpoints with heads of CLASSES classes."""

    folder: Path
    config: str
    checkpoints: tuple[str, ...]

    def job(self, run_dir: Path, datasets: list[dict], **sections) -> dict:
        """A job of the first two experts over `datasets`, as plain values.

        It runs in this process; what Ray does is shown by tests that ask for it.
        """
        compute = {"engine": "local", "batch_size": 16, "chunk_size": 16}
        job = {
            "run_dir": str(run_dir),
            "model": {"architecture": self.config},
            "experts": [
                {"name": f"expert_{i}", "checkpoint": path, "temperature": 0.9 + 0.1 * i}
                for i, path in enumerate(self.checkpoints[:2])
            ],
            "datasets": datasets,
            "mixture": {"clusters": 2},
            "max_reject_fraction": 1,
            "max_broken_shards": 9,
        }
        return job | sections | {"compute": compute | sections.get("compute", {})}

    def job_file(self, path: Path, *args, **sections) -> str:
        """The same as a file."""
        path.write_text(yaml.safe_dump(self.job(*args, **sections)))
        return str(path)


def expert_state(seed: int) -> dict[str, torch.Tensor]:
    """A random visual tower with a head, sharp enough for entropies to differ by sample."""
    torch.manual_seed(seed)
    model = clip.model.CLIP(**MODEL_CONFIG)
    state = {f"visual.{k}": v for k, v in model.visual.state_dict().items()}
    state["classification_head.weight"] = 8 * torch.randn(CLASSES, MODEL_CONFIG["embed_dim"])
    state["classification_head.bias"] = torch.randn(CLASSES)
    return {k: v.contiguous() for k, v in state.items()}


def whole_state(seed: int) -> dict[str, torch.Tensor]:
    """A random CLIP with its text tower, for zero-shot heads."""
    torch.manual_seed(seed)
    return {k: v.contiguous() for k, v in clip.model.CLIP(**MODEL_CONFIG).state_dict().items()}


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    config = folder / "tiny.json"
    config.write_text(json.dumps(MODEL_CONFIG))
    paths = []
    for seed in range(3):
        paths.append(str(folder / f"expert_{seed}.safetensors"))
        save_file(expert_state(seed), paths[-1])
    return Small(folder, str(config), tuple(paths))


def make_images(count: int, seed: int = 0) -> list[bytes]:
    """Encoded images of various sizes: JPEG and PNG in turn."""
    rng = np.random.default_rng(seed)
    encoded = []
    for i in range(count):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        size = (int(rng.integers(33, 70)), int(rng.integers(33, 70)))
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
            buffer, format=("JPEG", "PNG")[i % 2]
        )
        encoded.append(buffer.getvalue())
    return encoded


def write_folder(root: Path, images: list[bytes], labels: list[int]) -> Path:
    """root/class_<label>/<i>.jpg|png; all CLASSES folders exist."""
    for label in range(CLASSES):
        (root / f"class_{label}").mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / f"class_{label}" / f"{i:04d}.{('jpg', 'png')[i % 2]}").write_bytes(image)
    return root


def write_tar(path: Path, images: list[bytes], labels: list[int] | None, start: int = 0) -> Path:
    """One WebDataset shard with keys of four digits; without labels there are no .cls members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, image in enumerate(images, start):
            members = {("jpg", "png")[i % 2]: image}
            if labels is not None:
                members["cls"] = str(labels[i - start]).encode()
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{i:04d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, images: list[bytes], labels: list[int] | None) -> Path:
    """One Parquet file with Hugging Face's image struct."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [{"bytes": image, "path": None} for image in images]}
    if labels is not None:
        columns["label"] = labels
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="session", autouse=True)
def alone():
    """No other run is after the same lock at the same moment: nothing is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "SETTLE_SECONDS", 0.02)
        yield


@pytest.fixture(scope="session")
def local_ray():
    """One Ray on loopback for all tests of what only Ray does; starting it takes seconds."""
    before = signal.getsignal(signal.SIGTERM)
    with ray_cluster.ray_session(None):
        signal.signal(signal.SIGTERM, before)  # other tests are told of a process without Ray's
        yield
