"""Runs against each other, sample by sample: two fine-tunings, two dates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dawin_ray.report.finished import ALPHA, DAWIN, Columns, job_of, scored_datasets
from dawin_ray.report.words import shown_p, shown_percent, shown_points
from dawin_ray.runs import RunDirectory
from dawin_ray.statistics import accuracy, holm, mcnemar, paired_differences


def compare_runs(runs: Sequence[RunDirectory]) -> list[dict[str, Any]]:
    """DaWin of each run against the first one's, on the data sets that have the same samples.

    Raises:
        UserError: a run is not finished.
    """
    jobs = [job_of(run) for run in runs]
    rows: list[dict[str, Any]] = []
    for dataset in scored_datasets(runs[0], jobs[0]):
        columns = []
        for run, job in zip(runs, jobs, strict=True):
            if dataset not in scored_datasets(run, job):
                columns.append(None)
                continue
            columns.append(Columns.read(run, dataset, job.methods, len(job.experts)))
        first = columns[0]
        for run, other in zip(runs[1:], columns[1:], strict=True):
            row = {"dataset": dataset, "run": run.address}
            if other is None:
                rows.append(row | {"says": f"not in {run.address}"})
                continue
            if not first.sample_id.equals(other.sample_id):
                rows.append(row | {"says": "other samples: not comparable pair by pair"})
                continue
            known = (first.label >= 0) & (first.label == other.label)
            changed = float((first.prediction[DAWIN] != other.prediction[DAWIN]).mean())
            row |= {"rows": len(known), "changed": changed}
            if known.any():
                a, b = (c.prediction[DAWIN][known] == c.label[known] for c in (first, other))
                better, worse = int((b & ~a).sum()), int((a & ~b).sum())
                n = int(known.sum())
                row |= {
                    "first": accuracy(int(a.sum()), n).to_dict(),
                    "this": accuracy(int(b.sum()), n).to_dict(),
                    "difference": paired_differences([(better, worse, n)]).to_dict(),
                    "better": better, "worse": worse, "p": mcnemar(better, worse),
                }  # fmt: skip
            rows.append(row)
    for run, job in zip(runs[1:], jobs[1:], strict=True):
        known = scored_datasets(runs[0], jobs[0])
        rows += [
            {"dataset": dataset, "run": run.address, "says": f"not in {runs[0].address}"}
            for dataset in scored_datasets(run, job)
            if dataset not in known
        ]
    tested = [row for row in rows if "p" in row]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
        row["says"] = (
            "no significant difference" if adjusted >= ALPHA
            else "better" if row["difference"]["value"] > 0 else "worse"
        )  # fmt: skip
    return rows


def lines_of(rows: Sequence[Mapping[str, Any]], first: str) -> str:
    """A comparison of runs as text."""
    lines = [f"DaWin against the run in {first} (p: exact McNemar, Holm over all lines)"]
    for row in rows:
        line = f"  {row['dataset']}, {row['run']}: "
        if "p_holm" in row:
            line += (
                f"{shown_percent(row['this'])} % against {shown_percent(row['first'])} %, "
                f"{shown_points(row['difference'])} points, {row['better']} gained and "
                f"{row['worse']} lost of {row['rows']:,}, "
                f"p = {shown_p(row['p_holm'])}: {row['says']}"
            )
        elif "changed" in row:
            line += f"no labels; {100 * row['changed']:.1f} % of the predictions changed"
        else:
            line += row["says"]
        lines.append(line)
    return "\n".join(lines)


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """A comparison of runs for another program."""
    return json.dumps(list(rows), indent=1) + "\n"
