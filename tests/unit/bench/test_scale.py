"""The measured job is a whole one, costs are attributed to phases, and the model of costs is one.

No time is asserted.
"""

import time

import pytest

from dawin_ray.bench.scale_meter import BEHIND, REST, Meter
from dawin_ray.bench.scale_model import Linear, models_of, of_rows
from dawin_ray.bench.scale_proxy import kind_of
from dawin_ray.bench.scale_run import NO_COUNTS, measured
from dawin_ray.bench.scale_stubs import Shape

GRID = [
    Shape(shards=s, chunks=c, rows=r)
    for s, c, r in [(20, 10, 512), (20, 40, 512), (20, 40, 64), (320, 2, 64), (20, 10, 4096)]
]


def test_the_parts_of_a_cost_are_found():
    def cost(shape: Shape) -> float:
        return 2 + 0.01 * shape.all_chunks + 3e-6 * shape.all_rows + 0.05 * shape.shards

    found = Linear.of(GRID, [cost(shape) for shape in GRID])
    assert found.constant == pytest.approx(2)
    assert found.chunk == pytest.approx(0.01)
    assert found.row == pytest.approx(3e-6)
    assert found.shard == pytest.approx(0.05)
    assert found.at(512e6) == pytest.approx(2 + 1e4 + 1536 + 0.05 * 51_200)
    assert "0.01 s a chunk" in found.words("s")


def test_what_costs_nothing_is_nothing():
    assert Linear.of(GRID, [0.0] * len(GRID)).words("s") == "nothing"


def test_a_phase_that_a_point_lacks_is_nothing_there():
    phases = {"fit": {"cpu": 1.0, "driver_requests": 7}}
    models = models_of([(GRID[0], phases), (GRID[1], {}), (GRID[2], {})])
    assert models["fit"].requests.at(0) < 7


def test_a_request_is_counted_by_what_it_does():
    assert kind_of("GET", "/b/key") == "GET"
    assert kind_of("GET", "/b?list-type=2&prefix=work/") == "LIST"
    assert kind_of("POST", "/b?delete") == "DELETE"
    assert kind_of("POST", "/b/key?uploads") == "PUT"
    assert kind_of("HEAD", "/b/key?versionId=1") == "HEAD"


def test_costs_go_to_the_outermost_phase():
    meter = Meter(lambda: NO_COUNTS)

    def spin() -> None:
        begin = time.process_time()
        while time.process_time() - begin < 0.02:
            pass

    inner = meter.watched(spin, "inner")
    outer = meter.watched(inner, "outer")
    last = meter.watched(lambda: None, "manifest_of")
    outer()
    inner()
    last()
    spin()
    rows = meter.rows()
    assert set(rows) == {REST, "outer", "inner", "manifest_of", BEHIND["manifest_of"]}
    for name in ("outer", "inner", BEHIND["manifest_of"]):
        assert 0.02 <= rows[name]["cpu"] < 0.04


def test_a_whole_job_is_measured():
    found = measured(Shape(shards=2, chunks=2, rows=8), processes=1)
    assert {"prepare", "pass experts", "pass merged", "fit_datasets", "write_page"} < set(
        found.phases
    )
    assert found.phases["pass experts"]["task_cpu"] > 0
    assert found.phases["pass experts"]["tasks"] > 0
    assert found.peak >= found.start > 0
    assert "prepare" not in of_rows(found.phases)
