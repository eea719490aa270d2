"""What a person is told while a run goes on."""

import dataclasses
import io
import time

import pytest
from rich.console import Console

from dawin_ray.attempts import Attempts, Tries, loading
from dawin_ray.data.chunks import ChunkSummary
from dawin_ray.engine import Resources
from dawin_ray.job import progress
from dawin_ray.job.progress import ConsoleProgress, Forecast, step, told
from tests.unit.test_attempts import tries_of


def console(**options) -> tuple[ConsoleProgress, io.StringIO]:
    out = io.StringIO()
    return ConsoleProgress(Console(file=out, width=200, **options)), out


def having(tries: Tries, actors: int) -> Resources:
    return Resources(device="cpu", actors=actors, cpus=1, gpus=0, threads=1, readers=1, tries=tries)


@pytest.mark.parametrize("name", ["[/bold]", "[red]x[/red]", "a[b", ":smile:", "[link=http://x]y"])
def test_names_are_no_markup(name):
    said, out = console(force_terminal=True, color_system="truecolor")
    said.say(f"run in /data/{name} is complete")
    assert f"/data/{name} is" in out.getvalue()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"), ("a\rb", "a\\x0db"), ("\x9b31m", "\\x9b31m"),
        ("\u202egpj", "\\u202egpj"), ("a\udcffb", "a\\xffb"), ("bell\x07", "bell\\x07"),
    ],
)  # fmt: skip
def test_names_do_not_steer_the_terminal(name, shown):
    said, out = console(force_terminal=True)
    said.say(f"data set {name}")
    assert f"data set {shown}" in out.getvalue()


def test_a_step_has_a_line_with_its_time():
    lines = []
    with step(lines.append, "reading 2 checkpoints") as found:
        found("1.20 GB")
        assert not lines
    assert len(lines) == 1
    assert lines[0].startswith("reading 2 checkpoints, 1.20 GB: ")
    assert lines[0].endswith(" s")


def test_a_long_step_says_so_while_it_lasts(monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    lines = []
    with step(lines.append, "starting Ray"):
        while len(lines) < 3:
            time.sleep(0.005)
    assert all("so far" in line for line in lines[:-1])
    assert "so far" not in lines[-1]


def test_a_step_that_fails_leaves_the_error_alone():
    lines = []
    with pytest.raises(ValueError, match="why"), step(lines.append, "listing"):
        raise ValueError("why")
    assert not lines


def test_what_workers_tell_is_said_and_what_is_waited_for(monkeypatch):
    monkeypatch.setattr(progress, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    attempts, lines = Attempts(), []
    tries = tries_of(attempts)

    def wait_for(words: str) -> None:
        while not any(words in line for line in lines):
            time.sleep(0.005)

    with told(having(tries, 4), lines.append, "pass 1, experts", "pass 1") as first_is_there:
        wait_for("pass 1, experts: waiting for 4 model actors to be placed and load their models")
        with tries.of(loading("pass 1"), ""):
            pass
        wait_for("1 of 4 model actors loaded; waiting for the first chunk")
        with tries.of("pass 1", "chunk"):
            tries.reached("pass 1", "chunk", 64, 512)
            wait_for("64 of 512 images of the first chunks are scored")
        first_is_there()
        time.sleep(0.05)
        before = len(lines)
        tries.tell("a reader died")
        wait_for("pass 1, experts: a reader died")
        assert len(lines) == before + 1
        tries.tell("the last word")
    assert lines[-1].endswith("the last word")


def test_lines_of_a_broken_ray_are_no_error():
    def broken(method, *arguments, timeout=None):
        raise ConnectionError

    with told(having(Tries(broken, broken), 1), print, "pass 1", "pass 1"):
        pass


def test_the_forecast_goes_by_the_pace_of_late_and_not_by_the_start():
    forecast = Forecast(1_000)
    assert forecast.seconds_left is None
    forecast.add(100, now=130.0, seconds=10.0)  # after a start of two minutes
    assert forecast.seconds_left == pytest.approx(90)
    assert forecast.share == pytest.approx(0.1)
    for i in range(1, 9):  # ten times as slow from here on
        forecast.add(10, now=130.0 + 10 * i, seconds=10.0)
    assert forecast.seconds_left == pytest.approx(820, rel=0.1)


def test_more_work_than_was_counted_is_no_error():
    forecast = Forecast(10)
    forecast.add(20, now=10.0, seconds=1.0)
    assert (forecast.share, forecast.seconds_left) == (1.0, 0.0)
    assert Forecast(0).share == 1.0


@pytest.mark.parametrize("terminal", [True, False])
def test_a_phase_takes_summaries_with_and_without_work(terminal, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    said, out = console(force_terminal=terminal)
    summary = ChunkSummary(
        dataset="d", shard="s", chunk="c", rows=8, rejects=2, bytes=30, begun=1.0, done=2.0
    )
    with said.phase("experts", 100) as advance:
        advance(dataclasses.replace(summary, work=10))
        advance(summary)
    assert "pass 1, experts: done, 16 images, 4 rejects" in out.getvalue()
    if not terminal:
        assert "10 %" in out.getvalue()
        assert "40 %" in out.getvalue()
        assert "left" in out.getvalue()
