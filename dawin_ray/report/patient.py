"""A data set as the doctor sees it: what a summary tells of its labels and its experts' answers.

M experts, C classes, k rows of the summary's sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dawin_ray.report import doubts
from dawin_ray.report.doubts import KINDS, Doubt
from dawin_ray.report.orders import Order, order_of
from dawin_ray.statistics import Summary, floats_of


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A data set as the doctor sees it."""

    dataset: str
    summary: Summary
    count: int | None = None  # of its classes; None in runs of before
    names: Sequence[str] | None = None  # of its classes
    own: str | None = None  # whose task it is

    @property
    def experts(self) -> tuple[str, ...]:
        """Their names."""
        return self.summary.experts

    @cached_property
    def classes(self) -> int:
        """How many, or at least how many where the run does not say."""
        sample, counts = self.summary.sample, self.summary.counts
        seen = max(
            sample.answer.max(initial=-1), len(counts.class_n) - 1, len(counts.predicted) - 1
        )
        return max(self.count or len(self.names or ()), int(seen) + 1)

    @property
    def judged(self) -> bool:
        """Whether it has labels enough to say something of them."""
        return self.summary.labelled >= doubts.MIN_ROWS and len(self.labels) > 0

    @cached_property
    def labels(self) -> np.ndarray:
        """Of a sample of the rows with one, int64 [k]."""
        label = self.summary.sample.label
        return label[label >= 0]

    def answers(self, expert: int) -> np.ndarray:
        """An expert's on the same rows, int64 [k]."""
        sample = self.summary.sample
        answers: np.ndarray = sample.answer[sample.label >= 0, expert]
        return answers

    def order(self, expert: int) -> Order:
        """The order of classes that suits an expert's answers best."""
        return self._orders[expert]

    @cached_property
    def _orders(self) -> list[Order]:
        experts = range(len(self.experts))
        return [order_of(self.labels, self.answers(i), self.classes) for i in experts]

    def accuracy(self, expert: int) -> float:
        """Of all rows with a label."""
        return self.summary.right(self.experts[expert]) / self.summary.labelled

    def confidence(self, expert: int) -> float:
        """An expert's mean one, of all rows."""
        q = self.summary.methods.index(self.experts[expert])
        return float(floats_of(self.summary.counts.confidence[q])) / self.summary.rows

    @cached_property
    def kappas(self) -> np.ndarray:
        """Cohen's kappa of each expert [M]: 0 of answers that know nothing of the image, 1 of all.

        From its own accuracy and how often it says each class.
        """
        label_C = np.bincount(self.labels, minlength=self.classes) / len(self.labels)
        found = []
        for i in range(len(self.experts)):
            answer_C = np.bincount(self.answers(i), minlength=self.classes) / len(self.labels)
            chance = float(label_C @ answer_C)
            found.append((self.accuracy(i) - chance) / (1 - chance) if chance < 1 else 1.0)
        return np.array(found)

    def name(self, label: int) -> str:
        """A class as a person knows it."""
        names = self.names or ()
        return f"'{names[label]}'" if label < len(names) else str(label)

    def doubt(self, kind: str, says: str, **evidence: float) -> Doubt:
        """One of this data set."""
        return Doubt(
            dataset=self.dataset, kind=kind, says=says, todo=KINDS[kind].todo, evidence=evidence
        )
