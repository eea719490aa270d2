"""A plan tells what headers alone show, a line each and not too many."""

import importlib
import io
import re
import resource
import tarfile

from PIL import Image
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.runs.broken import SHOWN_BROKEN
from tests.conftest import make_images, write_folder, write_tar


def plan_of(small, folder, data, *overrides) -> str:
    job = small.job_file(folder / "job.yaml", folder / "run", [{"name": "set", "path": str(data)}])
    result = CliRunner().invoke(app, ["plan", job, *overrides])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_plan_tells_what_tars_hold_that_cannot_be_used(small, tmp_path):
    images = make_images(3)
    path = write_tar(tmp_path / "data" / "s.tar", images, [0, 1, 2])
    with tarfile.open(path, "a") as tar:
        for name in ("a.jpg", "a.png", "b.jpg", "b.webp", "c.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(images[0])
            tar.addfile(info, io.BytesIO(images[0]))
    output = plan_of(small, tmp_path, path.parent)
    assert "rejects set: 1 x # images under one key, jpg, png" in output
    assert "rejects set: 1 x # images under one key, jpg, webp" in output
    assert "rejects set: 1 x no image member" in output
    assert "broken" not in output
    assert "reading with 1 readers: each shard by one reader" in output


def test_a_plan_names_a_few_of_many_broken_tars(small, tmp_path):
    for i in range(SHOWN_BROKEN + 7):
        write_tar(tmp_path / "data" / f"{i:02d}.tar", make_images(1), [0])
        (tmp_path / "data" / f"{i:02d}.tar").write_bytes(b"no tar at all" * 100)
    output = plan_of(small, tmp_path, tmp_path / "data")
    assert output.count("broken set: ") == SHOWN_BROKEN + 1
    assert "broken set: 00.tar: the shard breaks after byte 0: a header is damaged" in output
    assert "broken set: and 7 more shards" in output


def test_a_plan_of_the_exact_mode_tells_its_price_and_its_memory(small, tmp_path):
    path = write_tar(tmp_path / "data" / "s.tar", make_images(3), [0, 1, 2])
    assert "GB of weights" not in plan_of(small, tmp_path, path.parent)
    output = plan_of(small, tmp_path, path.parent, "mixture.clusters=exact")
    assert "3 exact forwards, each at the price of about 2" in output
    parameters = int(re.search(r"experts of ([\d,]+) parameters", output)[1].replace(",", ""))
    # two experts and two parts of them, in float32
    assert f"up to {4 * 4 * parameters / 1e9:.2g} GB of weights" in output
    assert "2 experts and P = 2 parts" in output


def test_a_plan_says_what_is_read_in_parts(small, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("dawin_ray.data.splitting.MIN_SPLIT_BYTES", 10_000)
    write_tar(tmp_path / "data" / "large.tar", make_images(60), [0] * 60)
    write_tar(tmp_path / "data" / "small.tar", make_images(1), [0])
    output = plan_of(small, tmp_path, tmp_path / "data", "compute.engine=ray")
    assert "reading with 4 readers: 1 shards of more than 0 MB in parts" in output


def test_a_plan_says_how_many_files_it_listed_and_what_memory_it_took(small, tmp_path):
    """As the system counts it, of which the kernel's own counters lag by some pages."""
    for i in range(3):
        write_tar(tmp_path / "data" / f"{i}.tar", make_images(1), [0])
    output = plan_of(small, tmp_path, tmp_path / "data")
    told = re.search(r"planning 3 files listed; at most ([\d,]+) MB of memory", output)
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert 0.9 * now <= int(told[1].replace(",", "")) <= now + 10


def test_a_plan_of_many_files_says_why_all_are_listed_first(small, tmp_path, monkeypatch):
    path = write_tar(tmp_path / "data" / "0.tar", make_images(1), [0])
    why = "all before the first is read: labels, shards and what can be resumed depend on all"
    assert why not in plan_of(small, tmp_path, path.parent)
    monkeypatch.setattr(importlib.import_module("dawin_ray.job.prepare"), "MANY", 0)
    assert f"1 files ({why})" in plan_of(small, tmp_path, path.parent)


NAMES = ["zero", "one", "two", "three", "four", "five"]


def named(small, tmp_path, names=NAMES) -> str:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names) + "\n")
    return f"model.class_names={path}"


