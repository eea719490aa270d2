"""The stream's load, run in this process; no time is asserted."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from dawin_ray.bench import SECTIONS
from dawin_ray.bench.scale_stream import CROPS, TINY, Streamed, stream
from dawin_ray.engine import ComputeConfig, engine_of


def test_a_load_keeps_actors_busy_for_as_long_as_asked():
    for load in (TINY, CROPS):
        scaled = load.of(8, 40.0)
        assert abs(scaled.shards * scaled.chunks * load.seconds / 8 - 40) <= load.chunks * 0.5


def test_every_chunk_is_counted_and_the_share_is_one_of_the_ideal():
    load = replace(TINY, seconds=0.01, shards=2, chunks=3)
    engine = engine_of(ComputeConfig(engine="local"))
    with engine.session(print) as on:
        found = stream(load, on, engine)
    assert 0 < found.ideal <= 1
    assert found.chunks <= 1 / 0.01
    assert found.cpu > 0


def test_every_section_has_figures():
    assert "scale_stream" in SECTIONS
    for section in SECTIONS:
        assert callable(import_module(f"dawin_ray.bench.{section}").figures)


def test_the_start_of_processes_is_no_share_of_the_stream():
    """Two actors that sleep half of the time once both are there; one was there long before."""
    begun = np.array([0.0, 1.0, 10.0, 10.0, 12.0, 12.0])
    told = np.array([[1, 1], [2, 2], [11, 3], [11, 4], [13, 5], [13, 6], [14, 8]], float)
    found = Streamed.of(begun, begun + 1.0, told, actors=2)
    assert found.ideal == pytest.approx(4 / 2 / 3)  # of the 3 s from 10 to 13
    assert found.chunks == pytest.approx(4 / 3)
    assert found.cpu == pytest.approx((8 - 3) / 4)
