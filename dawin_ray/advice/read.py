"""The tables of a pilot's runs as plain arrays: what each kind of model says of its samples."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from dawin_ray.advice.gains import Answers
from dawin_ray.advice.options import EXACT
from dawin_ray.job import Prepared
from dawin_ray.method import DAWIN
from dawin_ray.runs import Compared, RunDirectory, rows_of
from dawin_ray.statistics import Rows


def rows_of_run(prepared: Prepared) -> dict[str, Rows]:
    """The rows of each data set of a finished run, all of them: it is a pilot's."""
    run, job = RunDirectory(prepared.job.run_dir), prepared.job
    compared = Compared.of([expert.name for expert in job.experts], job.methods, exact=job.exact)
    found = {}
    for name in prepared.shards:
        tables = [
            pa.concat_tables(run.parts.read(kind, f"dataset={name}"))
            for kind in ("experts", "predictions")
        ]
        found[name] = rows_of(tables[0], tables[1], compared)
    return found


def answers_of(
    clustered: Mapping[str, Rows], exact: Mapping[str, Rows] | None
) -> dict[str, Answers]:
    """Of the runs of a pilot; `exact` is of the same samples, or None."""
    return {
        name: _answers(rows, None if exact is None else exact[name])
        for name, rows in clustered.items()
        if len(rows.label)
    }


def _answers(rows: Rows, exact: Rows | None) -> Answers:
    prediction, confidence = dict(rows.prediction), dict(rows.confidence)
    if exact is not None:
        assert (exact.ids == rows.ids).all(), "both runs are of the same samples, in one order"
        prediction[EXACT], confidence[EXACT] = exact.prediction[DAWIN], exact.confidence[DAWIN]
    assert rows.cluster is not None, "this run is not exact"
    same_N = (rows.expert_prediction == rows.expert_prediction[:, :1]).all(axis=1)
    return Answers(
        label=rows.label,
        prediction=prediction,
        confidence=confidence,
        entropy=rows.entropy,
        coefficient=rows.coefficient,
        cluster=rows.cluster,
        agree=float(same_N.mean()),
    )
