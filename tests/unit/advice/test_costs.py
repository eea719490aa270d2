"""Forecasts are arithmetic on rates: made ones, of which the sum is known."""

from dataclasses import replace

import pytest

from dawin_ray.advice.costs import Load, Machine, Once, Rate, Rates, alone, forecast
from dawin_ray.job import Forwards

RATES = Rates(
    expert=Rate(seconds=0.05), merged=Rate(seconds=0.06), exact=Rate(seconds=0.12),
    decoding=0.002, cached=0.0005, between=0.001,
)  # fmt: skip
ONCE = Once(
    process=1, prepare=2, checking=3, engine=4, opening=0.5, load=5, load_merged=6, load_exact=7,
    merging=1.5, after=0.25, fit=0.75, tables=0.2, report=2.5, end=0.8,
)  # fmt: skip
LOCAL = Machine(in_turn=True, gpu=False, actors=1, threads=2, readers=1, cpus=2)
RAY = replace(LOCAL, in_turn=False)
CLUSTERED = Forwards(experts=2, static=1, samplewise=0, merged=1, exact=0, passes=2)
EXACT = Forwards(experts=2, static=0, samplewise=0, merged=0, exact=1, passes=1)


def load(forwards=CLUSTERED, samples=1_000, **more):
    return Load(
        forwards=forwards, samples=samples, scored=samples, chunk_size=100,
        **{"cached": True} | more,
    )  # fmt: skip


def test_two_passes_in_one_process_are_the_sum_of_all():
    found = forecast(load(), RATES, ONCE, LOCAL)
    assert found.parts == pytest.approx(
        {
            "start": 5.5,
            "prepare": 2,
            "pass 1": 5 + 3 * 50 + 2 + 1 + 0.25,
            "tables and fit": 0.95,
            "pass 2": 6 + 1.5 + 60 + 0.5 + 1 + 0.25,
            "tables of pass 2": 0.2,
            "report and audit": 2.5,
            "end": 0.8,
        }
    )
    assert found.seconds == pytest.approx(sum(found.parts.values()))
    assert found.low == found.high == pytest.approx(found.seconds)  # nothing is known of a spread


def test_without_a_cache_the_second_pass_decodes_again():
    with_it = forecast(load(), RATES, ONCE, LOCAL)
    without = forecast(load(cached=False), RATES, ONCE, LOCAL)
    assert without.seconds - with_it.seconds == pytest.approx(1_000 * (0.002 - 0.0005))


def test_one_pass_decodes_once_and_an_exact_forward_has_its_price():
    found = forecast(load(EXACT), RATES, ONCE, LOCAL)
    assert found.parts["one pass"] == pytest.approx(7 + 2 * 50 + 120 + 2 + 1 + 0.25)
    assert found.parts["prepare"] == 5  # with the check of the exact mode
    assert "pass 1" not in found.parts


def test_one_model_of_a_saved_fit_is_merged_instead_of_each_clusters():
    one = replace(CLUSTERED, passes=1)
    whole = forecast(load(one), RATES, ONCE, LOCAL).parts["one pass"]
    third = forecast(load(one, merges=1 / 3), RATES, ONCE, LOCAL).parts["one pass"]
    assert whole - third == pytest.approx(1.0)


def test_actors_share_the_forwards_and_cpus_the_decoding():
    once = forecast(load(), RATES, ONCE, RAY).parts["pass 1"]
    assert once == pytest.approx(5 + 150 + 2 / 2 + 0.25)  # two cores for both
    many = replace(RAY, actors=4, threads=8, cpus=40, readers=24)
    assert forecast(load(), RATES, ONCE, many).parts["pass 1"] == pytest.approx(5 + 150 / 4 + 0.25)


def test_gpus_wait_for_readers_where_these_are_slower():
    gpu = replace(RAY, gpu=True, threads=1, cpus=8, readers=7)
    fast = replace(RATES, expert=Rate(seconds=1e-5))
    assert forecast(load(), RATES, ONCE, gpu).parts["pass 1"] == pytest.approx(5 + 150 + 0.25)
    assert forecast(load(), fast, ONCE, gpu).parts["pass 1"] == pytest.approx(5 + 2 / 7 + 0.25)


def test_rejects_are_read_and_not_scored():
    found = forecast(replace(load(), scored=500), RATES, ONCE, LOCAL)
    assert found.parts["pass 1"] == pytest.approx(5 + 75 + 2 + 0.5 + 0.25)


def test_a_job_with_exact_models_has_no_forecast_where_they_cannot_be_run():
    without = replace(RATES, exact=None)
    assert forecast(load(EXACT), without, ONCE, LOCAL) is None
    assert forecast(load(replace(CLUSTERED, samplewise=1)), without, ONCE, LOCAL) is None
    assert forecast(load(), without, ONCE, LOCAL) is not None


def test_the_spread_of_the_pilots_chunks_is_the_intervals_and_less_is_known_of_few():
    each = [0.045, 0.05, 0.055, 0.05]
    spread = replace(RATES, expert=Rate.of(each))
    found = forecast(load(), spread, ONCE, LOCAL)
    assert found.low < found.seconds < found.high
    assert found.high - found.seconds == pytest.approx(found.seconds - found.low)
    fewer = forecast(load(), replace(RATES, expert=Rate.of(each[1:])), ONCE, LOCAL)
    assert fewer.high - fewer.seconds > found.high - found.seconds
    # Student's quantile, 3 degrees; 10 chunks to come
    reach = 3.182446 * Rate.of(each).deviation * (1 / 4 + 1 / 10) ** 0.5
    assert found.high - found.seconds == pytest.approx(3 * 1_000 * reach, rel=1e-5)


def test_a_rate_is_the_median_of_chunks_by_forward():
    assert Rate.of([3.0, 1.0, 100.0], parts=2).seconds == 1.5
    assert Rate.of([3.0, 3.0], less=1.0).seconds == 2.0
    assert Rate.of([0.5], less=1.0).seconds == 0.0
    assert Rate.of([0.5]).reach(10) == 0


def test_a_model_by_itself_is_loaded_and_asked_once():
    assert alone(load(), RATES, ONCE, LOCAL) == pytest.approx(1 + 4 + 5 + 50 + 2 + 1 + 0.8)
