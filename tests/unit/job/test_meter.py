"""What a run does is counted once, told every second, and never ends the run."""

import dataclasses
import time
from types import SimpleNamespace

import pytest

from dawin_ray.attempts import Attempts
from dawin_ray.data.chunks import ChunkSummary
from dawin_ray.errors import UserError
from dawin_ray.job import meter as metering
from dawin_ray.job.meter import Meter, Metered, metered
from dawin_ray.metrics import METRICS, MOST_VALUES, OTHER, PHASES
from tests.unit.test_attempts import tries_of


def chunk(dataset: str = "set", **values) -> ChunkSummary:
    whole = {
        "dataset": dataset, "shard": "s", "chunk": "c", "rows": 8, "rejects": 2, "bytes": 30,
        "begun": 1.0, "done": 3.0, "merges": 4, "actor": "here/1", "wait_seconds": 0.5,
        "read_seconds": 0.25, "decode_seconds": 0.125, "storage_retries": 3,
    }  # fmt: skip
    return ChunkSummary(**whole | values)


def of(figures, name: str) -> dict:
    """Values by labels but for the run."""
    return {values[1:]: value for values, value in figures[f"dawin_ray_{name}"].items()}


def test_chunks_are_added_up_by_pass_data_set_and_actor():
    meter = Meter("runs/daily")
    with meter.phase("experts", 100) as count:
        count(chunk())
        count(chunk(actor="here/2", rows=10))
        count(chunk("other set"))
        count(chunk(chunk="", end={"read": {}}, rows=0))  # the end of a slice is no chunk
    with meter.phase("merged", 100) as count:
        count(chunk())
    figures = meter.figures()
    assert of(figures, "rows_total") == {
        ("experts", "set"): 18, ("experts", "other set"): 8, ("merged", "set"): 8
    }  # fmt: skip
    assert of(figures, "chunks_total")["experts", "set"] == 2
    for name, value in {
        "rejects": 4, "bytes": 60, "merges": 8, "model_seconds": 4, "wait_seconds": 1,
        "read_seconds": 0.5, "decode_seconds": 0.25, "storage_retries": 6,
    }.items():  # fmt: skip
        assert of(figures, f"{name}_total")["experts", "set"] == value, name
    assert of(figures, "actor_rows_total") == {
        ("experts", "here", "0"): 16, ("experts", "here", "1"): 10, ("merged", "here", "0"): 8
    }  # fmt: skip
    assert of(figures, "actor_model_seconds_total")["experts", "here", "0"] == 4
    assert of(figures, "actor_wait_seconds_total")["experts", "here", "1"] == 0.5
    assert of(figures, "reject_ratio")["experts", "set"] == pytest.approx(4 / 22)
    assert figures.keys() <= METRICS.keys()
    assert {values[0] for by in figures.values() for values in by} == {"daily"}
    for name, by_values in figures.items():
        assert {len(values) for values in by_values} == {len(METRICS[name].labels)}


def test_work_that_is_left_is_told_while_a_pass_runs_and_no_more_behind_it():
    meter = Meter("run")
    with meter.phase("experts", 40) as count:
        assert ("experts",) not in of(
            meter.figures() | {"dawin_ray_left_seconds": {}}, "left_seconds"
        )
        count(chunk(work=10, begun=1.0, done=11.0))
        figures = meter.figures()
        assert of(figures, "progress_ratio")["experts",] == 0.25
        assert of(figures, "left_seconds")["experts",] == pytest.approx(30)
        assert of(figures, "images_per_second")["experts",] == pytest.approx(0.8, rel=0.05)
        assert of(figures, "phase") == {(phase,): int(phase == "experts") for phase in PHASES}
    figures = meter.figures()
    assert of(figures, "progress_ratio")["experts",] == 1
    assert of(figures, "left_seconds")["experts",] == 0
    assert of(figures, "images_per_second")["experts",] == 0


