"""Faults that are planted in the demo's data: each is named first, and ends with exit code 4."""

import html
import json
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dawin_ray.cli import EXIT_DOUBT, app
from dawin_ray.demo import CHECKPOINTS, MODEL_CONFIG
from dawin_ray.demo.datasets import make_test_set, write_shards
from dawin_ray.demo.job import write_job, write_tasks_job
from dawin_ray.demo.tasks import make_test_set as make_task
from dawin_ray.report.doctor import UNCOUNTED
from dawin_ray.report.doubts import KINDS

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
IMAGES = 300


@dataclass
class Planted:
    """A job on some of the demo's digits, to plant a fault in before it is written."""

    folder: Path
    images: np.ndarray
    labels: np.ndarray
    job: dict[str, Any]
    written: bool = False

    @classmethod
    def at(cls, folder: Path, rows: int = IMAGES) -> "Planted":
        images, labels = make_test_set("digits")
        job = {
            "run_dir": str(folder / "run"),
            "model": {"architecture": str(MODEL_CONFIG)},
            "experts": [{"name": n, "checkpoint": str(path)} for n, path in CHECKPOINTS.items()],
            "datasets": [{"name": "digits", "path": str(folder / "data" / "digits")}],
            "mixture": {"clusters": 2},
            "baselines": {"even_interpolation": False, "output_ensembles": False},
            "compute": {"engine": "local"},
        }
        return cls(folder, images[:rows].copy(), labels[:rows].copy(), job)

    def write_folders(self, names=NAMES) -> None:
        """Class folders in the place of shards."""
        root = self.folder / "folders"
        for i, (image, label) in enumerate(zip(self.images, self.labels, strict=True)):
            (root / names[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / names[label] / f"{i:04d}.png")
        self.job["datasets"][0]["path"] = str(root)
        self.written = True

    def write_names(self, names=NAMES) -> str:
        path = self.folder / "names.txt"
        path.write_text("\n".join(names) + "\n")
        return str(path)

    def change(self, expert: int, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
        """Change an expert's weights."""
        state = load_file(self.job["experts"][expert]["checkpoint"])
        change(state)
        path = self.folder / f"changed_{expert}.safetensors"
        save_file(state, path)
        self.job["experts"][expert]["checkpoint"] = str(path)

    def run(self, *options: str):
        if not self.written:
            write_shards(self.folder / "data", {"digits": (self.images, self.labels)})
            self.written = True
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(self.job))
        result = CliRunner().invoke(app, ["run", str(path), *options])
        run = Path(self.job["run_dir"])
        return SimpleNamespace(
            code=result.exit_code,
            output=result.output,
            doubts=json.loads((run / "report.json").read_text())["doubts"],
            audit=json.loads((run / "audit.json").read_text()),
            page=(run / "report.html").read_text(),
        )


@dataclass(frozen=True)
class Fault:
    """How it is planted, and what of the doctor's words must be there."""

    plant: Callable[[Planted], None]
    kind: str
    words: str = ""
    rows: int = IMAGES
    also: AbstractSet[str] = frozenset()  # kinds that it brings with it


def relabel(order) -> Callable[[Planted], None]:
    def plant(planted):
        planted.labels = np.asarray(order)[planted.labels]

    return plant


def swap_two(planted):
    order = np.arange(10)
    order[[4, 9]] = 9, 4
    planted.labels = order[planted.labels]


def labels_of_other_images(planted):
    planted.labels = np.random.default_rng(0).permutation(planted.labels)


def labels_of_the_next_image(planted):
    planted.labels = np.roll(planted.labels, 1)


def all_labels_one(planted):
    planted.labels[:] = 3


def one_class_of_the_data(planted):
    of_seven = planted.labels == 7
    planted.images, planted.labels = planted.images[of_seven], planted.labels[of_seven]


def folders_in_sorted_order(planted):
    """The head's classes have no names, so that folders are numbered as they sort."""
    planted.write_folders()


def names_in_sorted_order(planted):
    planted.job["model"]["class_names"] = planted.write_names(sorted(NAMES))
    planted.write_folders()


def one_folder_misspelt(planted):
    planted.job["model"]["class_names"] = planted.write_names()
    planted.job["datasets"][0] |= {
        "skip_other_folders": True, "classes": planted.job["model"]["class_names"],
    }  # fmt: skip
    planted.write_folders([name.replace("seven", "sevne") for name in NAMES])


def another_data_set(planted):
    images, labels = make_task("arrows")
    planted.images, planted.labels = images[:IMAGES], labels[:IMAGES] % 10


def head_in_another_order(planted):
    order = [4, 7, 0, 1, 9, 2, 8, 3, 5, 6]

    def change(state):
        for name in ("weight", "bias"):
            if (key := f"classification_head.{name}") in state:
                state[key] = state[key][order].contiguous()

    planted.change(1, change)


def random_expert(planted):
    def change(state):
        torch.manual_seed(0)
        for key, value in state.items():
            if value.ndim > 1:
                state[key] = value.std() * torch.randn_like(value)

    planted.change(0, change)


def other_patches(planted):
    """One tensor is another model's: the answers are spread over all classes."""

    def change(state):
        torch.manual_seed(0)
        weight = state["visual.conv1.weight"]
        state["visual.conv1.weight"] = weight.std() * torch.randn_like(weight)

    planted.change(0, change)


def head_of_zeros(planted):
    def change(state):
        state["classification_head.weight"].zero_()

    planted.change(0, change)


def another_head(planted):
    """Rows of a head that was trained for other classes."""

    def change(state):
        torch.manual_seed(1)
        weight = state["classification_head.weight"]
        state["classification_head.weight"] = weight.std() * torch.randn_like(weight)

    planted.change(1, change)


def mean_of_bytes(planted):
    """Mean and deviation of values from 0 to 255, as some libraries have them."""
    planted.job["model"]["preprocess"] = {
        "mean": [122.8, 116.7, 104.1], "std": [68.5, 66.6, 70.3],
    }  # fmt: skip


def grey_crops(planted):
    planted.images[::20] = 128


def black_but_for_noise(planted):
    """What a broken decoder leaves: next to nothing of each image."""
    planted.images = (planted.images // 64).astype(np.uint8)


def copies_with_two_labels(planted):
    planted.images[1::20] = planted.images[::20]
    planted.labels[1::20] = (planted.labels[::20] + 3) % 10


def one_image_for_all(planted):
    planted.images[:] = planted.images[0]


def temperature(value: float) -> Callable[[Planted], None]:
    def plant(planted):
        planted.job["experts"][1]["temperature"] = value

    return plant


def one_checkpoint_twice(planted):
    planted.job["experts"][1]["checkpoint"] = planted.job["experts"][0]["checkpoint"]


FAULTS = {
    "labels permuted": Fault(
        relabel([4, 7, 0, 1, 9, 2, 8, 3, 5, 6]), "permuted", "labels look permuted: 0 is called 2"
    ),
    "labels reversed": Fault(relabel(range(9, -1, -1)), "permuted", "0 is called 9, 1 is called 8"),
    "two labels swapped": Fault(swap_two, "permuted", "4 is called 9, 9 is called 4"),
    "labels from one": Fault(relabel([*range(1, 10), 0]), "shifted", "with labels one less"),
    "labels one too small": Fault(relabel([9, *range(9)]), "shifted", "with labels one more"),
    "labels of other images": Fault(labels_of_other_images, "no_better_than_chance"),
    "labels of the next image": Fault(labels_of_the_next_image, "no_better_than_chance"),
    "all labels one": Fault(all_labels_one, "one_label", "of the labels are one class, 3"),
    "one class of the data": Fault(one_class_of_the_data, "one_label", "7", rows=797),
    "folders sorted": Fault(folders_in_sorted_order, "permuted", "0 is called 8, 1 is called 5"),
    "names sorted": Fault(names_in_sorted_order, "permuted", "&#39;eight&#39; is called"),
    "one folder misspelt": Fault(one_folder_misspelt, "absent", "&#39;seven&#39;"),
    "another data set": Fault(another_data_set, "no_better_than_chance"),
    "a head in another order": Fault(head_in_another_order, "head", "expert fine_tuned"),
    "a random expert": Fault(random_expert, "one_answer", "of zero_shot"),
    "patches of another model": Fault(other_patches, "expert_at_chance", "zero_shot"),
    "a head of other classes": Fault(another_head, "expert_at_chance", "fine_tuned"),
    "a head of zeros": Fault(head_of_zeros, "blank", "zero_shot", also={"one_answer"}),
    "mean of bytes": Fault(mean_of_bytes, "one_answer"),
    "grey crops": Fault(grey_crops, "flat", "15 crops (5.0 %)"),
    "copies with two labels": Fault(copies_with_two_labels, "duplicates"),
    "one image for all": Fault(one_image_for_all, "one_answer", also={"certain"}),
    "black images": Fault(black_but_for_noise, "flat", also={"one_answer"}),
    "too sharp": Fault(temperature(1e-3), "certain", "fine_tuned"),
    "too flat": Fault(temperature(1e3), "blank", "fine_tuned"),
    "one checkpoint twice": Fault(one_checkpoint_twice, "same_experts"),
}

QUICK = ("two labels swapped", "labels from one", "names sorted", "a head in another order")


def marked():
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAULTS]


@pytest.mark.parametrize("name", marked())
def test_a_planted_fault_is_named_first_and_ends_with_4(name, tmp_path):
    fault = FAULTS[name]
    planted = Planted.at(tmp_path, fault.rows)
    fault.plant(planted)
    found = planted.run("--fail-on-doubt")
    assert found.code == EXIT_DOUBT == 4, found.output
    assert {doubt["kind"] for doubt in found.doubts} == {fault.kind, *fault.also}
    assert found.audit["doubts"] == found.doubts
    first_screen = found.page[: found.page.index("<table")]
    for doubt in found.doubts:
        assert html.escape(doubt["says"], quote=False).replace("'", "&#39;") in first_screen
        assert doubt["says"] in found.output  # and in the terminal
    assert fault.words in first_screen


def test_twenty_kinds_of_faults_are_planted():
    assert len(FAULTS) >= 20
    assert {fault.kind for fault in FAULTS.values()} == set(KINDS)


def test_a_doubt_is_no_failure_unless_it_is_asked_for(tmp_path):
    planted = Planted.at(tmp_path)
    swap_two(planted)
    assert planted.run().code == 0
    again = planted.run("--fail-on-doubt")  # it is finished: its report is read
    assert again.code == EXIT_DOUBT
    assert "Doubt: permuted. All rows are scored" in again.output


def test_a_sound_run_has_none_and_its_rows_are_what_they_were(tmp_path):
    found = Planted.at(tmp_path).run("--fail-on-doubt")
    assert (found.code, found.doubts) == (0, []), found.output
    assert "The doctor has no doubt of the input." in found.page


def test_runs_of_before_are_read_without_their_crops(tmp_path):
    """Without the columns that came later, in rows and in the report: what else is judged stays."""
    planted = Planted.at(tmp_path)
    copies_with_two_labels(planted)
    assert [doubt["kind"] for doubt in planted.run().doubts] == ["duplicates"]
    run = tmp_path / "run"
    (path,) = (run / "experts" / "dataset=digits").glob("*.parquet")
    table = pq.read_table(path)
    assert table["crop_hash"].null_count == 0
    pq.write_table(table.drop_columns(["crop_hash", "crop_range"]), path)
    report = json.loads((run / "report.json").read_text())
    del report["doubts"], report["datasets"][0]["classes"]
    (run / "report.json").write_text(json.dumps(report))
    result = CliRunner().invoke(app, ["report", str(run)])
    assert result.exit_code == 0, result.output
    assert json.loads((run / "audit.json").read_text())["doubts"] == []
    assert UNCOUNTED in (run / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["shifts", "tasks"])
def test_the_demos_suites_raise_no_doubt(suite, tmp_path):
    path = (write_job if suite == "shifts" else write_tasks_job)(tmp_path)
    job = yaml.safe_load(path.read_text())
    few = {"even_interpolation": False, "output_ensembles": False}
    path.write_text(yaml.safe_dump(job | {"baselines": few, "compute": {"engine": "local"}}))
    result = CliRunner().invoke(app, ["run", str(path), "--fail-on-doubt"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["datasets"]) == 8
    assert report["doubts"] == []
