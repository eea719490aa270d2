"""The benchmark measures what it says; no time is asserted."""

import json

import pytest
from typer.testing import CliRunner

from dawin_ray.bench import BenchConfig, interleaved, measure, median_ratio
from dawin_ray.bench.mixture import log_expertises
from dawin_ray.cli import app


@pytest.fixture(scope="module")
def config(small) -> BenchConfig:
    return BenchConfig(
        architecture=small.config, batch=8, rounds=1, device="cpu", sections=("models", "data")
    )


@pytest.fixture(scope="module")
def result(config) -> dict:
    return measure(config)


def test_every_mode_has_a_figure_in_every_precision(result):
    names = [f["name"] for f in result["figures"] if f["section"] == "models"]
    for mode in ("one forward of one model", "pass 1", "pass 2", "exact forward", "one by one"):
        for precision in ("float32", "bfloat16"):
            assert any(n.startswith(precision) and mode in n for n in names), (mode, precision)
    assert sum("agrees with float32" in name for name in names) == 2


def test_ratios_are_to_a_figure_of_the_same_run(result):
    by_name = {figure["name"]: figure for figure in result["figures"]}
    assert by_name["float32 one forward of one model"]["ratio"] == 1
    assert by_name["decode and crop"]["ratio"] == 1
    # one round: the ratio is that of the values
    exact, limit = by_name["float32 exact forward"], by_name["float32 one forward of one model"]
    assert exact["ratio"] == pytest.approx(exact["value"] / limit["value"])


def test_the_machine_is_described(result):
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["torch"]


def test_the_warm_up_is_not_counted():
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]
    assert median_ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]) == 2.0


def test_a_stream_of_coefficients_is_the_same_at_every_reading():
    one, two = ([e.sum() for e in log_expertises(250_000)] for _ in range(2))
    assert one == two
    assert len(one) == 3


def test_the_command_writes_what_it_prints(small, tmp_path):
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(
        app, ["bench", "--sections", "data", "--rounds", "1", "--architecture", small.config,
              "--out", str(out)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())["figures"]
    assert [figure["section"] for figure in figures] == ["data"] * 3
    assert all(figure["name"] in result.output for figure in figures)
