"""Modules by the names that they had when all stood side by side: found until version 0.2.

An old name is the module that has most of what it had, and importing it warns.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "architectures": "models.architecture", "audit": "report.audit",
    "batch_ledger": "runs.batch_ledger", "batches": "runs.series", "broken": "runs.broken",
    "cache": "data.crop_cache", "checkpoints": "models.checkpoints", "chunks": "data.chunks",
    "class_lists": "data.class_lists", "class_order": "data.class_order",
    "classes": "data.classes", "compare": "report.compare", "comparisons": "method.baselines",
    "credentials": "storage.credentials", "dataset_config": "data.config", "datasets": "data",
    "decoding": "data.decoding", "drift": "statistics.drift", "expertise": "method.expertise",
    "feeding": "passes.pixels", "finding": "data.finding", "fits": "job.fitting",
    "fitting": "method.fit", "heads": "models.heads", "images": "data.images",
    "inputs": "job.inputs", "inventory": "runs.inventory", "isolated": "data.isolated",
    "labels": "data.labels", "layouts": "models.layouts", "ledger": "runs.ledger",
    "lfs": "storage.files", "listing": "data.listing", "locking": "storage.lock",
    "manifest": "runs.manifest", "merge": "method.merge", "mixture": "method.mixture",
    "objects": "storage.objects", "ours": "runs.layout", "overflow": "passes.overflow",
    "overview": "report.overview", "page": "report.page", "parquet_files": "storage.parquet",
    "parquet_rows": "data.formats.parquet", "pictures": "report.pictures",
    "pipeline": "engine.ray_stream", "plan": "job.plan", "precision": "models.precision",
    "prepare": "job.prepare", "preprocessing": "models.preprocessing", "progress": "job.progress",
    "ray_cluster": "engine.ray_cluster", "remake": "report.remake",
    "samples": "data.formats.registry",
    "samplewise": "method.samplewise", "saved": "runs.fits", "scoring": "job.score",
    "seals": "runs.seals", "shards": "data.datasets", "sources": "data.sources",
    "splits": "data.splits", "stages": "passes", "symbols": "method.samplewise.tensors",
    "tars": "data.formats.tars", "thumbnails": "report.thumbnails", "verify": "job.verify",
    "versions": "data.versions", "webdataset": "data.formats.webdataset",
    "weights": "models.weights",
}  # fmt: skip


class Finder(MetaPathFinder, Loader):
    """Finds a moved module by its old name: the very same module, not a copy."""

    def __init__(self) -> None:
        """Nothing is imported before somebody asks."""
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Of an old name, and of no other."""
        package, _, old = name.partition(".")
        return spec_from_loader(name, self) if package == "dawin_ray" and old in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name."""
        new = f"dawin_ray.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(
            f"{spec.name} is {new} now; the old name goes with version 0.2",
            DeprecationWarning,
            stacklevel=2,
        )
        module = importlib.import_module(new)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; the import system has only put another spec on it."""
        assert module.__spec__ is not None
        module.__spec__ = self.specs.pop(module.__spec__.name)


def install() -> None:
    """Have the import system ask for old names last."""
    sys.meta_path.append(Finder())
