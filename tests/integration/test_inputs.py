"""A run whose texts were edited is not taken up, and not called complete."""

import json
from pathlib import Path

from safetensors.torch import save_file
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.runs.layout import MANIFEST
from tests.conftest import CLASSES, make_images, whole_state, write_tar
from tests.unit.passes.test_overflow import opposed


def run(job: str, code: int) -> str:
    result = CliRunner().invoke(app, ["run", job])
    assert result.exit_code == code, result.output
    return result.output


def test_edited_templates_are_refused_after_the_end_before_it_and_in_a_fit(small, tmp_path):
    lines, names = tmp_path / "lines.txt", tmp_path / "names.txt"
    lines.write_text("a photo of a {}.\n")
    names.write_text("\n".join(f"thing {i}" for i in range(CLASSES)))
    experts = []
    for i in range(2):
        experts.append({"name": f"e{i}", "checkpoint": str(tmp_path / f"e{i}.safetensors")})
        save_file(whole_state(i), experts[-1]["checkpoint"])
    write_tar(tmp_path / "data" / "a.tar", make_images(30), None)
    sections = {
        "model": {
            "architecture": small.config, "class_names": str(names), "templates": str(lines)
        },
        "experts": experts,
    }  # fmt: skip
    data = [{"name": "d", "path": str(tmp_path / "data")}]
    job = small.job_file(tmp_path / "job.yaml", tmp_path / "run", data, **sections)
    run(job, 0)
    assert "complete already" in run(job, 0)

    fit = {"from": str(tmp_path / "run"), "dataset": "d"}
    applied = small.job_file(tmp_path / "fit.yaml", tmp_path / "new", data, fit=fit, **sections)
    run(applied, 0)

    lines.write_text("not a photo of a {}.\n")
    finished = run(job, 2)
    key = f"inputs.templates.{lines}: "
    assert key in finished
    assert " there, " in finished.split(key)[1]
    assert "complete already" not in finished
    (tmp_path / "run" / MANIFEST).unlink()  # as if it had been killed before its end
    assert key in run(job, 2)
    other = small.job_file(tmp_path / "fit.yaml", tmp_path / "other", data, fit=fit, **sections)
    assert "templates of 'd': " in run(other, 2)
    assert not Path(tmp_path, "other").exists()

    lines.write_text("a photo of a {}.\n")
    run(job, 0)  # and the old text takes the run up
    assert json.loads((tmp_path / "run" / MANIFEST).read_text())["rows"]["d"]["predictions"] == 30


def test_a_merge_that_overflows_ends_the_run_with_sample_data_set_and_cluster(small, tmp_path):
    experts = []
    for i, scale in enumerate((1e25, 1e-25)):
        experts.append({"name": f"e{i}", "checkpoint": str(tmp_path / f"e{i}.safetensors")})
        save_file(opposed(i, scale), experts[-1]["checkpoint"])
    write_tar(tmp_path / "data" / "a.tar", make_images(30), None)
    data = [{"name": "d", "path": str(tmp_path / "data")}]
    none = {"even_interpolation": False, "output_ensembles": False}
    job = small.job_file(
        tmp_path / "job.yaml", tmp_path / "run", data, experts=experts, baselines=none
    )
    output = run(job, 2)
    assert "of sample 'a.tar/00" in output
    assert "in data set 'd' are not finite: the model merged for cluster" in output
    assert not (tmp_path / "run" / MANIFEST).exists()
