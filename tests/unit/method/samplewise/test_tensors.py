"""Tensors that are another one for each sample, apart from a model.

Shapes: B batch, P parts.
"""

import pytest
import torch
from torch.nn import functional

from dawin_ray.errors import UserError
from dawin_ray.method.samplewise import tensors
from dawin_ray.method.samplewise.tensors import Interpolated, LowRank, PerSample, Shares, rule


def test_symbols_have_shapes_and_no_memory():
    shares = Shares()
    symbol = Interpolated(torch.zeros(2, 3, 4), shares, "w")
    assert (symbol.shape, symbol.dtype, symbol.ndim) == ((3, 4), torch.float32, 2)
    assert symbol.unsqueeze(0).shape == (1, 3, 4)
    assert PerSample(torch.zeros(5, 3), shares, "w").shape == (3,)


ROWS_BP = torch.tensor([[1, 0.25], [1, 0.5], [1, -1.0]])


def low_rank(shares):
    """A weight [4, 5], and its two parts."""
    base, left, right = torch.rand(4, 5), torch.rand(4, 2), torch.rand(2, 5)
    return LowRank(base, left, right, shares, "w"), torch.stack([base, left @ right])


def test_factors_are_the_same_as_the_whole_differences():
    shares = Shares()
    symbol, parts = low_rank(shares)
    x = torch.rand(3, 5)
    with shares.of(ROWS_BP):
        expected = functional.linear(x, Interpolated(parts, shares, "w"))
        torch.testing.assert_close(functional.linear(x, symbol), expected)
        torch.testing.assert_close(x @ symbol.T, expected)  # no rule for factors: dense


def test_values_are_there_only_while_a_batch_is_being_run():
    shares = Shares()
    symbol, parts = low_rank(shares)
    with shares.of(ROWS_BP):
        expected = torch.einsum("bp,poi->boi", ROWS_BP, parts)
        torch.testing.assert_close(symbol.values(), expected)
    with pytest.raises(AssertionError, match="while a batch"):
        symbol.values()


def test_a_rule_is_one_function(monkeypatch):
    monkeypatch.setattr(tensors, "RULES", dict(tensors.RULES))
    shares = Shares()
    symbol = Interpolated(torch.rand(2, 4), shares, "w")
    with shares.of(ROWS_BP):
        with pytest.raises(UserError, match=r"no rule for erf.*'w'"):
            torch.erf(symbol)
        rule(torch.erf)(lambda x: torch.erf(x.values()))
        torch.testing.assert_close(torch.erf(symbol), torch.erf(symbol.values()))
