"""What workers and readers are handed in the tests of this package."""

import pytest
import torch

from dawin_ray.attempts import Attempts
from dawin_ray.engine import compute
from tests.unit.test_attempts import tries_of


@pytest.fixture
def attempts():
    return Attempts()


@pytest.fixture
def on(attempts):
    return compute.Resources(
        device="cpu", actors=2, cpus=1, gpus=0, threads=torch.get_num_threads(), readers=1,
        tries=tries_of(attempts),
    )  # fmt: skip
