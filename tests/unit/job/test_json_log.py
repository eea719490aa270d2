"""A run as lines of JSON."""

import io
import json
import re

import pytest
from typer.testing import CliRunner

from dawin_ray.cli import app
from dawin_ray.errors import UserError
from dawin_ray.job.json_log import PROGRESS_SECONDS, VERSION, JsonLog, json_log
from dawin_ray.job.meter import Meter
from dawin_ray.metrics import METRICS, Event
from tests.conftest import CLASSES, make_images, write_folder
from tests.unit.job.test_meter import chunk


def lines_of(*events: Event) -> list[dict]:
    stream = io.StringIO()
    log = JsonLog(stream)
    for event in events:
        log(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def event(kind="progress", time=0.0, **values) -> Event:
    return Event(kind=kind, time=time, run="daily", phase="experts", **values)


def test_a_line_has_version_time_run_and_phase():
    (line,) = lines_of(event("message", 1_795_000_000.1234, message="two\nlines \x1b é"))
    assert line == {
        "version": VERSION, "time": "2026-11-18T11:06:40.123Z", "event": "message", "run": "daily",
        "phase": "experts", "message": "two\nlines \x1b é",
    }  # fmt: skip


def test_figures_are_by_name_and_labels_but_for_the_run():
    meter = Meter("daily")
    with meter.phase("experts", 10) as count:
        count(chunk())
        figures = meter.figures()
    progress, phase = lines_of(event("phase", figures=figures), event("end", figures=figures))
    assert progress["metrics"]["rows_total"] == {"experts": {"set": 8}}
    assert progress["metrics"]["rejects_total"] == {"experts": {"set": 2}}
    assert progress["metrics"]["progress_ratio"] == {"experts": 1.0}
    assert isinstance(progress["metrics"]["progress_timestamp_seconds"], float)
    assert phase["metrics"]["actor_rows_total"] == {"experts": {"here": {"0": 8}}}
    told = {f"dawin_ray_{name}" for name in phase["metrics"]}
    assert told == figures.keys() - {"dawin_ray_phase"}
    assert told <= METRICS.keys()


def test_progress_comes_every_ten_seconds_without_single_actors():
    meter = Meter("daily")
    with meter.phase("experts", 10) as count:
        count(chunk())
        figures = meter.figures()
    times = [1_000.0 + i for i in range(30)]
    lines = lines_of(*(event(time=time, figures=figures) for time in times))
    assert len(lines) == 30 // PROGRESS_SECONDS
    assert not any("actor_rows_total" in line["metrics"] for line in lines)


def test_messages_do_not_delay_progress():
    events = [event(time=1_000.0)]
    for i in range(1, 12):
        events += [event("message", 1_000.0 + i, message="x"), event(time=1_000.5 + i)]
    kinds = [line["event"] for line in lines_of(*events)]
    assert kinds.count("progress") == 2


def test_a_log_is_added_to(tmp_path):
    for _ in range(2):
        with json_log(str(tmp_path / "log.jsonl")) as log:
            log(event("start"))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_log_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    with (
        pytest.raises(UserError, match=r"nowhere/log' cannot be written: No such file"),
        json_log(str(tmp_path / "nowhere" / "log")),
    ):
        pass


@pytest.fixture
def job(small, tmp_path) -> str:
    images = [*make_images(20), b"no image"]
    root = write_folder(tmp_path / "data", images, sorted(i % CLASSES for i in range(21)))
    datasets = [{"name": "set", "path": str(root)}]
    return small.job_file(tmp_path / "job.yaml", tmp_path / "secret" / "run", datasets)


def test_a_run_is_told_as_json_from_its_start_to_its_end(job, tmp_path):
    file = tmp_path / "log.jsonl"
    result = CliRunner().invoke(app, ["run", job, "--log-json", str(file)])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    phases = [line["phase"] for line in lines if line["event"] == "phase"]
    assert phases == [
        "starting", "experts", "parts", "fit", "merged", "parts", "report", "done"
    ]  # fmt: skip
    assert (lines[0]["event"], lines[-1]["event"], lines[-1]["phase"]) == ("start", "end", "done")
    told = lines[-1]["metrics"]
    name = "set"
    report = json.loads((tmp_path / "secret" / "run" / "report.json").read_text())
    assert told["rows_total"] == {"experts": {name: 20}, "merged": {name: 20}}
    assert [(one["dataset"], one["rows"]) for one in report["datasets"]] == [("set", 20)]
    assert told["rejects_total"]["experts"] == {name: 1}
    for key in ("model_seconds", "read_seconds", "decode_seconds", "bytes"):
        assert told[f"{key}_total"]["experts"][name] > 0
    # each of two chunks' forwards, and all between them
    seconds = told["model_seconds_total"]["experts"][name]
    assert told["wait_seconds_total"]["experts"][name] > 0
    (actor,) = told["actor_model_seconds_total"]["experts"].values()
    assert actor == {"0": seconds}
    assert not any("secret" in json.dumps(line["metrics"]) for line in lines if "metrics" in line)
    assert any("run directory" in line.get("message", "") for line in lines)
    assert all(re.fullmatch(r"[\dT:.-]+Z", line["time"]) for line in lines)


def test_on_standard_output_there_is_nothing_but_json(job):
    result = CliRunner().invoke(app, ["run", job, "--log-json", "-"])
    assert result.exit_code == 0, result.output
    kinds = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert "DaWin" in result.stderr


def test_a_run_that_is_refused_ends_its_log_with_the_reason(job, tmp_path):
    file = tmp_path / "log.jsonl"
    arguments = ["run", job, "--log-json", str(file), "max_reject_fraction=0"]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    last = json.loads(file.read_text().splitlines()[-1])
    assert (last["event"], last["phase"]) == ("end", "failed")
    assert "reject" in last["message"]
