import numpy as np
import pytest

from dawin_ray.cli import jobs
from dawin_ray.job.calibrate import LEVEL, Answers, applied, decide
from dawin_ray.method import LogOdds

OWN = (1.0, 1.0)


def answers(right):
    """Two experts of the same opinions, the second three times as sure: equal once tempered."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2_000, 5)).astype(np.float32)
    noisy = (logits + rng.gumbel(0, 1, logits.shape)).argmax(axis=1)  # so that its T is 1
    return Answers(labels=noisy, logits=np.stack([logits, 3 * logits], axis=1), right=right)


def even(shares):
    return np.abs(shares[:, 1] - 0.5) < 0.05


def test_temperatures_that_lose_right_answers_are_left_for_the_jobs_own():
    gaining = decide({"a": answers(even)}, OWN)
    assert gaining.temperatures == pytest.approx((1, 3), rel=0.2)
    assert gaining.kept == (False, False)
    assert gaining.tempered.low > 0
    losing = decide({"a": answers(lambda shares: ~even(shares))}, OWN)
    assert losing.temperatures == OWN
    assert losing.kept == (True, True)
    assert losing.tempered.high < 0


def test_without_temperatures_those_of_the_job_stay():
    found = decide({"a": answers(even)}, OWN, temperatures=False)
    assert found.temperatures == OWN
    assert found.kept == (True, True)
    assert found.tempered.value == 0
    # log odds are chosen for them: experts that are the second's by far
    assert abs(found.log_odds["a"].values[1]) > 0


def test_the_commands_level_is_the_packages():
    assert jobs.CALIBRATION_LEVEL == LEVEL


def test_labels_of_all_sets_decide_temperatures_and_each_sets_own_its_log_odds():
    first = answers(lambda shares: shares[:, 1] > 0.9)
    second = answers(lambda shares: shares[:, 1] < 0.1)
    found = decide({"a": first, "b": second}, OWN)
    assert found.temperatures == pytest.approx((1, 3), rel=0.2)
    assert found.log_odds["a"].values[1] > 1
    assert found.log_odds["b"].values[1] < -1


@pytest.mark.parametrize(("better", "worse", "holds"), [(9, 1, True), (5, 4, False)])
def test_log_odds_are_applied_where_the_interval_of_their_gain_is_above_0(better, worse, holds):
    found = LogOdds(values=np.array([0, 1.5]), better=better, worse=worse, count=100)
    log_odds, gain = applied(found)
    assert log_odds == ((0, 1.5) if holds else (0, 0))
    assert (gain.low > 0) == holds
    assert gain.value == pytest.approx((better - worse) / 100)
    assert applied(found, level=0)[0] == (0, 1.5)  # whatever chance would bring
