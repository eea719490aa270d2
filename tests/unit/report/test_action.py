"""What a page says is to be done: it follows from what is significant, and from nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dawin_ray.report.action import POWER, actions_of, labels_for, samples_for, tone_of
from dawin_ray.report.audit import audit
from dawin_ray.report.doubts import Doubt
from dawin_ray.report.figures import (
    ALPHA,
    Agreement,
    Audit,
    CoefficientSpread,
    Difference,
    MeanDifference,
    Spread,
)
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.page import page_of
from dawin_ray.report.tally import Report
from dawin_ray.report.words import answer_of, words_of
from dawin_ray.statistics import paired_differences
from tests.unit.report.made import EXPERTS, LABELLED, write_run

NONE = "no significant difference"


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Audit:
    """Of a run whose first expert is in use."""
    run = write_run(
        tmp_path_factory.mktemp("asked") / "run", EXPERTS[3], LABELLED,
        in_distribution="inside", incumbent="sketch",
    )  # fmt: skip
    return audit(FinishedRun.of(run))


def with_mean(audit: Audit, name: str, value: float, reach: float, says: str) -> Audit:
    """The same where the mean difference to a method is this one, and no data set is harmed."""
    mean = MeanDifference(value=value, low=value - reach, high=value + reach, n=120, says=says)
    suite = replace(audit.suite, differences={**audit.suite.differences, name: mean})
    rows = [
        replace(
            row,
            differences={**row.differences, name: replace(row.differences[name], says=NONE)},
        ) if row.labelled else row
        for row in audit.datasets
    ]  # fmt: skip
    result = replace(audit, suite=suite, datasets=tuple(rows), doubts=())
    return replace(result, replace_it=answer_of(result))


@pytest.mark.parametrize(
    ("value", "reach", "says", "expected"),
    [
        (0.02, 0.01, "better",
         "Replace sketch with DaWin, which gains 2.0 points on average over the shifts."),
        (-0.02, 0.01, "worse",
         "Do not replace sketch: DaWin loses 2.0 points on average over the shifts."),
        (0.02, 0.03, NONE, "Not shown: score some 430 more samples with labels before you "
         "replace sketch. DaWin's gain, 2.0 points on average over the shifts, would be "
         "significant then, if it is real."),
        (0.001, 0.03, NONE, "Not shown: keep sketch. DaWin's gain, 0.1 points on average over the "
         "shifts, is too small for 100 times as many samples to show."),
        (-0.01, 0.03, NONE, "Not shown: keep sketch. DaWin has no gain on average over the shifts "
         "(−1.0 points) that more samples would show."),
    ],
)  # fmt: skip
def test_it_follows_from_the_mean(asked, value, reach, says, expected):
    audit = with_mean(asked, "sketch", value, reach, says)
    assert actions_of(audit) == [expected]
    assert tone_of(audit) == {"better": "yes", "worse": "no", NONE: ""}[says]


def test_doubts_come_first_and_nothing_is_replaced_before(asked):
    doubts = [
        Doubt(dataset=name, kind="flat", says="Grey.", todo="Look.") for name in ("one", "two")
    ]
    better = with_mean(asked, "sketch", 0.02, 0.01, "better")
    (one,) = actions_of(replace(better, doubts=tuple(doubts[:1])))
    assert tone_of(replace(better, doubts=tuple(doubts))) == "doubted"
    assert one.startswith("Look at the doubt first (one), and replace nothing before: ")
    (two,) = actions_of(replace(better, doubts=tuple(doubts)))
    assert two.startswith("Look at the 2 doubts first (one and two), and replace nothing before")


def test_without_an_incumbent_each_expert_has_its_own(asked):
    audit = replace(asked, incumbent=None)
    audit = with_mean(audit, "sketch", 0.02, 0.01, "better")
    audit = with_mean(audit, "photo", -0.02, 0.01, "worse")
    audit = with_mean(audit, "clip_art", -0.001, 0.01, NONE)
    said = actions_of(audit)
    assert [s.split(":")[0].split(" with")[0] for s in said] == [
        "Do not replace photo", "Replace sketch", "Not shown",
    ]  # fmt: skip


def test_many_experts_are_counted(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[8], {"one": True, "two": True})
    found = audit(FinishedRun.of(run))
    for i, name in enumerate(EXPERTS[8]):
        found = with_mean(found, name, 0.02 + 0.001 * i, 0.01, "better")
    assert actions_of(found) == [
        "Replace any of the 8 experts with DaWin: it gains on each on average over the data sets, "
        "the least on task_0 (2.0 points)."
    ]
    found = with_mean(found, "task_3", -0.02, 0.01, "worse")
    assert actions_of(found) == [
        "Do not replace task_3: DaWin loses or harms.",
        "Replace 7 of the 8 experts with DaWin, which gains on average over the data sets.",
    ]


def test_without_labels_it_says_how_many_would_show_a_gain(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": False, "two": False})
    found = audit(FinishedRun.of(run))
    assert found.words[0].startswith("Not shown: no data set has labels, so nothing here says")
    assert "Label all of these samples and some " in found.words[0]  # they are few
    large = replace(
        found,
        datasets=tuple(
            replace(
                row,
                rows=100_000,
                agreement=replace(row.agreement, dawin_with=dict.fromkeys(EXPERTS[2], 0.9)),
            )
            for row in found.datasets
        ),
    )
    (said,) = actions_of(large)
    wanted = labels_for(0.1, 0.02, tests=2)
    assert f"Label some {int(float(f'{wanted:.2g}')):,} samples, as many of each data set" in said
    assert "a gain of 2.0 points" in said
    same = replace(
        large,
        datasets=tuple(
            replace(row, agreement=replace(row.agreement, dawin_with=dict.fromkeys(EXPERTS[2], 1)))
            for row in large.datasets
        ),
    )
    assert actions_of(same)[0].endswith("On no sample does it answer otherwise than the experts.")


def power(better: float, worse: float, n: int, level: float) -> float:
    """Share of experiments, drawn, with an interval above 0: that of the normal distribution."""
    drawn = np.random.default_rng(0).multinomial(n, [better, worse, 1 - better - worse], 20_000)
    gain, apart = drawn[:, 0] - drawn[:, 1], drawn[:, 0] + drawn[:, 1]
    reach = stats.norm.isf((1 - level) / 2) * np.sqrt(apart - gain**2 / n)
    return float(np.mean(gain > reach))


@pytest.mark.parametrize("tests", [1, 4])
def test_so_many_samples_show_a_difference_that_is_as_it_was_found(tests):
    n, level = 1000, 1 - ALPHA / tests
    found = paired_differences([(60, 45, n)], level=level)
    difference = MeanDifference(value=found.value, low=found.low, high=found.high, n=n, says=NONE)
    more = round(samples_for(difference, tests) * n)
    assert more > 2 * n
    assert power(0.06, 0.045, more, level) == pytest.approx(POWER, abs=0.03)
    assert samples_for(replace(difference, value=0.0), tests) == float("inf")


def test_so_many_labels_show_a_gain():
    wanted = round(labels_for(apart=0.1, gain=0.02, tests=1))
    assert power(0.06, 0.04, wanted, 1 - ALPHA) == pytest.approx(POWER, abs=0.03)
    # where some samples are wrong in both, fewer would do
    assert power(0.05, 0.03, wanted, 1 - ALPHA) > POWER


def test_one_data_set_is_named(asked):
    (row,) = [row for row in asked.labelled if row.dataset == "one"]
    difference = Difference(value=0.05, low=0.01, high=0.09, n=60, better=9, worse=6, p=0.01,
                            p_holm=0.02, says="better")  # fmt: skip
    row = replace(row, differences={**row.differences, "sketch": difference})
    alone = replace(asked, datasets=(row,), suite=None, in_distribution=None, doubts=())
    assert actions_of(alone) == ["Replace sketch with DaWin, which gains 5.0 points on one."]


def test_a_run_of_no_rows_has_a_page(tmp_path):
    run = write_run(tmp_path / "run", EXPERTS[2], {"one": False})
    found = audit(FinishedRun.of(run))
    bare = replace(
        found.datasets[0], rows=0, clusters=(),
        agreement=Agreement(all_agree=1.0, dawin_with={}, dawin_with_none=0.0),
        coefficient=dict.fromkeys(
            EXPERTS[2], CoefficientSpread(mean=None, quantiles=(), histogram=(0,) * 40)
        ),
        entropy=dict.fromkeys(EXPERTS[2], Spread(mean=None, quantiles=())),
    )  # fmt: skip
    bare = replace(found, datasets=(bare,))
    assert actions_of(bare)[0].endswith("On no sample does it answer otherwise than the experts.")
    assert words_of(bare) == ["No sample was scored."]
    assert "No sample was scored." in page_of(bare, Report.read(run), "x", {}, {})
