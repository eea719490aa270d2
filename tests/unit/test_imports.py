"""Imports flow one way, faces are complete, and what is heavy is imported where it is used."""

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dawin_ray

ROOT = Path(dawin_ray.__file__).parent
# Nothing imports from its own line's right, or from a line below. What stands on one line does not
# import each other either: passes know no files, runs know no models.
ORDER = """
moved
errors settings names stopping
attempts
records
tables
storage
method statistics
models
data
metrics
passes runs
engine
config
keys
report
view
job
drafts
demo
bench
terminal
cli
__main__
"""
RANK = {name: rank for rank, line in enumerate(ORDER.split("\n")) for name in line.split()}
PACKAGES = sorted(name for name in RANK if (ROOT / name / "__init__.py").exists())
LIGHT = {
    "ray": {"engine"},
    "open_clip": {"models"},
    "duckdb": {"view"},
    "starlette": {"view"},
    "uvicorn": {"view"},
}  # heavy library -> who imports it


@functools.cache  # each test asks for all of them
def imported(path: Path) -> list[tuple[str, str]]:
    """Module and name of each import of a file, also of those within functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: imports are absolute"
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


def ours(path: Path) -> list[tuple[str, str]]:
    """Those of this project, from behind `dawin_ray.`."""
    return [
        (name, "") if module == "dawin_ray" else (module.removeprefix("dawin_ray."), name)
        for module, name in imported(path)
        if module == "dawin_ray" or module.startswith("dawin_ray.")
    ]


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def against_the_order(path: Path) -> list[str]:
    here = package_of(path)
    there = {module.partition(".")[0] for module, _ in ours(path)} & RANK.keys() - {here}
    return sorted(name for name in there if RANK[name] >= RANK[here])


@pytest.mark.parametrize("path", modules(), ids=named)
def test_no_import_goes_against_the_order(path):
    assert package_of(path) in RANK
    assert not against_the_order(path)


def circles(package: str) -> set[str]:
    """Modules of a package that import each other in a circle."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {
        module: {
            found
            for there, name in ours(path)
            for found in (there, f"{there}.{name}")
            if found in files and found != module
        }
        for module, path in files.items()
    }
    while leaves := [module for module, needed in graph.items() if not needed & graph.keys()]:
        for module in leaves:
            del graph[module]
    return set(graph)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_of_a_package_import_each_other_in_a_circle(package):
    assert not circles(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_is_complete(package):
    """What others use of a package is in its face, each name once, and they take it from there."""
    face = importlib.import_module(f"dawin_ray.{package}")
    if package in ("demo", "bench"):
        return  # nobody's building blocks
    assert sorted(set(face.__all__)) == sorted(face.__all__)
    assert not [name for name in face.__all__ if not hasattr(face, name)]
    past = [
        f"{named(path)}: {module}"
        for path in modules()
        if package_of(path) != package
        for module, name in ours(path)
        if module.startswith(f"{package}.") or (module == package and name not in face.__all__)
        if not (ROOT / module.replace(".", "/") / f"{name}.py").exists()
    ]
    assert not past


@pytest.mark.parametrize(("library", "packages"), LIGHT.items(), ids=LIGHT)
def test_a_heavy_library_stays_where_it_belongs(library, packages):
    users = {
        package_of(path)
        for path in modules()
        if any(module.partition(".")[0] == library for module, _ in imported(path))
    }
    assert users <= packages


def test_ray_is_imported_by_files_that_say_so():
    users = [
        path for path in modules() if any(m.partition(".")[0] == "ray" for m, _ in imported(path))
    ]
    assert all(path.name.startswith("ray_") for path in users)


def test_a_wrong_import_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name, text in {
        "method/fit.py": "from dawin_ray.runs import RunDirectory",
        "passes/spec.py": "def f():\n    from dawin_ray.runs.layout import WORK",
        "runs/one.py": "from dawin_ray.runs import two",
        "runs/two.py": "from dawin_ray.runs.one import x",
        "report/page.py": "from dawin_ray.runs.two import x",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert against_the_order(tmp_path / "method/fit.py") == ["runs"]
    assert against_the_order(tmp_path / "passes/spec.py") == ["runs"]
    assert against_the_order(tmp_path / "report/page.py") == []
    assert circles("runs") == {"runs.one", "runs.two"}


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


def printed(code: str) -> str:
    """By a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_models_are_built_without_waiting_elsewhere():
    """Imports of open_clip, torchvision and scipy's statistics take seconds, in every worker.

    What reads and decodes images does without them, too.
    """
    code = (
        "import io, sys, dawin_ray.job, dawin_ray.engine.ray_stream\n"
        "from PIL import Image\n"
        "from dawin_ray.data import isolated\n"
        "decode = isolated.ImageDecoder(isolated.Preprocessing.of({'size': 8}))\n"
        "image = io.BytesIO(); Image.new('RGB', (9, 9)).save(image, 'PNG')\n"
        "assert decode(image.getvalue()).shape == (8, 8, 3)\n"
        "print({'open_clip', 'torchvision', 'timm', 'ray', 'scipy.stats'} & sys.modules.keys())"
    )
    assert printed(code) == "set()"


def test_a_plan_holds_no_library_that_it_has_no_use_for():
    """Beside a million files it is to stay below a GB, and these take 100 MB."""
    code = (
        "import sys, dawin_ray.cli, dawin_ray.config, dawin_ray.job, dawin_ray.runs\n"
        "print({'pandas', 'matplotlib', 'scipy.stats', 'scipy.special', 'sklearn', 'ray'}"
        " & sys.modules.keys())"
    )
    assert printed(code) == "set()"


def test_the_process_that_counts_tries_is_small():
    """An actor of each run, for all its time."""
    code = "import sys, dawin_ray.attempts; print({'torch', 'pandas'} & sys.modules.keys())"
    assert printed(code) == "set()"


@pytest.mark.parametrize("path", [*modules(), ROOT / "__init__.py"], ids=named)
def test_a_module_says_what_it_is(path):
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said
    assert "TODO" not in said
