"""Rows of a data set in what adds: the figures of any number of rows from summaries of parts.

A summary is made of rows, and summaries of parts merge to that of the whole: to the same bits
however the rows were split, ordered and grouped. It is small enough to keep and to send; a million
rows of 21 methods and 2 experts take 7 MB (`to_bytes`).

M experts, Q methods, the last of them DaWin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from dawin_ray.statistics.archive import archived, unarchived
from dawin_ray.statistics.confusions import Confusions
from dawin_ray.statistics.counts import Counts
from dawin_ray.statistics.crops import Crops
from dawin_ray.statistics.distribution import ScoredRows
from dawin_ray.statistics.estimates import FINE
from dawin_ray.statistics.risks import Risks
from dawin_ray.statistics.rows import Rows
from dawin_ray.statistics.sample import Sample
from dawin_ray.statistics.sketch import Counted, Sketch

SKETCHES = ("entropy", "coefficient", "confidence")
PLAIN = ("counts", "sample", "crops", "confusions")

C = TypeVar("C", bound=Counted)


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary:
    """What is known of a data set's rows.

    `counts` are exact; `entropy` and `coefficient` by expert, `confidence` by method (with right
    answers, of the rows with a label) are exact up to MAX_BINS different values; `sample` has up to
    SAMPLED rows, `crops` up to KEPT, and `confusions` up to MOST_PAIRS pairs or none.
    """

    experts: tuple[str, ...]
    methods: tuple[str, ...]
    counts: Counts
    entropy: tuple[Sketch, ...]  # [M]
    coefficient: tuple[Sketch, ...]  # [M]
    confidence: tuple[Risks, ...]  # [Q]
    sample: Sample
    crops: Crops
    confusions: Confusions

    @classmethod
    def of(cls, rows: Rows) -> Summary:
        """Of rows, any number of them."""
        known = rows.label >= 0
        experts = range(len(rows.experts))
        loss_NM = np.stack([rows.nll[name][known] for name in rows.experts], axis=1)
        label = rows.label[known].astype(np.int64)
        answers = (*(rows.expert_prediction.T), rows.prediction[rows.methods[-1]])
        answer_NA = np.column_stack([answer[known] for answer in answers]).astype(np.int64)
        return cls(
            experts=rows.experts,
            methods=rows.methods,
            counts=Counts.of(rows),
            entropy=tuple(Sketch.of(rows.entropy[:, i]) for i in experts),
            coefficient=tuple(Sketch.of(rows.coefficient[:, i]) for i in experts),
            confidence=tuple(
                Risks.of(rows.confidence[name][known], (rows.prediction[name] == rows.label)[known])
                for name in rows.methods
            ),
            sample=Sample.of(
                rows.ids[known, 0],
                rows.entropy[known],
                loss_NM,
                label,
                answer_NA,
            ),
            crops=Crops.of(rows.crop_hash, rows.crop_range, rows.label),
            confusions=Confusions.of(label, answer_NA),
        )

    @classmethod
    def identity(cls, experts: Sequence[str], methods: Sequence[str]) -> Summary:
        """Of no rows: merged with another, it is the other."""
        return cls.of(Rows.none(experts, methods))

    @classmethod
    def merge(cls, summaries: Sequence[Summary]) -> Summary:
        """Of all rows together; at least one summary.

        Raises:
            ValueError: they are of other experts or methods.
        """
        first = summaries[0]
        for other in summaries:
            if (other.experts, other.methods) != (first.experts, first.methods):
                raise ValueError(f"summaries of {first.methods} and of {other.methods} do not add")
        return cls(
            experts=first.experts,
            methods=first.methods,
            counts=Counts.merge([s.counts for s in summaries]),
            entropy=tuple(map(Sketch.merge, zip(*(s.entropy for s in summaries), strict=True))),
            coefficient=tuple(
                map(Sketch.merge, zip(*(s.coefficient for s in summaries), strict=True))
            ),
            confidence=tuple(
                map(Risks.merge, zip(*(s.confidence for s in summaries), strict=True))
            ),
            sample=Sample.merge([s.sample for s in summaries]),
            crops=Crops.merge([s.crops for s in summaries]),
            confusions=Confusions.merge([s.confusions for s in summaries]),
        )

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.counts.size[0])

    @property
    def labelled(self) -> int:
        """Those with a label."""
        return int(self.counts.size[1])

    def right(self, name: str) -> int:
        """Rows with a label that a method has right."""
        return self.both(name, name)

    def both(self, one: str, other: str) -> int:
        """Rows with a label that two methods both have right."""
        return int(self.counts.both[self.methods.index(one), self.methods.index(other)])

    def scored(self, *, exact: bool) -> ScoredRows:
        """How the rows lay, for a fit's reference and for drift from one."""
        return ScoredRows(
            entropy=self.entropy,
            coefficient=self.coefficient,
            clusters=None if exact else self.counts.clusters[0],
            disagreements=self.rows - int(self.counts.agreement[0]),
        )

    def to_bytes(self) -> bytes:
        """The summary as bytes, which follow from it alone."""
        sketches = {
            f"{name}.{i}": sketch
            for name in SKETCHES
            for i, sketch in enumerate(getattr(self, name))
        }
        arrays = _plain(self) | {name: sketch.plain for name, sketch in sketches.items()}
        about = {
            "experts": self.experts,
            "methods": self.methods,
            "levels": {name: sketch.level for name, sketch in sketches.items()},
        }
        return archived(about, arrays)

    @classmethod
    def from_bytes(cls, content: bytes) -> Summary:
        """The summary that `to_bytes` made bytes of.

        Raises:
            ValueError: they are damaged.
        """
        about, arrays = unarchived(content)
        arrays = _of_before(arrays)
        try:
            experts, methods, levels = (about[key] for key in ("experts", "methods", "levels"))
            if not {*experts} <= {*methods}:
                raise ValueError(f"of {experts}, not all are among {methods}")

            def sketches(name: str, kind: type[C], count: int) -> tuple[C, ...]:
                names = [f"{name}.{i}" for i in range(count)]
                return tuple(kind.of_plain(levels[name], arrays[name]) for name in names)

            found = cls(
                experts=tuple(experts),
                methods=tuple(methods),
                counts=Counts(**{f.name: arrays[f"counts.{f.name}"] for f in fields(Counts)}),
                entropy=sketches("entropy", Sketch, len(experts)),
                coefficient=sketches("coefficient", Sketch, len(experts)),
                confidence=sketches("confidence", Risks, len(methods)),
                sample=Sample(*(arrays[f"sample.{f.name}"] for f in fields(Sample))),
                crops=Crops(**{f.name: arrays[f"crops.{f.name}"] for f in fields(Crops)}),
                confusions=Confusions(
                    **{f.name: arrays[f"confusions.{f.name}"] for f in fields(Confusions)}
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks something: {error!r}") from error
        found._check()
        return found

    def _check(self) -> None:
        """Raises ValueError where shapes are not those of the experts and methods."""
        blank = Summary.identity(self.experts, self.methods)
        mine = _plain(self)
        for name, there in _plain(blank).items():
            here = mine[name]
            if (
                here.dtype != there.dtype
                or here.ndim != there.ndim
                or any(a != b for a, b in zip(here.shape, there.shape, strict=True) if b)
            ):
                raise ValueError(f"{name} has shape {here.shape}, not as {there.shape}")


def _plain(summary: Summary) -> dict[str, np.ndarray]:
    """Those of the arrays that are no sketches'."""
    return {
        f"{part}.{f.name}": getattr(getattr(summary, part), f.name)
        for part in PLAIN
        for f in fields(getattr(summary, part))
    }


def _of_before(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a summary, those that came later at what says that nothing is known."""
    if not {"counts.both", "counts.size", "counts.class_right", "sample.entropy"} <= {*arrays}:
        return arrays  # damaged
    rows, experts = arrays["sample.entropy"].shape
    crops = Crops.of(None, None, np.zeros(0, dtype=np.int64))
    pairs = Confusions.uncounted(int(arrays["counts.size"][1]))
    unknown = {f"crops.{f.name}": getattr(crops, f.name) for f in fields(crops)}
    unknown |= {f"confusions.{f.name}": getattr(pairs, f.name) for f in fields(pairs)}
    unknown |= {
        "counts.fine": np.zeros((3, len(arrays["counts.both"]), FINE), dtype=np.int64),
        "counts.class_both": np.zeros_like(arrays["counts.class_right"]),
        "sample.label": np.full(rows, -1, dtype=np.int64),
        "sample.answer": np.full((rows, experts + 1), -1, dtype=np.int64),
    }
    return unknown | arrays
