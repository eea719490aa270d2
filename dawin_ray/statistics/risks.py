"""Selective risk of confidences in counts: errors among the most confident of any number."""

from __future__ import annotations

import numpy as np
import scipy  # which imports scipy.special when something of it is first used

from dawin_ray.statistics.bits import keys_of
from dawin_ray.statistics.scores import COVERAGES
from dawin_ray.statistics.sketch import Counted


class Risks(Counted):
    """Counts of confidences, the surest first. Columns: n, and right answers among them.

    Equally confident samples count with their mean, as in any order of them on average; those of
    one interval as if they were equally confident, which is so at level 0.
    """

    @classmethod
    def of(cls, confidence_N: np.ndarray, right_N: np.ndarray) -> Risks:
        """Of float32 confidences in [0, 1], and of whether their answers are right."""
        # a key is below 2^31, which leaves room for the answer
        both = np.sort(keys_of(confidence_N, "confidence") << np.uint32(1) | right_N)
        ones = np.ones(len(both), dtype=np.uint64)
        columns = np.stack([ones, (both & np.uint32(1)).astype(np.uint64)])
        return cls._fitted(0, both >> np.uint32(1), columns)

    @property
    def _wrong(self) -> np.ndarray:
        wrong_B: np.ndarray = (self.columns[0] - self.columns[1]).astype(np.float64)
        return wrong_B

    def at(self, counts: np.ndarray) -> np.ndarray:
        """Share of errors among the `counts` most confident samples, each from 1 on."""
        n_B, wrong_B = self.n, self._wrong
        ends_B, errors_B = np.cumsum(n_B), np.cumsum(wrong_B)
        which = np.searchsorted(ends_B, counts)
        rate = wrong_B[which] / n_B[which]
        risks: np.ndarray = (errors_B[which] - (ends_B[which] - counts) * rate) / counts
        return risks

    @property
    def aurc(self) -> float:
        """The mean of the risks at all N coverages (Geifman and El-Yaniv, 2017)."""
        n_B, wrong_B = self.n.astype(np.float64), self._wrong
        before_B, errors_B = np.cumsum(n_B) - n_B, np.cumsum(wrong_B) - wrong_B
        rate_B = wrong_B / n_B
        # of k = before + 1 .. before + n: sum of (errors + (k - before) rate) / k
        harmonic_B = scipy.special.digamma(before_B + n_B + 1) - scipy.special.digamma(before_B + 1)
        return float((n_B * rate_B + (errors_B - before_B * rate_B) * harmonic_B).sum() / n_B.sum())

    @property
    def slack(self) -> float:
        """What `aurc` is off by at most: 0 at level 0.

        In an interval of w wrong ones of n behind `before` others, the errors up to a sample differ
        by at most w (n - w) / n from what their mean makes of them.
        """
        if self.level == 0:
            return 0.0
        n_B, wrong_B = self.n.astype(np.float64), self._wrong
        before_B = np.cumsum(n_B) - n_B
        harmonic_B = scipy.special.digamma(before_B + n_B + 1) - scipy.special.digamma(before_B + 1)
        return float((wrong_B * (n_B - wrong_B) / n_B * harmonic_B).sum() / n_B.sum())

    def selective(
        self, points: int = 100
    ) -> tuple[float, dict[str, float], list[dict[str, float]]]:
        """AURC, accuracy at COVERAGES, and the risk-coverage curve at up to `points` coverages.

        The accuracy at a coverage c is that of the ceil(c N) most confident samples.
        """
        n = self.count
        shares = [int(np.ceil(round(coverage * n, 9))) for coverage in COVERAGES]
        accuracies = 1 - self.at(np.clip(shares, 1, n))
        places = np.unique(np.linspace(0, n - 1, min(points, n)).astype(int)) + 1
        curve = [
            {"coverage": float(k / n), "risk": float(risk)}
            for k, risk in zip(places, self.at(places), strict=True)
        ]
        names = [f"{coverage:g}" for coverage in COVERAGES]
        return self.aurc, dict(zip(names, accuracies.tolist(), strict=True)), curve
