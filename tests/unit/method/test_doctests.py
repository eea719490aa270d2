"""The examples in the docstrings: `dawin_ray.method` alone, on one's own tensors and models."""

import doctest
import importlib

import numpy as np
import pytest
import torch

# The function that each face's reader tries first, and its module.
EXAMPLES = {
    "fit": "fit", "merge": "merge", "ties": "ties", "SamplewiseClassifier": "samplewise.classifier",
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name):
    module = importlib.import_module(f"dawin_ray.method.{EXAMPLES[name]}")
    assert doctest.DocTestFinder(exclude_empty=True).find(getattr(module, name))[0].examples
    torch.manual_seed(0)
    with np.printoptions(legacy=False):
        assert doctest.testmod(module).failed == 0
