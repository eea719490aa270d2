"""The rule by which one mode is recommended.

Modes are in the order of their price in forwards: an expert alone, a static model, merged models of
clusters, the exact mode. Those that cannot be run here are left out.

With labels: the cheapest mode over which no dearer one is *shown* to gain: whose 95 % interval of
the gain, paired by sample, holds 0 or less. It is *settled* where no dearer one can gain TOLERANCE
or more, by the upper ends of these intervals; else the pilot leaves so much open, and says it.

Without labels nothing can be shown: an expert alone, the last, where all agree on all samples but
TOLERANCE of them; else clustered, the method's own default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dawin_ray.advice.gains import Judged, gain
from dawin_ray.advice.modes import MODES, Mode
from dawin_ray.statistics import Interval

TOLERANCE = 0.005  # of accuracy, or of all samples: half a point

Why = Literal["labels", "agreement", "no labels"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is recommended, and what is known of the others.

    `over` has the gains of the chosen mode over the cheaper ones, `open` those of dearer ones over
    it; both are empty without labels.
    """

    mode: Mode
    why: Why
    settled: bool
    over: Mapping[Mode, Interval]
    open: Mapping[Mode, Interval]


def recommend(
    runnable: Sequence[Mode], judged: Mapping[Mode, Judged], agree: float | None
) -> Choice:
    """One of the modes that can be run, of which clustered is one.

    `agree` is the least share of a data set's samples that all experts agree on; None of no sample.
    """
    there = [mode for mode in MODES if mode in runnable]
    if not judged:
        if agree is not None and agree >= 1 - TOLERANCE and "plain" in there:
            return Choice(mode="plain", why="agreement", settled=True, over={}, open={})
        return Choice(mode="clustered", why="no labels", settled=False, over={}, open={})
    for place, mode in enumerate(there):
        dearer = {other: gain(judged[other], judged[mode]) for other in there[place + 1 :]}
        if all(found.low <= 0 for found in dearer.values()):
            break
    return Choice(
        mode=mode,
        why="labels",
        settled=all(found.high < TOLERANCE for found in dearer.values()),
        over={other: gain(judged[mode], judged[other]) for other in there[:place]},
        open=dearer,
    )
