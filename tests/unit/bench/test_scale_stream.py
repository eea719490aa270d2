"""The stream's load, run in this process; no time is asserted."""

from dataclasses import replace
from importlib import import_module

from dawin_ray.bench import SECTIONS
from dawin_ray.bench.scale_stream import CROPS, TINY, stream
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
