"""Which class is called which, in what adds: exact counts of label and answer, by who answers.

A matrix of C x C cells would be as large for a few samples as for all; kept are the pairs that
there are. Where these are more than MOST_PAIRS, none is: whether they are follows from the rows
alone, and so the same is kept however they were split.

N samples, P pairs, A who answer: the experts, and DaWin last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# 8 MB: three who answer, of 400 classes that are all taken for each other; or of 1,000 classes, 170
# others for each.
MOST_PAIRS = 1 << 19

BITS = 28  # of a class in a key, which is [who, label, answer]

CLASS = (1 << BITS) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusions:
    """Pairs of label and answer, of rows with a label; in the order of keys."""

    rows: np.ndarray  # with a label, int64 [1]
    key: np.ndarray  # int64 [P]; none where they were too many, or where nobody counted
    n: np.ndarray  # rows of each, int64 [P]

    @classmethod
    def of(cls, label_N: np.ndarray, answer_NA: np.ndarray) -> Confusions:
        """Of rows with a label. Classes are whole numbers below 2^BITS."""
        label_N = label_N.astype(np.int64) << BITS
        keys = [
            (who << 2 * BITS) + label_N + answer_N.astype(np.int64)
            for who, answer_N in enumerate(answer_NA.T)
        ]
        found = [np.unique(key_N, return_counts=True) for key_N in keys]
        none = np.zeros(0, dtype=np.int64)
        return _kept(
            len(label_N),
            np.concatenate([none, *(key for key, _ in found)]),
            np.concatenate([none, *(n for _, n in found)]),
        )

    @classmethod
    def uncounted(cls, rows: int) -> Confusions:
        """Of so many rows with a label, whose summary was made before there was this."""
        return _kept(rows, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    @classmethod
    def merge(cls, parts: Sequence[Confusions]) -> Confusions:
        """Of all rows together."""
        rows = sum(int(part.rows[0]) for part in parts)
        if not all(part.known for part in parts):
            return cls.uncounted(rows)
        keys, n = (np.concatenate([getattr(p, name) for p in parts]) for name in ("key", "n"))
        order = np.argsort(keys, kind="stable")  # of runs in order, which is quick
        keys, n = keys[order], n[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        return _kept(rows, keys[first], np.add.reduceat(n, first) if len(first) else n)

    @property
    def known(self) -> bool:
        """Whether the pairs are kept."""
        return len(self.key) > 0 or not self.rows[0]

    def pairs(self, who: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, answers and rows of one who answers, int64 each, by label and answer."""
        start, end = np.searchsorted(self.key, [who << 2 * BITS, (who + 1) << 2 * BITS])
        key = self.key[start:end]
        return key >> BITS & CLASS, key & CLASS, self.n[start:end]


def _kept(rows: int, key: np.ndarray, n: np.ndarray) -> Confusions:
    if len(key) > MOST_PAIRS:
        key, n = key[:0], n[:0]
    return Confusions(rows=np.array([rows], dtype=np.int64), key=key, n=n)
