"""Which numbers the towers run in, and that a GPU's shortcut is used only where it is asked for."""

import pytest
import torch

from dawin_ray.errors import UserError
from dawin_ray.models.precision import matmul_mode, resolve, tower_dtype


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "cuda", "bfloat16"),
        ("float32", "cuda", "float32"),
        ("tf32", "cuda", "tf32"),
        ("bfloat16", "cpu", "bfloat16"),
    ],
)
def test_auto_chooses_by_device_and_all_else_is_as_asked(asked, device, expected):
    assert resolve(asked, device) == expected


def test_tf32_needs_a_gpu():
    with pytest.raises(UserError, match="exists on GPUs only"):
        resolve("tf32", "cpu")


def test_tf32_is_float32_with_other_products():
    assert tower_dtype("tf32") == torch.float32
    assert tower_dtype("bfloat16") == torch.bfloat16


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_mode_of_products_is_set_and_restored(precision):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with matmul_mode(precision):
        inside = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert inside == (precision == "tf32",) * 2
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
