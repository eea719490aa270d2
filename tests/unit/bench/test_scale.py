"""The measured job is a whole one, costs are attributed to phases, and the model of costs is one.

No time is asserted.
"""

import time

import pytest

from dawin_ray.bench import BenchConfig
from dawin_ray.bench import scale as section
from dawin_ray.bench.scale_meter import BEHIND, REST, Meter
from dawin_ray.bench.scale_model import PART_ROWS, Linear, models_of, of_rows
from dawin_ray.bench.scale_proxy import WAITED, kind_of
from dawin_ray.bench.scale_run import NO_COUNTS, Measured, measured
from dawin_ray.bench.scale_stubs import Shape
from dawin_ray.errors import UserError
from dawin_ray.runs import planning

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


def test_a_part_is_what_the_runs_make():
    assert PART_ROWS == planning.PART_ROWS


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


def test_requests_beside_tasks_are_not_waited_for():
    """Two seconds of requests, of which the driver was idle for all but a little, as tasks ran."""
    looks = iter([0, 2_000_000, 2_000_000])

    def look() -> dict:
        return {"driver": NO_COUNTS["driver"] | {WAITED: next(looks)}, "tasks": NO_COUNTS["tasks"]}

    meter = Meter(look)
    begin = time.perf_counter()
    time.sleep(0.1)
    meter.add_task(0.1, 1e6, time.perf_counter() - begin)
    time.sleep(0.05)
    meter.switch("other")
    assert 0.05 <= meter.rows()[REST]["waited"] < 0.1


def test_a_whole_job_is_measured():
    found = measured(Shape(shards=2, chunks=2, rows=8), processes=1)
    assert {"prepare", "pass experts", "pass merged", "fit_datasets", "write_page"} < set(
        found.phases
    )
    assert found.phases["pass experts"]["task_cpu"] > 0
    assert found.phases["pass experts"]["tasks"] > 0
    assert found.peak >= found.start > 0
    assert "prepare" not in of_rows(found.phases)


def test_the_section_extrapolates_what_it_measured(monkeypatch):
    """A driver that takes 6 us a row, and tasks that take 24; there are 1,907 parts, not 2,048."""

    def stub(shape: Shape) -> Measured:
        of_rows = {"cpu": 6e-6 * shape.all_rows, "driver_requests": 0, "waited": 0.0}
        of_rows |= {"tasks_requests": 0, "task_cpu": 24e-6 * shape.all_rows, "task_peak": 1e6}
        return Measured(shape=shape, phases={"write_page": of_rows}, start=1e6, peak=2e6)

    monkeypatch.setattr(section, "measured", stub)
    by_name = {f.name: f for f in section.figures(BenchConfig())}
    assert by_name["4,003,840 rows: driver CPU around the passes"].value == pytest.approx(24.02304)
    assert by_name["4,003,840 rows: peak memory of the driver"].ratio == 1
    found = by_name["disk: write_page, 1e+09 rows"]
    assert found.value == pytest.approx(100)
    assert "tasks 50 (1), 3.12 (16), 0.21 (256) min" in found.note
    assert "bound by the driver from 1 GPUs on" in found.note
    assert by_name["disk: all phases, 1e+08 rows"].value == pytest.approx(10)


def test_a_store_without_an_address_of_its_server_is_refused(monkeypatch):
    monkeypatch.setattr(section, "measured", lambda shape: pytest.fail("it is refused first"))
    monkeypatch.setenv(section.ENDPOINT, "https://store")
    with pytest.raises(UserError, match="expected http://host:port"):
        list(section.figures(BenchConfig(store="s3://bucket/folder")))
