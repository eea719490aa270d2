"""The command from its arguments to a job file that loads and can be planned."""

import shutil

import fsspec
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dawin_ray.cli import EXIT_UNFINISHED, app
from dawin_ray.config import load_job
from dawin_ray.data import FORMATS, looking
from dawin_ray.drafts.known import known_lists
from dawin_ray.errors import UserError
from dawin_ray.settings import FILL_IN
from tests.conftest import make_images, whole_state, write_folder, write_tar
from tests.unit.drafts.test_layout import LABELS, WRITE

HOSTILE = ["no", "1e5", "a\nb", "a\x1b[31mred", "# c", "a: b", "[x]", "'q\"", "é", "{a}"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def init(checkpoints, *arguments):
    given = [word for path in checkpoints for word in ("--experts", path)]
    return run("init", *arguments, *given)


@pytest.mark.parametrize("name", FORMATS)
def test_a_draft_loads_and_can_be_planned(small, here, name):
    WRITE[name](here / "data" / "shapes")
    code, output = init(small.checkpoints[:2], "data/shapes")
    assert (code, output.count("doubt ")) == (0, int(name == "folder")), output
    assert "next dawin-ray plan job.yaml" in output
    job = load_job("job.yaml")
    [dataset] = job.datasets
    assert (dataset.name, dataset.path, dataset.format) == ("shapes", "data/shapes", name)
    assert job.run_dir == "runs/shapes"
    assert [expert.checkpoint for expert in job.experts] == [*small.checkpoints[:2]]
    code, output = run("plan", "job.yaml", "compute.engine=local", "--peek", "8")
    assert code == 0, output
    assert "6 of the first 6 samples decoded" in output
    with Image.open("job.png") as sheet:
        assert sheet.width > 5 * 160


def test_each_guess_says_whence_it_came(small, here):
    write_folder(here / "shapes", make_images(6), LABELS)
    assert init(small.checkpoints[:2], "shapes", "--out", "jobs/mine.yaml")[0] == 0
    lines = (here / "jobs" / "mine.yaml").read_text().splitlines()
    text = " ".join(line.strip().removeprefix("#").strip() for line in lines)
    for said in (
        "the model config beside the checkpoints",
        "taken for the base, which stands first, as it was given first",
        "images (.jpg, .jpeg, .png, .webp), by the names of its 6 files; labels: 6 class folders",
        "the class folders of shapes, sorted, as torchvision numbers them",
        "In doubt:",
        "Next: dawin-ray plan jobs/mine.yaml",
    ):
        assert said in text, said
    assert load_job("jobs/mine.yaml").model.class_names == "jobs/mine.classes.txt"
    assert (here / "jobs" / "mine.classes.txt").read_text().split() == [
        f"class_{i}" for i in range(6)
    ]


def test_what_cannot_be_found_out_is_left_to_fill_in(small, here):
    folder = here / "apart"
    folder.mkdir()
    paths = [shutil.copy(path, folder) for path in small.checkpoints[:2]]
    write_folder(here / "shapes", make_images(6), LABELS)
    code, output = init(paths, "shapes")
    assert code == EXIT_UNFINISHED
    assert "to do fill in model.architecture: an open_clip name" in output
    with pytest.raises(UserError, match=r"not finished.*\n  model.architecture: an open_clip name"):
        load_job("job.yaml")
    assert run("plan", "job.yaml")[0] == 2
    given = f"model.architecture={small.config}"
    assert run("plan", "job.yaml", "compute.engine=local", given)[0] == 0
    assert FILL_IN in (here / "job.yaml").read_text()


def test_a_job_file_that_exists_is_told_before_anything_is_looked_at(here):
    (here / "job.yaml").write_text("")
    code, output = init(["no.safetensors", "such.safetensors"], "nowhere")
    assert code == 2
    assert "'job.yaml' exists already" in output


def test_nothing_that_exists_is_written_over(small, here):
    write_folder(here / "shapes", make_images(6), LABELS)
    for name in ("job.yaml", "job.png", "job.classes.txt"):
        (here / name).write_text("mine")
        code, output = init(small.checkpoints[:2], "shapes")
        assert code == 2
        assert f"'{name}' exists already" in output
        assert "--out" in output
        assert "--force" in output
        assert [path.name for path in here.iterdir() if path.is_file()] == [name]
        assert (here / name).read_text() == "mine"
        (here / name).unlink()
    (here / "job.yaml").write_text("mine")
    assert init(small.checkpoints[:2], "shapes", "--force")[0] == 0
    load_job("job.yaml")


def test_a_run_that_is_there_is_not_taken_up(small, here):
    write_folder(here / "shapes", make_images(6), LABELS)
    (here / "runs" / "shapes").mkdir(parents=True)
    assert init(small.checkpoints[:2], "shapes")[0] == 0
    assert load_job("job.yaml").run_dir == "runs/shapes-2"
    assert init(small.checkpoints[:2], "shapes", "--force", "--run-dir", "runs/shapes")[0] == 0
    assert load_job("job.yaml").run_dir == "runs/shapes"


def test_a_run_directory_within_the_data_is_a_fault(small, here):
    write_folder(here / "shapes", make_images(6), LABELS)
    code, output = init(small.checkpoints[:2], "shapes", "--run-dir", "shapes/run")
    assert code == EXIT_UNFINISHED
    assert "lie one within the other" in output


def test_a_pickled_checkpoint_is_not_loaded(small, here):
    write_folder(here / "shapes", make_images(6), LABELS)
    torch.save(torch.nn.Linear(2, 2), here / "model.pt")
    code, output = init([small.checkpoints[0], "model.pt"], "shapes")
    assert code == 2
    assert "dawin-ray convert model.pt model.safetensors" in output
    assert not (here / "job.yaml").exists()


@pytest.mark.parametrize("names", [["no", "on"], ["a\x1b[31m", "b"], ["1e5", "x: y"], ["~", "é"]])
def test_class_folders_of_any_name(small, here, names):
    state = {}
    for i, path in enumerate(small.checkpoints[:2]):
        state = load_file(path)
        for part in ("weight", "bias"):
            name = f"classification_head.{part}"
            state[name] = state[name][:2].clone()
        save_file(state, here / f"{i}.safetensors")
    for name in names:
        (here / "sha\npes: #" / name).mkdir(parents=True)
        (here / "sha\npes: #" / name / "1.png").write_bytes(make_images(2)[1])
    code, output = init(["0.safetensors", "1.safetensors"], "sha\npes: #", "--architecture",
                        small.config)  # fmt: skip
    assert "\x1b" not in output + (here / "job.yaml").read_text()
    whole = all(name.isprintable() for name in names)
    assert code == (0 if whole else EXIT_UNFINISHED), output
    if whole:
        job = load_job("job.yaml")
        assert job.datasets[0].path == "sha\npes: #"
        assert job.datasets[0].name == "sha-pes"
        code, output = run("plan", "job.yaml", "compute.engine=local")
        assert code == 0
        assert "2 class folders, named by classes" in output
    else:
        assert yaml.safe_load((here / "job.yaml").read_text())["datasets"][0]["name"] == "sha-pes"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_data_set_of_any_name(small, here, name):
    write_tar(here / name / "0.tar", make_images(6), LABELS)
    assert init(small.checkpoints[:2], name)[0] == 0
    assert load_job("job.yaml").datasets[0].path == name
    assert run("plan", "job.yaml", "compute.engine=local")[0] == 0


def test_a_folder_of_no_class_is_a_fault_though_not_all_were_looked_into(small, here, monkeypatch):
    """An empty one is none."""
    root = write_folder(here / "shapes", make_images(6), LABELS)
    monkeypatch.setattr(looking, "MOST_FOLDERS", 2)
    (root / "class_2_notes").mkdir()
    monkeypatch.setattr(
        "dawin_ray.drafts.known.known_class_names",
        lambda: {"shapes": tuple(f"class_{i}" for i in range(6))},
    )
    known_lists.cache_clear()
    try:
        code, output = init(small.checkpoints[:2], "shapes")
        assert code == 0, output
        (root / "class_2_notes" / "1.png").write_bytes(make_images(2)[1])
        code, output = init(small.checkpoints[:2], "shapes", "--force")
        assert code == EXIT_UNFINISHED
        assert "to do shapes: Folder 'class_2_notes'" in output
    finally:
        known_lists.cache_clear()


def test_data_at_a_remote_address(small, here):
    fs = fsspec.filesystem("memory")
    root = write_folder(here / "shapes", make_images(6), LABELS)
    for path in root.rglob("*.*"):
        fs.pipe_file(f"/drafted/shapes/{path.relative_to(root)}", path.read_bytes())
    code, output = init(small.checkpoints[:2], "memory://drafted/shapes")
    assert code == 0, output
    assert load_job("job.yaml").datasets[0].path == "memory://drafted/shapes"


def test_what_looks_wrong_is_said(small, here):
    images = make_images(6)
    images[1], images[3] = b"no image", b""
    write_tar(here / "shapes" / "0.tar", images, [0, 1, 2, 3, 4, 9])
    write_tar(here / "bare" / "0.tar", make_images(2), None)
    code, output = init(small.checkpoints[:2], "shapes", "bare")
    assert code == 0
    assert "doubt shapes: 3 of 6 samples cannot be used" in output
    assert "doubt bare: no sample has a label" in output


def test_a_zero_shot_head_is_made_of_the_folders(small, here):
    for i in range(2):
        save_file(whole_state(i), here / f"{i}.safetensors")
    write_folder(here / "shapes", make_images(6), LABELS)
    code, output = init(
        ["0.safetensors", "1.safetensors"], "shapes", "--architecture", small.config
    )
    assert code == 0, output
    assert (here / "job.classes.txt").read_text().startswith("class 0\nclass 1\n")
    assert "texts of the zero-shot head are made of" in output
    code, output = run("plan", "job.yaml", "compute.engine=local")
    assert code == 0
    assert "6 class folders, named by classes" in output


def test_heads_in_files_are_found_by_their_names(small, here):
    """Of experts that have none, with a base; one that is not there is filled in by a person."""
    for i, name in enumerate(("base", "shapes", "letters")):
        state = load_file(small.checkpoints[i])
        save_file({k: v for k, v in state.items() if k.startswith("visual.")},
                  here / f"{name}.safetensors")  # fmt: skip
        if name != "base":
            head = {k: v for k, v in state.items() if not k.startswith("visual.")}
            save_file(head, here / f"head_{name}.safetensors")
    for name in ("shapes", "letters"):
        write_tar(here / "data" / name / "0.tar", make_images(6), LABELS)
    arguments = ("data", "--architecture", small.config, "--base", "base.safetensors")
    code, output = init(["shapes.safetensors", "letters.safetensors"], *arguments)
    assert code == 0, output
    job = load_job("job.yaml")
    assert job.merge.base == "base.safetensors"
    assert {d.name: (d.head.checkpoint, d.expert) for d in job.datasets} == {
        "letters": ("head_letters.safetensors", "letters"),
        "shapes": ("head_shapes.safetensors", "shapes"),
    }
    assert run("plan", "job.yaml", "compute.engine=local")[0] == 0
    (here / "head_letters.safetensors").unlink()
    code, output = init(["shapes.safetensors", "letters.safetensors"], *arguments, "--force")
    assert code == EXIT_UNFINISHED
    assert "fill in datasets.0.head" in output
