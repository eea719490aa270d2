"""Modules by their old names: the same ones, with a warning, and none that is not there."""

import importlib
import subprocess
import sys

import pytest

from dawin_ray.moved import MOVED


def run(code: str) -> str:
    """In a process of its own, as an old name stays in the package once it was used."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("old", MOVED)
def test_each_old_name_has_a_module_and_hides_none(old):
    assert importlib.import_module(f"dawin_ray.{MOVED[old]}")
    assert importlib.util.find_spec(f"dawin_ray.{old}").loader.__class__.__name__ == "Finder"


def test_an_old_name_is_the_same_module():
    code = """
import sys, warnings
warnings.simplefilter("ignore")
import dawin_ray.locking as old
from dawin_ray import splits
from dawin_ray.samples import read_samples
from dawin_ray.data import read_samples as new
import dawin_ray.storage.lock, dawin_ray.data.splits
assert old is sys.modules["dawin_ray.storage.lock"]
assert old.__spec__.name == old.__name__ == "dawin_ray.storage.lock"
assert splits is sys.modules["dawin_ray.data.splits"]
assert read_samples is new
print("the same")
"""
    assert run(code) == "the same\n"


def test_it_warns_and_other_names_are_unknown():
    # a name of a package that is soon imported
    code = "import warnings; warnings.simplefilter('always'); import dawin_ray.locking"
    assert "dawin_ray.locking is dawin_ray.storage.lock now" in run(code)
    assert "No module named 'dawin_ray.nothing'" in run("import dawin_ray.nothing")