def test_a_plan_says_how_folders_become_classes_and_which_do_not(small, tmp_path):
    root = write_folder(tmp_path / "data", make_images(12), [i % 6 for i in range(12)])
    for i, name in enumerate(NAMES[:5]):
        (root / f"class_{i}").rename(root / name)
    output = plan_of(small, tmp_path, root, named(small, tmp_path, [*NAMES[:5], "class_5"]))
    assert "labels: 6 class folders, named by classes" in output
    assert (
        "classes set: folder class_5 is 5 (class_5), four is 4 (four), one is 1 (one) and 3 more"
        in output
    )
    assert "no class: folder" not in output
    (root / "class_5").rename(root / "strange")
    text = (tmp_path / "job.yaml").read_text()
    assert "skip_other_folders" not in text
    classes = tmp_path / "names.txt"
    result = CliRunner().invoke(
        app,
        [
            "plan", str(tmp_path / "job.yaml"), f"model.class_names={classes}",
            f"datasets=[{{name: set, path: {root}, classes: {classes}, skip_other_folders: true}}]",
        ],
    )  # fmt: skip
    output = " ".join(result.output.split())
    assert result.exit_code == 0, output
    assert "left out: 1 folders that are named by none of its classes" in output
    assert "classes set: no folder: class class_5" in output


def test_a_plan_says_what_labels_mean_and_where_no_names_are_known(small, tmp_path):
    path = write_tar(tmp_path / "data" / "s.tar", make_images(3), [0, 1, 2])
    output = plan_of(small, tmp_path, path.parent)
    assert "classes set: label i is class i; the names of the head's classes are unknown" in output
    output = plan_of(small, tmp_path, path.parent, named(small, tmp_path))
    assert "classes set: label 0 (zero), 1 (one), 2 (two) and 3 more" in output


def test_a_plan_says_whose_the_head_and_the_pixels_are(small, tmp_path):
    path = write_tar(tmp_path / "data" / "s.tar", make_images(3), [0, 1, 2])
    output = plan_of(small, tmp_path, path.parent, "model.preprocess.interpolation=bilinear")
    assert (
        "head set: of each expert (expert_0, expert_1) the one that its checkpoint was saved with"
        in output
    )
    assert re.search(r"pixels .*mean.*std.*bilinear.*shortest.*from .*model.preprocess", output)


def test_a_peek_decodes_the_first_samples(small, tmp_path):
    images = make_images(9)
    flat = io.BytesIO()
    Image.new("L", (40, 50), 128).save(flat, format="PNG")
    images[1], images[3] = flat.getvalue(), b"no image"
    path = write_tar(tmp_path / "data" / "s.tar", images, [0, 1, 2, 3, 4, 5, 5, 9, 0])
    assert "samples decoded" not in plan_of(small, tmp_path, path.parent)
    output = plan_of(small, tmp_path, path.parent, "--peek", "8")
    assert "peek set: 6 of the first 8 samples decoded; pixels " in output
    assert "mode RGB (5), L (1)" in output
    assert "labels of 5 of 6 classes: 0 x 1, 1 x 1, 2 x 1 and 2 more" in output
    assert "peek set: 1 of them are of one colour" in output
    assert "peek set: 1 rejected: cannot be decoded" in output
    assert "peek set: 1 rejected: a label is outside the classes 0..5" in output


def test_a_peek_without_a_number_is_of_64(small, tmp_path):
    path = write_tar(tmp_path / "data" / "s.tar", make_images(70), [i % 6 for i in range(70)])
    assert "64 of the first 64 samples decoded" in plan_of(small, tmp_path, path.parent, "--peek")
    output = plan_of(small, tmp_path, path.parent, "--peek", "compute.chunk_size=8")
    assert "64 of the first 64 samples decoded" in output
    assert "70 of the first 70 samples" in plan_of(small, tmp_path, path.parent, "--peek=100")
    bare = write_tar(tmp_path / "bare" / "s.tar", make_images(2), None)
    assert "no labels" in plan_of(small, tmp_path, bare.parent, "--peek")
