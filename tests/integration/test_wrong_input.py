"""Wrong input ends with exit code 2 and one message that names the thing and the remedy."""

import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from dawin_ray.cli import app
from tests.conftest import CLASSES, MODEL_CONFIG, make_images, write_folder, write_tar


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def job(small, tmp_path) -> dict:
    """A job that would run: two images in class folders."""
    write_folder(tmp_path / "images", make_images(2), [0, 1])
    return small.job(tmp_path / "run", [{"name": "set", "path": str(tmp_path / "images")}])


def outcome(job: dict, tmp_path: Path, *options: str) -> str:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    result = CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml"), *options])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert sum(line.startswith("Error: ") for line in result.output.splitlines()) == 1
    return result.output


def test_unknown_key(job, tmp_path):
    job["compute"]["batchsize"] = 3
    message = outcome(job, tmp_path)
    assert "compute.batchsize: unknown key" in message
    assert "Did you mean 'batch_size'?" in message
    assert "precision" in message


def test_missing_checkpoint(job, tmp_path):
    job["experts"][1]["checkpoint"] = "gone/fine_tuned.pt"
    message = outcome(job, tmp_path)
    assert "checkpoint 'gone/fine_tuned.pt'" in message
    assert "does not exist" in message
    assert "Check the path" in message


def test_unknown_architecture(job, tmp_path):
    job["model"]["architecture"] = "ViT-B-23"
    message = outcome(job, tmp_path)
    assert "'ViT-B-23'" in message
    assert "Did you mean ViT-B-32" in message


def test_architecture_of_another_model(job, tmp_path):
    job["model"]["architecture"] = "RN50"
    message = outcome(job, tmp_path)
    assert "does not fit the architecture 'RN50'" in message
    assert "expert_0" in message
    assert "Check model.architecture" in message


def changed(job: dict, tmp_path: Path, **tensors) -> None:
    state = load_file(job["experts"][1]["checkpoint"]) | tensors
    job["experts"][1]["checkpoint"] = str(tmp_path / "changed.safetensors")
    save_file(state, tmp_path / "changed.safetensors")


def test_tensor_of_another_shape(job, tmp_path):
    features = MODEL_CONFIG["embed_dim"]
    head = {
        "classification_head.weight": torch.ones(CLASSES + 1, features),
        "classification_head.bias": torch.ones(CLASSES + 1),
    }
    changed(job, tmp_path, **head)
    message = outcome(job, tmp_path)
    assert "'heads.checkpoint.weight' has shape [7, 16] in 'expert_1' but [6, 16]" in message
    assert "share one architecture" in message


def test_head_whose_parts_do_not_fit(job, tmp_path):
    features = MODEL_CONFIG["embed_dim"]
    changed(job, tmp_path, **{"classification_head.weight": torch.ones(CLASSES + 1, features)})
    message = outcome(job, tmp_path)
    assert "'classification_head.bias' of 'expert_1' has shape [6]; expected [7]" in message
    assert "Save the whole head again" in message


def test_nan_weights(job, tmp_path):
    changed(job, tmp_path, **{"visual.proj": torch.full((32, 16), torch.nan)})
    message = outcome(job, tmp_path)
    assert "'visual.proj' of 'expert_1' holds 512 NaN" in message
    assert "export it again" in message


@pytest.mark.parametrize("kind", ["payload", "module"])
def test_pickle_as_checkpoint(job, tmp_path, kind):
    content = {"w": Payload(tmp_path / "created")} if kind == "payload" else nn.Linear(2, 2)
    torch.save(content, tmp_path / "model.pt")
    job["experts"][0]["checkpoint"] = str(tmp_path / "model.pt")
    message = outcome(job, tmp_path)
    assert "model.pt" in message
    assert "nothing is ever unpickled" in message
    assert "state_dict()" in message
    assert not (tmp_path / "created").exists()


def test_empty_data_set(job, tmp_path):
    (tmp_path / "empty").mkdir()
    job["datasets"][0]["path"] = str(tmp_path / "empty")
    message = outcome(job, tmp_path)
    assert "Data set 'set'" in message
    assert "is empty" in message
    assert "Check the path" in message


def test_files_but_no_images(job, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("none")
    job["datasets"][0] |= {"path": str(tmp_path / "text"), "format": "folder"}
    message = outcome(job, tmp_path)
    assert "no images (.jpg, .jpeg, .png, .webp) among its 1 files" in message


def test_unknown_class_list(job, tmp_path):
    job["datasets"][0]["classes"] = "imagenet-z"
    message = outcome(job, tmp_path)
    assert "data set 'set' (imagenet-z)" in message
    assert "imagenet-a, imagenet-r" in message


def test_folder_label_outside_the_classes(job, tmp_path):
    job["datasets"][0]["classes"] = str(tmp_path / "classes.txt")
    (tmp_path / "classes.txt").write_text("0\n3\n")
    message = outcome(job, tmp_path)
    assert "Label 2 of folder 'class_2' in data set 'set' is outside its classes 0..1" in message
    assert "datasets[].classes" in message


def test_label_outside_the_classes_found_while_reading(job, tmp_path):
    write_tar(tmp_path / "tars" / "s.tar", make_images(3), [0, CLASSES, 1])
    job["datasets"][0]["path"] = str(tmp_path / "tars")
    job["max_reject_fraction"] = 0.01
    message = outcome(job, tmp_path)
    assert "Data set 'set': 1 of 3 samples were rejected" in message
    assert "s.tar/0001: label 6 is outside the classes 0..5" in message
    assert "raise max_reject_fraction" in message


def test_no_image_that_can_be_used(job, tmp_path):
    write_tar(tmp_path / "tars" / "s.tar", [b"not an image"] * 3, None)
    job["datasets"][0]["path"] = str(tmp_path / "tars")
    message = outcome(job, tmp_path)
    assert "Data set 'set' has no usable image: 3 samples were read and all rejected:" in message
    assert "3 x cannot be decoded" in message
    assert "s.tar/0000: cannot be decoded" in message


def test_more_gpus_than_there_are(job, tmp_path, local_ray):
    job["compute"] |= {"engine": "ray", "device": "cuda", "actors": 40}
    message = outcome(job, tmp_path)
    assert "asks for 40 GPU actors" in message
    assert "Lower compute.actors" in message


@pytest.mark.parametrize("address", ["nowhere://bucket/images", "http://127.0.0.1:9/images"])
def test_unreadable_address(job, tmp_path, address):
    job["datasets"][0]["path"] = address
    message = outcome(job, tmp_path)
    assert address in message
    assert "Expected a local path" in message or "Check the path" in message


def test_missing_job_file(tmp_path):
    result = CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml")])
    assert result.exit_code == 2
    assert "job file" in result.output


def test_run_dir_that_cannot_be_written(job, tmp_path):
    (tmp_path / "file").write_text("in the way")
    job["run_dir"] = str(tmp_path / "file" / "run")
    message = outcome(job, tmp_path)
    assert "run_dir" in message
    assert str(tmp_path / "file" / "run") in message


def test_verbose_shows_the_traceback(job, tmp_path, caplog):
    job["datasets"][0]["path"] = str(tmp_path / "gone")
    outcome(job, tmp_path, "--verbose")
    assert any(record.exc_info for record in caplog.records)
