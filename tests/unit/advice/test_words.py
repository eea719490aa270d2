"""What a person is told: one sentence, and what stands behind it."""

import pytest
from rich.console import Console

from dawin_ray.advice.costs import Forecast
from dawin_ray.advice.figures import Advice, DatasetAdvice, ModeAdvice
from dawin_ray.advice.recommend import Choice
from dawin_ray.advice.words import parts_of, sentence_of
from dawin_ray.job import duration
from dawin_ray.statistics import Estimated, Interval


def interval(value, low, high):
    return Interval(value=value, low=low, high=high, n=500)


SECONDS = Forecast(seconds=330.0, low=300.0, high=360.0, parts={"pass 1": 200.0, "pass 2": 130.0})
MODES = {
    mode: ModeAdvice(mode=mode, kind=mode, what=what, forwards=n, job_forwards=n, seconds=SECONDS)
    for mode, what, n in (
        ("plain", "b alone", 1), ("static", "even interpolation", 1), ("clustered", "DaWin", 3),
        ("exact", "DaWin, exact", 4),
    )
}  # fmt: skip
UP, LITTLE, OPEN = interval(0.1, 0.05, 0.15), interval(0.0, -0.01, 0.003), interval(0, -0.02, 0.02)


def choice(mode, why="labels", *, settled=False, over=None, dearer=None):
    return Choice(mode=mode, why=why, settled=settled, over=over or {}, open=dearer or {})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            choice("static", settled=True, over={"plain": UP},
                   dearer={"clustered": LITTLE, "exact": LITTLE}),
            "Use even interpolation: it gains +10.0 [+5.0, +15.0] over b alone on the pilot's "
            "labels, and DaWin and DaWin, exact can gain less than 0.5 points over it.",
        ),
        (
            choice("plain", dearer={"clustered": OPEN, "exact": LITTLE}),
            "Use b alone: that a dearer mode is better is not shown, though DaWin may gain up to "
            "2.0 points (+0.0 [−2.0, +2.0]); more labels would tell.",
        ),
        (
            choice("exact", settled=True, over={"plain": UP, "clustered": UP}),
            "Use DaWin, exact: it gains +10.0 [+5.0, +15.0] over b alone and +10.0 [+5.0, +15.0] "
            "over DaWin on the pilot's labels, and no mode that can be run here costs more.",
        ),
        (
            choice("plain", "agreement", settled=True),
            "Use b alone: the experts agree on all but 0.5 % of the samples, so that no way to "
            "interpolate them can change much.",
        ),
        (
            choice("clustered", "no labels"),
            "Use DaWin, the method's own default: without labels nothing shows that another mode "
            "is better; some hundred labels would (dawin-ray calibrate takes them too).",
        ),
    ],
)  # fmt: skip
def test_the_recommendation_is_one_sentence(found, said):
    assert sentence_of(found, MODES) == said


def test_what_stands_behind_it_is_told():
    guess = {"bare": Estimated(value=0.8, low=0.7, high=0.9)}
    modes = (
        ModeAdvice(**vars(MODES["plain"]) | {"alone": 100.0, "estimated": guess}),
        ModeAdvice(**vars(MODES["static"]) | {"column": "baseline_prediction"}),
        MODES["clustered"],
        ModeAdvice(mode="exact", kind="exact", what="exact", unavailable="no memory"),
    )
    advice = Advice(
        code="0", experts=("a", "b"), mode="clustered", why="no labels", settled=False,
        sentence="Use DaWin.", open={}, modes=modes, where="1 model actor on cpu",
        pilot_samples=500, pilot_seconds=70.0,
        datasets={
            "d\n": DatasetAdvice(
                samples=10_000, known=False, pilot=500, labelled=0, rejects=3,
                entropy={"a": 0.5, "b": 0.25}, clusters=(300, 197), agree=0.75,
                coefficient={"a": (0.4, 0.1, 0.6), "b": (0.6, 0.4, 0.9)},
            )
        },
    )  # fmt: skip
    console = Console(width=140, record=True)
    for part in parts_of(advice):
        console.print(part, soft_wrap=True)
    said = console.export_text()
    for words in (
        "> DaWin",
        "5.5 min [5.0 min, 6.0 min]",
        "not here  exact: no memory",
        "alone     b alone, by itself and without a report: 100 s",
        "estimated b alone on bare, without its labels: 80.0 [70.0, 90.0] %",
        "column    even interpolation: its answers are in baseline_prediction",
        "500 of about 10,000 samples, 3 of them rejected, no labels; the experts agree on 75.0 %",
        "entropies, nats: a 0.50, b 0.25",
        "a 0.40 (0.10 to 0.60)",
        "samples of the clusters: 300, 197",
        "forecast  DaWin, 5.5 min [5.0 min, 6.0 min]: pass 1 3.3 min, pass 2 2.2 min",
        "pilot     500 samples, 70 s",
    ):
        assert words in said
    assert "accuracy" not in said


def test_times_are_told_as_a_person_reads_them():
    told = [duration(s) for s in (3.4, 119, 150, 1_260, 9_000)]
    assert told == ["3 s", "119 s", "2.5 min", "21 min", "2.5 h"]
