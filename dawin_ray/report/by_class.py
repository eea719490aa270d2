"""The figures of each class, and which class is taken for which, for page and tables.

All is made of a summary: exact counts, but for pairs of more classes than it keeps, which are then
those of its sample.

C classes, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dawin_ray.method import DAWIN, FEW_EXPERTS
from dawin_ray.names import escaped
from dawin_ray.statistics import Interval, Summary, paired_gains, shrunk

PAGE_CLASSES = 200  # rows of the page's table; csv/classes.csv has all
PAGE_PAIRS = 30
MATRIX_CLASSES = 20  # up to which all cells are shown
MOST_PAIRS = 10_000  # of csv/confusions.csv, of each data set

SHADES = 5  # of a cell, the last one from half of the class on
SHOWN_NAME = 60  # characters

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Label, answer and rows of each pair, the most rows first, int64 [P]."""

    label: np.ndarray
    answer: np.ndarray
    n: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray, answer: np.ndarray, n: np.ndarray) -> Pairs:
        """In the order of rows, then of classes."""
        order = np.lexsort((answer, label, -n))
        return cls(label=label[order], answer=answer[order], n=n[order])

    @property
    def wrong(self) -> Pairs:
        """Those of another answer than the label."""
        kept = self.label != self.answer
        return Pairs(label=self.label[kept], answer=self.answer[kept], n=self.n[kept])

    @cached_property
    def counts(self) -> dict[tuple[int, int], int]:
        """Rows by label and answer."""
        keys = zip(self.label.tolist(), self.answer.tolist(), strict=True)
        return dict(zip(keys, self.n.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """A class in the page's table: accuracies and gains are by method."""

    index: int
    name: str
    n: int
    right: Mapping[str, float | None]
    gains: Mapping[str, Interval]
    false_positives: int | None


@dataclass(frozen=True, kw_only=True)
class PairLine:
    """A confusion in the page's table, with the rows in which others are wrong in the same way."""

    label: int
    answer: int
    n: int
    share: float  # of the class
    others: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a matrix; `shade` is from 0 to SHADES, and right answers have none."""

    n: int
    share: float | None
    shade: int


@dataclass(frozen=True, kw_only=True)
class ByClass:
    """A labelled data set by its classes; mappings are by method."""

    names: Sequence[str] | None
    n: np.ndarray  # rows with this label [C]
    right: Mapping[str, np.ndarray]  # of the experts, the incumbent and DaWin [C]
    both: Mapping[str, np.ndarray]  # that DaWin has right, too; of those that gains are over
    pairs: Mapping[str, Pairs]  # of the experts and DaWin
    counted: int  # rows that the pairs are of
    rows: int  # with a label

    @classmethod
    def of(
        cls,
        summary: Summary,
        names: Sequence[str] | None,
        classes: int | None,
        primary: Sequence[str],
    ) -> ByClass:
        """Of a data set with labels. Gains are over `primary`, where the summary can tell them."""
        counts, methods = summary.counts, summary.methods
        pairs, counted = _pairs_of(summary)
        seen = [len(counts.class_n), len(names or ()), classes or 0]
        seen += [int(p.answer.max(initial=-1)) + 1 for p in pairs.values()]
        width = max(seen)

        def whole(found: np.ndarray) -> np.ndarray:
            return np.pad(found, (0, width - len(found)))

        shown = dict.fromkeys([*summary.experts, *primary, DAWIN])
        known = np.array_equal(counts.class_both[-1], counts.class_right[-1])
        return cls(
            names=names,
            n=whole(counts.class_n),
            right={name: whole(counts.class_right[methods.index(name)]) for name in shown},
            both={
                name: whole(counts.class_both[methods.index(name)])
                for name in (primary if known else ())
            },
            pairs=pairs,
            counted=counted,
            rows=summary.labelled,
        )

    @property
    def exact(self) -> bool:
        """Whether pairs are those of all rows."""
        return self.counted == self.rows

    @property
    def compared(self) -> tuple[str, ...]:
        """Who stands beside DaWin."""
        return tuple(name for name in self.right if name != DAWIN)

    @cached_property
    def order(self) -> list[int]:
        """Classes of the table, the worst first: by DaWin's accuracies, shrunk as class gains are.

        Those without a sample that are answered all the same stand last.
        """
        false = self.false_positives.get(DAWIN)
        there = self.n > 0 if false is None else (self.n > 0) | (false > 0)
        order = np.lexsort((-self.n, shrunk(self.right[DAWIN], self.n), self.n == 0))
        return [int(c) for c in order if there[c]]

    @cached_property
    def false_positives(self) -> dict[str, np.ndarray]:
        """Samples of other classes that are said to be of this one [C]; empty where not known."""
        if not self.exact:
            return {}
        return {
            name: np.bincount(p.wrong.answer, p.wrong.n, len(self.n)).astype(np.int64)
            for name, p in self.pairs.items()
        }

    @cached_property
    def gains(self) -> dict[str, np.ndarray]:
        """DaWin's gain with its limits [3, C]; NaN of a class without samples."""
        there, found = self.n > 0, {}
        for name, both in self.both.items():
            gain = np.full((3, len(self.n)), np.nan)
            ours, theirs = (right[there] for right in (self.right[DAWIN], self.right[name]))
            alike = both[there]
            gain[:, there] = paired_gains(alike, ours - alike, theirs - alike, self.n[there])
            found[name] = gain
        return found

    def name(self, index: int) -> str:
        """A class as a person knows it: its number and, where it has one, its name."""
        names = self.names or ()
        if index >= len(names):
            return str(index)
        name = escaped(names[index])
        short = name if len(name) <= SHOWN_NAME else name[: SHOWN_NAME - 1] + "…"
        return f"{index} {short}"

    def lines(self) -> list[ClassLine]:
        """The page's table: its first PAGE_CLASSES."""
        false = self.false_positives.get(DAWIN)
        return [
            ClassLine(
                index=c,
                name=self.name(c),
                n=int(self.n[c]),
                right={
                    name: float(right[c] / self.n[c]) if self.n[c] else None
                    for name, right in self.right.items()
                },
                gains={
                    name: Interval(
                        value=gain[0, c], low=gain[1, c], high=gain[2, c], n=int(self.n[c])
                    )
                    for name, gain in self.gains.items()
                    if self.n[c]
                },
                false_positives=None if false is None else int(false[c]),
            )
            for c in self.order[:PAGE_CLASSES]
        ]

    def worst(self, most: int = PAGE_PAIRS) -> list[PairLine]:
        """DaWin's most frequent confusions."""
        wrong = self.pairs[DAWIN].wrong
        n_C = self.n if self.exact else np.bincount(*_labels_of(self.pairs[DAWIN]))
        found = zip(wrong.label.tolist(), wrong.answer.tolist(), wrong.n.tolist(), strict=True)
        return [
            PairLine(
                label=label,
                answer=answer,
                n=n,
                share=n / int(n_C[label]),
                others={
                    name: pairs.counts.get((label, answer), 0)
                    for name, pairs in self.pairs.items()
                    if name != DAWIN
                },
            )
            for (label, answer, n), _ in zip(found, range(most), strict=False)
        ]

    def matrices(self) -> dict[str, list[list[Cell]]]:
        """All cells, label by answer, of DaWin and of few experts; empty with many classes."""
        if len(self.n) > MATRIX_CLASSES:
            return {}
        experts = [name for name in self.pairs if name != DAWIN]
        shown = [DAWIN, *(experts if len(experts) <= FEW_EXPERTS else ())]
        return {name: self._matrix(self.pairs[name]) for name in shown}

    def _matrix(self, pairs: Pairs) -> list[list[Cell]]:
        count = len(self.n)
        found = np.zeros((count, count), dtype=np.int64)
        found[pairs.label, pairs.answer] = pairs.n
        total = found.sum(axis=1)

        def cell(label: int, answer: int) -> Cell:
            n = int(found[label, answer])
            share = n / int(total[label]) if total[label] else None
            shade = int(np.ceil(min(2 * (share or 0.0), 1.0) * SHADES))
            return Cell(n=n, share=share, shade=0 if label == answer else shade)

        return [[cell(label, answer) for answer in range(count)] for label in range(count)]

    def table(self, kinds: Mapping[int, str], best: str) -> Iterator[Line]:
        """Lines of csv/classes.csv; `kinds` of the classes that gained and lost most over `best`.

        The columns up to `shrunk_gain` are those that runs of before have, of these classes alone.
        """
        ours, theirs = self.right[DAWIN], self.right[best]
        gain = shrunk(ours, self.n) - shrunk(theirs, self.n)

        def share(right: np.ndarray, c: int) -> float | None:
            return float(right[c] / self.n[c]) if self.n[c] else None

        for c in self.order:
            line: Line = {"kind": kinds.get(c), "class": c}
            line |= {"name": self.names[c] if self.names and c < len(self.names) else None}
            line |= {
                "n": int(self.n[c]),
                "accuracy": share(ours, c),
                "best_expert": share(theirs, c),
            }
            line |= {"shrunk_gain": float(gain[c]) if self.n[c] else None}
            for name in self.compared:
                line[f"accuracy_{name}"] = share(self.right[name], c)
            for name, limits in self.gains.items():
                columns = (f"gain_{name}", f"gain_{name}_low", f"gain_{name}_high")
                line |= dict(zip(columns, limits[:, c].tolist(), strict=True))
            for name, false in self.false_positives.items():
                column = "false_positives" if name == DAWIN else f"false_positives_{name}"
                line[column] = int(false[c])
            yield line

    def confusions(self) -> Iterator[Line]:
        """Lines of csv/confusions.csv."""
        for pair in self.worst(MOST_PAIRS):
            line: Line = {"class": pair.label, "answer": pair.answer, "n": pair.n}
            line |= {"share": pair.share, "rows": self.counted}
            yield line | {f"n_{name}": n for name, n in pair.others.items()}


def _pairs_of(summary: Summary) -> tuple[dict[str, Pairs], int]:
    """Pairs by who answers, and how many rows they are of: all with a label, or the sample's."""
    who = (*summary.experts, DAWIN)
    if summary.confusions.known:
        found = {name: Pairs.of(*summary.confusions.pairs(i)) for i, name in enumerate(who)}
        return found, summary.labelled
    sample = summary.sample
    kept = sample.label >= 0
    label = sample.label[kept]
    pairs = {}
    for i, name in enumerate(who):
        both = np.stack([label, sample.answer[kept, i]])
        (labels, answers), n = np.unique(both, axis=1, return_counts=True)
        pairs[name] = Pairs.of(labels, answers, n)
    return pairs, len(label)


def _labels_of(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    return pairs.label, pairs.n
