"""From a data set's two tables to plain arrays, of which summaries are made. N samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from dawin_ray import tables
from dawin_ray.method import DAWIN, Method
from dawin_ray.statistics import Rows, hashes_of

SCORES = ("prediction", "confidence", "nll", "brier")

CROP = ("crop_hash", "crop_range")  # columns that runs of before have not


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Whose answers the columns have, by name."""

    experts: tuple[str, ...]
    beside: tuple[str, ...]  # methods of `baseline_*`, the experts among them
    fits: tuple[str, ...]  # methods of `fit_*`
    exact: bool  # there are no clusters

    @classmethod
    def of(cls, experts: Sequence[str], methods: Sequence[Method], *, exact: bool) -> Self:
        """Of a job's experts and methods."""
        return cls(
            experts=tuple(experts),
            beside=tuple(m.name for m in methods if m.kind != "fit"),
            fits=tuple(m.name for m in methods if m.kind == "fit"),
            exact=exact,
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """All of them, DaWin last."""
        return (*self.beside, *self.fits, DAWIN)

    @property
    def of_experts(self) -> list[str]:
        """The columns of experts that are read."""
        return ["sample_id", *(f"baseline_{name}" for name in SCORES), *CROP]

    @property
    def of_predictions(self) -> list[str]:
        """The columns of predictions that are read."""
        columns = ["sample_id", "label", "coefficient", "expert_prediction", "expert_entropy"]
        columns += ["float32_prediction", *SCORES]
        columns += [] if self.exact else ["cluster"]
        return columns + ([f"fit_{name}" for name in SCORES] if self.fits else [])


def rows_of(experts: pa.Table, predictions: pa.Table, compared: Compared) -> Rows:
    """The rows of two tables, which hold the same samples in the same order.

    They have the columns that `compared` names, or more.

    Raises:
        ValueError: the tables are of other samples, or in another order.
    """
    if not experts["sample_id"].equals(predictions["sample_id"]):
        raise ValueError("experts and predictions hold other samples, or in another order")
    count = len(compared.experts)
    by_score: dict[str, dict[str, np.ndarray]] = {}
    for score in SCORES:
        found: dict[str, np.ndarray] = {}
        for table, prefix, names in (
            (experts, "baseline", compared.beside),
            (predictions, "fit", compared.fits),
        ):
            if names:
                rows_NQ = tables.rows_of(table[f"{prefix}_{score}"], len(names))
                found |= {name: rows_NQ[:, q] for q, name in enumerate(names)}
        by_score[score] = found | {DAWIN: predictions[score].to_numpy()}
    entropy, coefficient, expert_prediction = (
        tables.rows_of(predictions[name], count)
        for name in ("expert_entropy", "coefficient", "expert_prediction")
    )
    return Rows(
        experts=compared.experts,
        ids=hashes_of(predictions["sample_id"].to_pylist()),
        label=predictions["label"].fill_null(-1).to_numpy(),
        entropy=entropy,
        coefficient=coefficient,
        expert_prediction=expert_prediction,
        cluster=None if compared.exact else predictions["cluster"].to_numpy(),
        in_float32=predictions["float32_prediction"].fill_null(-1).to_numpy(),
        crop_hash=_of_crop(experts, "crop_hash"),
        crop_range=_of_crop(experts, "crop_range"),
        prediction=by_score["prediction"],
        confidence=by_score["confidence"],
        nll=by_score["nll"],
        brier=by_score["brier"],
    )


def _of_crop(experts: pa.Table, name: str) -> np.ndarray | None:
    """What is known of the crops; None in a run of before, or in one that was taken up since."""
    if name not in experts.schema.names or experts[name].null_count:
        return None
    values: np.ndarray = experts[name].to_numpy()
    return values
