"""Imports flow one way, and what is heavy is imported where it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dawin_ray

PACKAGE = Path(dawin_ray.__file__).parent
LAYERS = [
    {"attempts", "broken", "errors", "lfs", "names", "settings", "splits", "statistics", "tables"},
    {
        "credentials",
        "expertise",
        "layouts",
        "merge",
        "mixture",
        "parquet_files",
        "precision",
        "progress",
        "shards",
        "symbols",
        "tars",
    },
    {"comparisons", "dataset_config", "fitting", "labels", "ray_cluster", "storage", "weights"},
    {"checkpoints", "class_lists", "heads", "objects", "samplewise", "saved", "versions"},
    {"architectures", "drift", "finding", "locking", "preprocessing"},
    {"classes", "listing", "models", "ours"},
    {"datasets", "demo", "feeding", "images"},
    {"chunks", "class_order", "inventory", "isolated", "parquet_rows", "webdataset"},
    {"overflow", "runs", "samples"},
    {"audit", "decoding", "ledger", "sources", "stages"},
    {"cache", "pictures", "thumbnails"},
    {"pipeline"},
    {"config"},
    {"inputs"},
    {"prepare"},
    {"fits", "manifest", "plan", "report"},
    {"batch_ledger", "page", "seals"},
    {"batches", "compare"},
    {"overview", "verify"},
    {"remake", "scoring"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "dawin_ray":
                yield from (f"dawin_ray.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules():
    return [p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"]


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_below(path):
    ours = {n.split(".")[1] for n in imported(path) if n.startswith("dawin_ray.")} - {layer(path)}
    above = {name for name in ours if RANK[name] >= RANK[layer(path)]}
    assert not above


def test_only_pipeline_and_cluster_import_ray():
    users = {layer(p) for p in modules() if any(n.split(".")[0] == "ray" for n in imported(p))}
    assert users == {"pipeline", "ray_cluster"}


def test_help_needs_neither_torch_nor_ray():
    code = (
        "import sys, dawin_ray.cli\n"
        "try: dawin_ray.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'open_clip', 'pandas', 'sklearn'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]", result.stdout
