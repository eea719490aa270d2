"""Which directories are shown, and which are refused with a sentence."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.config import make_job
from dawin_ray.errors import UserError
from dawin_ray.job import prepare, score
from dawin_ray.view import open_runs, server
from dawin_ray.view.database import Database
from dawin_ray.view.filters import Choice
from dawin_ray.view.looking import overview
from tests.conftest import make_images, write_tar
from tests.unit.view.conftest import COUNT, client_of, job_of


def test_a_run_is_what_its_manifest_says(run, run_dir):
    assert run.datasets == ("tars", "rows", "images")
    assert run.experts == ("expert_0", "expert_1")
    assert run.rows == 3 * COUNT
    assert run.clusters == 2
    assert not run.grows
    report = json.loads(Path(run_dir, "report.json").read_text())
    for row, told in zip(run.suite, report["datasets"], strict=True):
        assert row.rows == told["rows"]
        for method, share in told["accuracy"].items():
            assert row.accuracy[method] == (None if share is None else pytest.approx(share))
        assert row.mean_coefficient == pytest.approx(told["mean_coefficient"])


@pytest.mark.parametrize(
    ("lost", "message"),
    [("manifest.json", "not finished"), ("report.json", "not finished"), (".", "no run directory")],
)
def test_what_is_not_finished_is_refused(run_dir, tmp_path, lost, message):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    shutil.rmtree(run) if lost == "." else (run / lost).unlink()
    with pytest.raises(UserError, match=message):
        open_runs([str(run)])
    result = CliRunner().invoke(app, ["view", str(run)])
    assert result.exit_code == 2
    assert message in result.output


def test_a_manifest_that_was_changed_is_refused(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 24', '"rows": 25'))
    with pytest.raises(UserError, match="was changed"):
        open_runs([str(tmp_path / "run")])


def test_a_preprocessing_that_is_not_known_is_told(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    path = tmp_path / "run" / "fingerprint.json"
    for preprocessing in ({}, {"preprocessing": {"zoom": 2}}):
        values = json.loads(path.read_text())
        del values["preprocessing"]
        path.write_text(json.dumps(values | preprocessing))
        with pytest.raises(UserError, match="no preprocessing that this version knows"):
            open_runs([str(tmp_path / "run")])
        path.write_text((Path(run_dir) / "fingerprint.json").read_text())


def test_files_that_no_manifest_names_are_not_shown(run_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    part = next((run / "predictions" / "dataset=tars").iterdir())
    shutil.copy(part, part.with_name("part-00099.parquet"))
    runs = open_runs([str(run)])
    assert overview(Database(runs), runs[0], Choice()).count == 3 * COUNT


def test_a_run_in_the_exact_mode_and_without_labels(small, encoded, tmp_path):
    root, _ = encoded
    job = job_of(small, root, "exact", mixture={"clusters": "exact"})
    job["datasets"] = [job["datasets"][2]]
    score(prepare(make_job(yaml.safe_load(yaml.safe_dump(job)), "j"), say=lambda note: None))
    runs = open_runs([str(root / "exact")])
    assert runs[0].clusters == 0
    client = client_of(runs)
    for path in ("/", "/look", "/confusions", "/sample?at=0", "/sql", "/look?merged=wrong"):
        assert client.get(path).status_code == 200, path
    assert "<svg" not in client.get("/sample?at=0").text
    assert f"<h1>{COUNT} samples" in client.get("/look").text
    assert "<h1>0 samples" in client.get("/look?merged=wrong").text


def test_a_directory_that_grows_is_shown_batch_by_batch(small, tmp_path):
    def job(**sections):
        datasets = [{"name": "tars", "path": str(tmp_path / "tars"), "format": "webdataset"}]
        return make_job(small.job(tmp_path / "series", datasets, **sections), "j")

    labels = [i % 6 for i in range(20)]
    write_tar(tmp_path / "tars" / "a.tar", make_images(20), labels)
    fitted = make_job(
        small.job(tmp_path / "fit", [{"name": "tars", "path": str(tmp_path / "tars")}]), "j"
    )
    score(prepare(fitted))
    fit = {"from": str(tmp_path / "fit"), "dataset": "tars"}
    with pytest.raises(UserError):
        open_runs([str(tmp_path / "series")])
    score(prepare(job(mode="append", fit=fit)))
    write_tar(tmp_path / "tars" / "b.tar", make_images(10, 1), labels[:10])
    score(prepare(job(mode="append", fit=fit)))
    runs = open_runs([str(tmp_path / "series")])
    [run] = runs
    assert run.grows
    assert len(run.batches) == 2
    assert run.rows == run.suite[0].rows == 30
    database = Database(runs)
    first, second = run.batches
    assert overview(database, run, Choice(batch=first)).count == 20
    assert overview(database, run, Choice(batch=second)).count == 10
    right = database.query("SELECT avg(merged_right::INTEGER) FROM samples").rows[0][0]
    assert run.suite[0].accuracy["dawin"] == pytest.approx(right)
    client = client_of(runs)
    page = client.get(f"/look?batch={second}").text
    assert "<h1>10 samples" in page
    assert 'name="batch"' in page
    for place in (3, 25):
        assert 'class="mixture"' in client.get(f"/sample?at={place}").text
    answer = client.get("/image?dataset=tars&sample=b.tar/0003&kind=crop")
    assert answer.headers["content-type"] == "image/png"
    assert f'href="batches/{second}/report.html"' in client.get("/run/0/report.html").text
    of_batch = f"/run/0/batches/{second}"
    links = re.findall(
        r'href="(look\?[^"]+)">([0-9]+)<', client.get(f"{of_batch}/report.html").text
    )
    for link, n in links:
        assert f"<h1>{n} samples" in client.get(f"{of_batch}/{html.unescape(link)}").text
    assert any("prediction=" in link for link, _ in links)
    one = open_runs([f"{tmp_path}/series/batches/{first}"])
    assert overview(Database(one), one[0], Choice()).count == 20
    assert client_of(one).get("/run/0/report.html").status_code == 200


def test_the_command_tells_the_address_once_it_listens(run_dir, monkeypatch):
    shown = []

    class Served:
        def __init__(self, config):
            shown.append(config)

        def run(self, sockets):
            shown.extend(sockets[0].getsockname())
            raise KeyboardInterrupt

    monkeypatch.setattr(server.uvicorn, "Server", Served)
    monkeypatch.setattr(server, "_limit_memory", lambda: None)
    result = CliRunner().invoke(app, ["view", run_dir])
    assert result.exit_code == 0, result.output
    config, host, port = shown
    assert host == "127.0.0.1"
    assert f"http://127.0.0.1:{port}/?token=" in result.output
    assert not config.access_log
    with server.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(app, ["view", run_dir, "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "--port" in result.output


def test_without_the_extra_the_command_says_what_to_install(run_dir, monkeypatch):
    import sys

    for name in list(sys.modules):
        if name.startswith("dawin_ray.view"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = CliRunner().invoke(app, ["view", run_dir])
    assert result.exit_code == 2
    assert "pip install 'dawin_ray[view]'" in result.output
