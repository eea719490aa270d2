"""Figures as Ray's metrics: counters by what is new, gauges as they are."""

import sys
from types import SimpleNamespace

import pytest

from dawin_ray.engine import engine_of
from dawin_ray.engine.compute import ComputeConfig
from dawin_ray.engine.ray_metrics import RayMetrics
from dawin_ray.metrics import METRICS, Event, Figures


class _Fake:
    """Ray's Counter and Gauge, which refuse what Ray refuses."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, name, description="", tag_keys=()):
        assert name not in self.made, "it is made once"
        self.name, self.keys, self.calls = name, tag_keys, []
        self.made[name] = self

    def _call(self, value, tags):
        assert tuple(tags) == tuple(self.keys)
        assert all(isinstance(tag, str) and tag.isascii() for tag in tags.values())
        self.calls.append((value, tuple(tags.values())))


class _Counter(_Fake):
    def inc(self, value=1.0, tags=None):
        assert value > 0
        self._call(value, tags)


class _Gauge(_Fake):
    def set(self, value, tags=None):
        assert isinstance(value, float)
        self._call(value, tags)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "ray.util.metrics", SimpleNamespace(Counter=_Counter, Gauge=_Gauge)
    )
    monkeypatch.setattr(_Fake, "made", {})
    return _Fake.made


def told(figures: Figures) -> Event:
    return Event(kind="progress", time=0.0, run="run", phase="experts", figures=figures)


def test_a_counter_gets_what_is_new_and_a_gauge_what_is(made):
    shown = RayMetrics()
    rows, left = "dawin_ray_rows_total", "dawin_ray_left_seconds"
    one, other = ("run", "experts", "a"), ("run", "experts", "b")
    for count in (0, 5, 5, 12):
        shown(told({rows: {one: count, other: 1}, left: {("run", "experts"): 9 - count}}))
    assert made[rows].calls == [(1, other), (5, one), (7, one)]
    assert [value for value, _ in made[left].calls] == [9, 4, 4, -3]
    assert made[rows].keys == METRICS[rows].labels
    assert isinstance(made[rows], _Counter)
    assert isinstance(made[left], _Gauge)


def test_what_says_nothing_makes_nothing(made):
    RayMetrics()(told({}))
    assert made == {}


def test_the_ray_engine_has_metrics_and_the_local_one_has_none():
    assert isinstance(engine_of(ComputeConfig()).sink(), RayMetrics)
    assert engine_of(ComputeConfig(engine="local")).sink() is None
