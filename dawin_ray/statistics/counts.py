"""What is counted of rows in whole numbers, so that counts of parts add to those of the whole.

N samples, M experts, Q methods, the last of them DaWin; C classes, K clusters, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from dawin_ray.statistics.estimates import FINE, fine_bins
from dawin_ray.statistics.rows import Rows, sum_of_hashes
from dawin_ray.statistics.scores import BINS, calibration_bin
from dawin_ray.statistics.sums import normal, sum_of, sums_by_group

SUMS = ("cluster_weights", "losses", "bin_confidence", "confidence")  # as `sums` has them

BLOCK = 1 << 16  # rows of which products are exact in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """All int64. C and K are as large as the largest class and cluster that was seen.

    Sums have two numbers each (`sums`), in the last place of the shape. Losses that are not finite
    are left out of them and of their counts.
    """

    size: np.ndarray  # rows, those with a label, with a float32 prediction, equal to it [4]
    ids: np.ndarray  # `sum_of_hashes` of the ids [2]
    both: np.ndarray  # rows that two methods both have right; of one with itself: right [Q, Q]
    cells: np.ndarray  # rows, and those that DaWin has right [2], of each entry of `cell` [M + 3]
    class_n: np.ndarray  # rows with this label [C]
    class_right: np.ndarray  # and right answers [Q, C]
    class_both: np.ndarray  # and those that DaWin has right as well [Q, C]
    predicted: np.ndarray  # rows of which DaWin says this class [C]
    clusters: np.ndarray  # rows, those with a label, right answers of DaWin [3, K]
    cluster_weights: np.ndarray  # sums of coefficients [K, M, 2]
    agreement: np.ndarray  # experts agree; DaWin with each; with none [M + 2]
    finite: np.ndarray  # finite log losses, and Brier scores [2, Q]
    losses: np.ndarray  # sums of them, and of their squares [2, 2, Q, 2]
    bins: np.ndarray  # of calibration: rows, and right answers [2, Q, B]
    bin_confidence: np.ndarray  # sums of confidences of rows with a label [Q, B, 2]
    confidence: np.ndarray  # of all rows [Q, 2]
    fine: np.ndarray  # rows with a label, right ones among them, rows without one [3, Q, FINE]

    @classmethod
    def of(cls, rows: Rows) -> Counts:
        """Of rows."""
        known = rows.label >= 0
        label, ours = rows.label[known], rows.methods[-1]
        right = {name: (rows.prediction[name] == rows.label)[known] for name in rows.methods}
        right_NQ = np.stack(list(right.values()), axis=1)
        code = cell_of(np.stack([right[name] for name in rows.experts], axis=1))
        losses = [
            [_moments(loss[name][known]) for name in rows.methods]
            for loss in (rows.nll, rows.brier)
        ]
        bins = [_bins(rows.confidence[name][known], right[name]) for name in right]
        finite, moments = zip(*(zip(*of_loss, strict=True) for of_loss in losses), strict=True)
        width = len(rows.experts) + 3
        compared = np.zeros(0, dtype=bool)
        if rows.in_float32 is not None:
            compared = rows.in_float32 >= 0
        equal = compared & (rows.in_float32 == rows.prediction[ours]) if len(compared) else compared
        return cls(
            size=_whole([len(known), len(label), compared.sum(), equal.sum()]),
            ids=sum_of_hashes(rows.ids),
            both=_both(right_NQ),
            cells=np.stack(
                [
                    np.bincount(code[chosen], minlength=width)
                    for chosen in (slice(None), right[ours])
                ]
            ),
            class_n=np.bincount(label),
            class_right=_by_group(label, right_NQ),
            class_both=_by_group(label, right_NQ & right[ours][:, None]),
            predicted=np.bincount(rows.prediction[ours][rows.prediction[ours] >= 0]),
            **_clusters(rows, known, right[ours]),
            agreement=_agreement(rows.prediction[ours], rows.expert_prediction),
            finite=_whole(finite),
            losses=np.stack([np.stack(of_loss, axis=1) for of_loss in moments]),
            bins=np.stack([counted for counted, _ in bins], axis=1),
            bin_confidence=np.stack([confidence for _, confidence in bins]),
            confidence=np.stack([sum_of(rows.confidence[name]) for name in rows.methods]),
            fine=np.stack([_fine(rows.confidence[n], known, right[n]) for n in right], axis=1),
        )

    @classmethod
    def merge(cls, counts: Sequence[Counts]) -> Counts:
        """Of all rows together."""
        found = {f.name: _added([getattr(c, f.name) for c in counts]) for f in fields(cls)}
        return cls(**found | {name: normal(found[name]) for name in SUMS})


def cell_of(right_NM: np.ndarray) -> np.ndarray:
    """Which experts are right: 0 all, 1 none, 2 + i the one alone, 2 + M several of them [N]."""
    count = right_NM.shape[1]
    how_many_N = right_NM.sum(axis=1)
    alone_N = 2 + right_NM.argmax(axis=1)
    cell: np.ndarray = np.select(
        [how_many_N == count, how_many_N == 0, how_many_N == 1], [0, 1, alone_N], 2 + count
    )
    return cell


def _whole(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _both(right_NQ: np.ndarray) -> np.ndarray:
    count = right_NQ.shape[1]
    both_QQ = np.zeros((count, count), dtype=np.int64)
    for start in range(0, len(right_NQ), BLOCK):
        block = right_NQ[start : start + BLOCK].astype(np.float32)
        both_QQ += (block.T @ block).astype(np.int64)
    return both_QQ


def _by_group(group_N: np.ndarray, right_NQ: np.ndarray) -> np.ndarray:
    count = int(group_N.max(initial=-1)) + 1
    return np.stack([np.bincount(group_N[r], minlength=count) for r in right_NQ.T])


def _clusters(rows: Rows, known: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    cluster = np.zeros(0, dtype=np.int64) if rows.cluster is None else rows.cluster
    labelled = known[: len(cluster)]
    count, of_known = int(cluster.max(initial=-1)) + 1, cluster[labelled]
    of_right = of_known[right[: len(of_known)]]
    sizes = [np.bincount(c, minlength=count) for c in (cluster, of_known, of_right)]
    weights = [
        sums_by_group(rows.coefficient[: len(cluster), i], cluster, count)
        for i in range(len(rows.experts))
    ]
    return {"clusters": _whole(sizes), "cluster_weights": np.stack(weights, axis=1)}


def _agreement(ours_N: np.ndarray, theirs_NM: np.ndarray) -> np.ndarray:
    same_NM = theirs_NM == ours_N[:, None]
    all_agree_N = (theirs_NM == theirs_NM[:, :1]).all(axis=1)
    none_N = ~same_NM.any(axis=1)
    return _whole([all_agree_N.sum(), *same_NM.sum(axis=0), none_N.sum()])


def _moments(values_N: np.ndarray) -> tuple[int, np.ndarray]:
    """How many values are finite, and sums of them and of their squares [2, 2]."""
    finite_N = np.isfinite(values_N)
    if not finite_N.all():
        values_N = values_N[finite_N]
    values_N = values_N.astype(np.float64)
    return len(values_N), np.stack([sum_of(values_N), sum_of(values_N * values_N)])


def _bins(confidence_N: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of calibration: rows and right answers [2, B], and sums of confidences [B, 2]."""
    bin_N = calibration_bin(confidence_N)
    counted = [np.bincount(chosen, minlength=BINS) for chosen in (bin_N, bin_N[right_N])]
    return _whole(counted), sums_by_group(confidence_N, bin_N, BINS)


def _fine(confidence_N: np.ndarray, known_N: np.ndarray, right_n: np.ndarray) -> np.ndarray:
    """Rows with a label, right ones among them, and rows without, by confidence [3, FINE]."""
    bin_N = fine_bins(confidence_N)
    of_known = bin_N[known_N]
    counted = (of_known, of_known[right_n], bin_N[~known_N])
    return np.stack([np.bincount(bins, minlength=FINE) for bins in counted])


def _added(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Their sum, each as large as the largest."""
    shape = np.max([array.shape for array in arrays], axis=0)
    total = np.zeros(shape, dtype=np.int64)
    for array in arrays:
        total[tuple(map(slice, array.shape))] += array
    return total
