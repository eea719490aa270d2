"""Data that change before, between and after the passes of a run: never two states in one run."""

import importlib
import os

import pytest

from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job.prepare import prepare
from tests.conftest import CLASSES, make_images, write_folder, write_tar

scoring = importlib.import_module("dawin_ray.job.score")

IMAGES = make_images(24)
LABELS = [i % CLASSES for i in range(24)]


class Said(list):
    """What a run says."""

    def say(self, message: str) -> None:
        self.append(message)

    def phase(self, name, total):
        from contextlib import nullcontext

        return nullcontext(lambda chunk: None)


def job_of(small, tmp_path, kind: str):
    path = tmp_path / "data"
    if kind == "folder":
        write_folder(path, IMAGES, LABELS)
    else:
        write_tar(path / "s.tar", IMAGES, LABELS)
    sets = [{"name": "set", "path": str(path)}]
    compute = {"batch_size": 16, "chunk_size": 16, "cache": "off"}
    return make_job(small.job(tmp_path / "run", sets, compute=compute))


def change(tmp_path, kind: str) -> str:
    """Other bytes of the same size; the name of the file."""
    name = "class_0/0000.jpg" if kind == "folder" else "s.tar"
    path = tmp_path / "data" / name
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-2] + b"xy")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    return name


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_file_that_changes_between_the_passes_stops_the_run(small, tmp_path, monkeypatch, kind):
    job, fit, changed = job_of(small, tmp_path, kind), scoring.fit_datasets, []

    def fit_and_change(*args, **kwargs):
        changed.append(change(tmp_path, kind))
        return fit(*args, **kwargs)

    monkeypatch.setattr(scoring, "fit_datasets", fit_and_change)
    with pytest.raises(UserError, match="has changed since it was listed") as caught:
        scoring.score(prepare(job), Said())
    assert changed[0] in str(caught.value)
    monkeypatch.undo()
    with pytest.raises(UserError, match="data"):  # the fingerprint of an unfinished run
        scoring.score(prepare(job), Said())


def test_a_finished_run_of_other_data_is_not_complete(small, tmp_path):
    job, said = job_of(small, tmp_path, "tar"), Said()
    scoring.score(prepare(job), said)
    assert "data set  set: labels: members .cls or .json" in said
    again = Said()
    scoring.score(prepare(job), again)
    assert any("complete already" in message for message in again)
    change(tmp_path, "tar")
    with pytest.raises(UserError, match="data"):
        scoring.score(prepare(job), Said())