def test_the_pace_is_that_of_the_last_minute(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(metering.time, "time", lambda: now[0])
    meter = Meter("run")
    with meter.phase("experts", 100_000) as count:
        for _ in range(100):
            now[0] += 1
            count(chunk(rows=100, done=2.0))
            meter.figures()
        assert of(meter.figures(), "images_per_second")["experts",] == pytest.approx(100, rel=0.05)
        for _ in range(120):  # nothing comes
            now[0] += 1
            meter.figures()
        assert of(meter.figures(), "images_per_second")["experts",] == 0
        assert now[0] - meter.figures()["dawin_ray_progress_timestamp_seconds"]["run",] == 120


def test_values_of_labels_are_bounded_and_nothing_is_lost():
    meter, count = Meter("run"), 3 * MOST_VALUES
    with meter.phase("experts", 1) as advance:
        for i in range(count):
            for _ in range(2):
                advance(chunk(f"set {i}", actor=f"node {i}/1"))
    figures = meter.figures()
    for name in ("rows_total", "actor_rows_total"):
        by_values = of(figures, name)
        assert len(by_values) == MOST_VALUES
        assert sum(by_values.values()) == 16 * count
    assert ("experts", OTHER) in of(figures, "rows_total")
    assert ("experts", OTHER, OTHER) in of(figures, "actor_rows_total")


def test_names_that_look_alike_are_counted_together():
    meter = Meter("run")
    with meter.phase("experts", 1) as advance:
        for i in range(3):
            advance(chunk("x" * 200 + str(i)))
    assert of(meter.figures(), "rows_total") == {("experts", "x" * 100): 24}


def test_sinks_are_told_of_every_phase_and_of_the_end():
    told = []
    with metered("a/run", [told.append]) as meter:
        meter.enter("starting")
        with meter.phase("experts", 10) as count:
            count(chunk())
        meter.say("a line")
        meter.drifted({"set": SimpleNamespace(statistics=())})
    kinds = [(event.kind, event.phase) for event in told if event.kind != "progress"]
    assert kinds == [
        ("start", "preparing"), ("phase", "starting"), ("phase", "experts"),
        ("message", "experts"), ("drift", "experts"), ("end", "done"),
    ]  # fmt: skip
    assert told[-1].figures["dawin_ray_rows_total"]["run", "experts", "set"] == 8
    assert [event.message for event in told if event.message] == ["a line"]
    assert all(event.run == "run" for event in told)


@pytest.mark.parametrize(
    ("error", "phase", "message"),
    [
        (UserError("do this"), "failed", "do this"),
        (ValueError("two\nlines"), "failed", "ValueError: two"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ],
)
def test_an_end_says_what_it_was(error, phase, message):
    told = []
    with pytest.raises(type(error)), metered("run", [told.append]):
        raise error
    assert (told[-1].kind, told[-1].phase, told[-1].message) == ("end", phase, message)


def test_progress_is_told_by_time(monkeypatch):
    monkeypatch.setattr(metering, "TELL_SECONDS", 0.01)
    told = []
    with metered("run", [told.append]) as meter, meter.phase("experts", 10) as count:
        while sum(event.kind == "progress" for event in told) < 3:
            count(chunk())
            time.sleep(0.005)


def test_a_sink_that_fails_is_left_out_and_the_run_goes_on(caplog):
    told = []

    def failing(event):
        raise OSError(28, "no space is left")

    with metered("run", [failing, told.append]) as meter:
        meter.say("one")
        meter.say("two")
    assert [event.message for event in told if event.kind == "message"] == ["one", "two"]
    assert caplog.text.count("no space is left") == 1


def test_an_engines_sink_is_told_while_its_session_lasts():
    told, attempts = [], Attempts()
    tries = tries_of(attempts)
    with metered("run") as meter:
        with meter.shown(told.append, tries):
            tries.tell("a reader died", again="reading")
            meter.enter("fit")
        assert told[-1].figures["dawin_ray_retries_total"] == {("run", "reading"): 1}
        count = len(told)
        meter.enter("report")
        with meter.shown(None, tries):
            pass
    assert len(told) == count


def test_a_meter_of_a_broken_ray_is_no_error():
    def broken(method, *arguments, timeout=None):
        raise ConnectionError

    told = []
    with metered("run") as meter, meter.shown(told.append, metering.Tries(broken, broken)):
        pass
    assert told


def test_whoever_tells_a_person_is_told_all_the_same():
    class Said:
        def __init__(self):
            self.lines, self.rows = [], 0

        def say(self, message):
            self.lines.append(message)

        @metering.contextmanager
        def phase(self, name, total):
            self.lines.append(f"{name} {total}")

            def advance(summary):
                self.rows += summary.rows

            yield advance

    said, meter = Said(), Meter("run")
    both = Metered(said, meter)
    both.say("a line")
    with both.phase("experts", 7) as advance:
        advance(dataclasses.replace(chunk(), work=7))
    assert (said.lines, said.rows) == (["a line", "experts 7"], 8)
    assert of(meter.figures(), "rows_total") == {("experts", "set"): 8}


def test_a_chunk_costs_the_driver_microseconds():
    """Its processor time; the bound is wide, as machines of tests are slow and busy."""
    meter, summary, count = Meter("run"), chunk(), 20_000
    with meter.phase("experts", 10) as advance:
        begin = time.thread_time()
        for _ in range(count):
            advance(summary)
        assert (time.thread_time() - begin) / count < 50e-6
