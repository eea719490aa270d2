"""What runs write, made without a model."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from dawin_ray import tables
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import MANIFEST
from dawin_ray.runs.work import Mark

FINGERPRINT = {"code": "0.1", "job": {"seed": 1, "fit": "joint"}, "checkpoints": {"a.pt": "123"}}


def scored(first: int, count: int = 3) -> pa.Table:
    columns = {
        "sample_id": [f"s.tar/{i}" for i in range(first, first + count)],
        "label": [None] * count,
        "log_expertise": np.arange(2 * count, dtype=np.float32).reshape(count, 2),
    }
    return tables.table(tables.EXPERTS, columns)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def fill(run: RunDirectory) -> None:
    """Files of all kinds that a run writes."""
    run.open(FINGERPRINT, "", {"set": {"s.tar": (3, "v")}})
    run.work.commit("experts", "set", "s", "chunk", scored(0))
    run.work.mark("experts", "set", "s", Mark(chunks={}))
    for kind in ("experts", "predictions"):
        run.parts.write((kind, "dataset=set"), tables.EXPERTS, [scored(0)])
    run.parts.write(("rejects",), tables.REJECTS, [])
    for name in ("parts/experts/set/part-00000.json", "parts/predictions/set/part-00000.summary"):
        run.write_text(f"work/{name}", "x")
    run.write_text("work/summaries/set/1-00000.summary", "x")
    for name in ("report.json", "audit.json", "mixture.json", "classes.json", "fit.json", MANIFEST):
        run.write_json(name, {})
    for name in ("report.html", "csv/scores.csv", f"cache/{'a' * 32}/c.arrow"):
        run.write_text(name, "x")
