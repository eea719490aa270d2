"""jobs/multi_task.yaml on miniature data in the layouts that its eight data sets come in."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import load_job
from dawin_ray.job.prepare import prepare
from tests.conftest import MODEL_CONFIG, expert_state, make_images, write_tar
from tests.unit.data.layouts import write_cars, write_idx, write_svhn

JOB = str(Path(__file__).parents[2] / "jobs" / "multi_task.yaml")
CLASSES = {
    "sun397": 397, "cars": 196, "resisc45": 45, "eurosat": 10, "svhn": 10, "gtsrb": 43,
    "mnist": 10, "dtd": 47,
}  # fmt: skip
RNG = np.random.default_rng(0)


def folders(root: Path, *names: str) -> None:
    """Images at paths below a root; ends decide how they are encoded."""
    for name, image in zip(names, make_images(len(names)), strict=True):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ppm":
            Image.open(io.BytesIO(image)).save(path)
        else:
            path.write_bytes(image)


def write_data(data: Path) -> dict[str, dict[str, int]]:
    """The eight test sets, a few images each; the label of each sample."""
    folders(data / "sun397/val", "abbey/1.jpg", "airport_terminal/2.jpg", "youth_hostel/3.jpg")
    folders(data / "stanford_cars/cars_test", "00001.jpg", "00002.jpg")
    annotations = data / "stanford_cars/cars_test_annos_withlabels.mat"
    write_cars(annotations, ["00001.jpg", "00002.jpg"], [180, 0])
    scenes = ["airplane/airplane_001.jpg", "airplane/airplane_002.jpg",
              "baseball_diamond/baseball_diamond_007.jpg"]  # fmt: skip
    folders(data / "resisc45/NWPU-RESISC45", *scenes)
    chosen = "airplane_002.jpg\nbaseball_diamond_007.jpg\n"
    (data / "resisc45/resisc45-test.txt").write_text(chosen)
    folders(data / "EuroSAT_splits/test", "AnnualCrop/1.jpg", "HerbaceousVegetation/2.jpg",
            "SeaLake/3.jpg")  # fmt: skip
    write_svhn(data / "svhn/test_32x32.mat", RNG.integers(0, 256, (2, 32, 32, 3), np.uint8), [5, 0])
    folders(data / "gtsrb/GTSRB/Final_Test/Images", "00000.ppm", "00001.ppm")
    table = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    table += "00000.ppm;53;54;6;5;48;49;16\n00001.ppm;42;45;5;5;36;40;1\n"
    (data / "gtsrb/GT-final_test.csv").write_text(table)
    write_idx(data / "MNIST/raw", RNG.integers(0, 256, (2, 28, 28), np.uint8), [7, 2])
    folders(data / "dtd/val", "banded/banded_0002.jpg", "zigzagged/zigzagged_0001.jpg")
    return {
        "sun397": {"abbey/1.jpg": 0, "airport_terminal/2.jpg": 2, "youth_hostel/3.jpg": 396},
        "cars": {"00001.jpg": 180, "00002.jpg": 0},
        "resisc45": {scenes[1]: 0, scenes[2]: 2},
        "eurosat": {"AnnualCrop/1.jpg": 0, "HerbaceousVegetation/2.jpg": 2, "SeaLake/3.jpg": 9},
        "svhn": {"test_32x32.mat/0": 5, "test_32x32.mat/1": 0},
        "gtsrb": {"00000.ppm": 16, "00001.ppm": 1},
        "mnist": {"t10k-images-idx3-ubyte/0": 7, "t10k-images-idx3-ubyte/1": 2},
        "dtd": {"banded/banded_0002.jpg": 0, "zigzagged/zigzagged_0001.jpg": 46},
    }


@pytest.fixture
def here(small, tmp_path, monkeypatch) -> list[str]:
    """A working directory with checkpoints as the job names them; overrides for tiny ones."""
    monkeypatch.chdir(tmp_path)
    job = load_job(JOB)
    for seed, address in enumerate([job.merge.base, *(e.checkpoint for e in job.experts)]):
        state = {k: v for k, v in expert_state(seed).items() if k.startswith("visual.")}
        Path(address).parent.mkdir(parents=True, exist_ok=True)
        save_file(state, address)
    for dataset in job.datasets:
        weight = 8 * torch.randn(CLASSES[dataset.name], MODEL_CONFIG["embed_dim"])
        save_file({"classification_head.weight": weight}, dataset.head.checkpoint)
    return [f"model.architecture={small.config}", "compute.engine=local"]


def test_every_data_set_is_read_in_its_layout(here, tmp_path):
    labels = write_data(tmp_path / "data")
    result = CliRunner().invoke(app, ["run", JOB, *here])
    assert result.exit_code == 0, result.output
    for name, expected in labels.items():
        rows = pd.read_parquet(tmp_path / "runs/multi-task/predictions" / f"dataset={name}")
        assert dict(zip(rows["sample_id"], rows["label"], strict=True)) == expected, name
        assert rows["prediction"].between(0, CLASSES[name] - 1).all()


def test_webdatasets_and_the_hubs_parquet_do_as_well(here, tmp_path):
    write_data(tmp_path / "data")
    images, data = make_images(4), tmp_path / "data"
    for i in range(2):
        write_tar(data / f"wds_mnist/test/{i}.tar", images[2 * i : 2 * i + 2], [7, 2])
    (data / "wds_mnist/test/nshards.txt").write_text("2")
    (data / "wds_mnist/classnames.txt").write_text("".join(f"{i}\n" for i in range(10)))
    names = ["forest", "annual crop land"]  # another order than the head's
    info = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
    for split in ("test", "contrast", "train"):
        table = pa.table(
            {"image": [{"bytes": image, "path": None} for image in images[:2]], "label": [0, 1]}
        ).replace_schema_metadata({"huggingface": json.dumps({"info": info})})
        path = data / f"eurosat/data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    job = load_job(
        JOB,
        [
            *here,
            f"datasets.6.path={data}/wds_mnist/test", "datasets.6.format=null",
            f"datasets.3.path={data}/eurosat/data/test-*.parquet",
        ],
    )  # fmt: skip
    prepared = prepare(job)
    mnist, eurosat = prepared.sources["mnist"], prepared.sources["eurosat"]
    assert (mnist.listing.format, len(mnist.listing.files)) == ("webdataset", 2)
    assert [name for name, _ in eurosat.listing.files] == ["test-00000-of-00001.parquet"]
    # the labels of its own order are those of the head's classes, by their names
    assert prepared.spec.tasks["eurosat"].classes.members == ((1,), (0,))
