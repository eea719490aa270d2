"""What each mode gets right on the pilot's labelled samples, and what it gains over another.

A mode that comes in several kinds (which expert alone, which weight of a static model) is judged by
samples that it was not chosen by: those of each half of the pilot by the kind that has most right
answers in the other. What is recommended is the kind with most right answers in all.

Shapes: N samples of a data set, M experts, G kinds of a mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dawin_ray.advice.modes import Mode
from dawin_ray.statistics import (
    Estimated,
    Interval,
    accuracy,
    estimates_of,
    fine_counts,
    macro_accuracy,
    paired_differences,
)

SEED = 0  # of the halves


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of a data set's samples in the pilot, what each kind of model says."""

    label: np.ndarray  # int64 [N]; -1 where there is none
    prediction: Mapping[str, np.ndarray]  # by kind, int32 [N]
    confidence: Mapping[str, np.ndarray]  # float32 [N]
    entropy: np.ndarray  # of the experts, in nats [N, M]
    coefficient: np.ndarray  # [N, M]
    cluster: np.ndarray  # int32 [N]
    agree: float  # share of the samples on which all experts say the same


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A mode on the labelled data sets."""

    chosen: str  # the kind
    accuracy: Interval  # mean over the data sets
    datasets: Mapping[str, Interval]
    right: Mapping[str, np.ndarray]  # by data set, bool [n] of the labelled samples


def judge(
    answers: Mapping[str, Answers], modes: Mapping[Mode, Sequence[str]]
) -> dict[Mode, Judged]:
    """Each mode, by the kinds that it comes in, on data sets with labels; {} without any.

    `answers` are of the data sets that count.
    """
    labelled = {name: of_set for name, of_set in answers.items() if (of_set.label >= 0).any()}
    if not labelled:
        return {}
    return {mode: _judged(labelled, kinds) for mode, kinds in modes.items()}


def gain(ours: Judged, theirs: Judged) -> Interval:
    """Mean over the data sets of the difference of accuracies, paired by sample."""
    counts = []
    for name, right_n in ours.right.items():
        other_n = theirs.right[name]
        better, worse = int((right_n & ~other_n).sum()), int((other_n & ~right_n).sum())
        counts.append((better, worse, len(right_n)))
    return paired_differences(counts)


def choose(right: Mapping[str, np.ndarray]) -> tuple[int, dict[str, np.ndarray]]:
    """The best of G kinds, and right answers [n] of each half by the best of the other.

    `right` are bool [n, G] by data set, which weigh the same; of equal kinds the first is best.
    """
    draw = np.random.default_rng(SEED)
    parts = {name: draw.permutation(len(r)) % 2 for name, r in right.items()}
    halves = [_best([r[parts[name] != half] for name, r in right.items()]) for half in (0, 1)]
    fair = {
        name: np.where(parts[name] == 0, r[:, halves[0]], r[:, halves[1]])
        for name, r in right.items()
    }
    return _best(list(right.values())), fair


def estimated(
    answers: Mapping[str, Answers], kinds: Sequence[str]
) -> dict[str, dict[str, Estimated]]:
    """Accuracies of data sets without a label, by those of at least three others that have some.

    By data set and kind; {} where there are too few. See `statistics.estimates_of`.
    """
    counts = {}
    for name, of_set in answers.items():
        known = of_set.label >= 0
        counts[name] = np.stack(
            [
                fine_counts(
                    of_set.confidence[kind], known, (of_set.prediction[kind] == of_set.label)[known]
                )
                for kind in kinds
            ],
            axis=1,
        )
    found = estimates_of(counts, kinds)
    if found is None:
        return {}
    return {name: e for name, e in found.datasets.items() if not (answers[name].label >= 0).any()}


def _judged(labelled: Mapping[str, Answers], kinds: Sequence[str]) -> Judged:
    right = {}
    for name, of_set in labelled.items():
        known = of_set.label >= 0
        right[name] = np.stack(
            [(of_set.prediction[kind] == of_set.label)[known] for kind in kinds], axis=1
        )
    chosen, fair = choose(right)
    counts = {name: (int(r.sum()), len(r)) for name, r in fair.items()}
    return Judged(
        chosen=kinds[chosen],
        accuracy=_accuracy(list(counts.values())),
        datasets={name: _accuracy([count]) for name, count in counts.items()},
        right=fair,
    )


def _best(right: Sequence[np.ndarray]) -> int:
    """The kind with the highest mean over data sets of its accuracy."""
    shares = [r.mean(axis=0) for r in right if len(r)]
    return int(np.argmax(np.mean(shares, axis=0))) if shares else 0


def _accuracy(counts: Sequence[tuple[int, int]]) -> Interval:
    """Of one data set Wilson's interval, of several that of the mean of their accuracies."""
    if len(counts) == 1:
        return accuracy(*counts[0])
    return macro_accuracy(counts)
