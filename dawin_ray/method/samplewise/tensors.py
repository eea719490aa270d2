"""Tensors that are another one for each sample: parts, factors, or values.

A parameter of an interpolated model is a linear form of the sample's shares,
theta = theta_0 + sum_j c_j delta_j. `Interpolated` carries its parts; `LowRank` does so in factors;
`PerSample` holds values where a function was not linear. They take the parameters' places in a
model whose code runs unchanged, and answer through `__torch_function__` by the rules that
`operations.py` registers here.

Shapes: B batch, J differences, P = 1 + J parts, I and O inner and outer size of a layer, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self, TypeVar

import torch
from torch.utils._pytree import tree_map

from dawin_ray.errors import UserError

Function = Callable[..., Any]

F = TypeVar("F", bound=Function)


class Shares:
    """The shares of the batch that is being run: float32 [B, P], those of part 0 all 1."""

    def __init__(self) -> None:
        """Empty, until a forward sets them."""
        self._rows_BP: torch.Tensor | None = None

    @contextmanager
    def of(self, rows_BP: torch.Tensor) -> Iterator[None]:
        """While a batch of these shares is being run."""
        self._rows_BP = rows_BP
        try:
            yield
        finally:
            self._rows_BP = None

    @property
    def rows(self) -> torch.Tensor:
        """Of the batch that is being run, [B, P]."""
        assert self._rows_BP is not None, "weights have values only while a batch is being run"
        return self._rows_BP

    @property
    def batch(self) -> int:
        """Its size."""
        return len(self.rows)

    def column(self, part: int, like: torch.Tensor) -> torch.Tensor:
        """Shares of one part, [B, 1, ...] to multiply an activation by."""
        column_B = self.rows[:, part].to(like.dtype)
        return column_B.view(-1, *[1] * (like.ndim - 1))


class Symbol(torch.Tensor):
    """A tensor that is another one for each sample; has a shape, but no memory of its own."""

    shares: Shares
    parameter: str  # its name in the model, for errors

    @classmethod
    def shaped(cls, shape: Sequence[int], like: torch.Tensor) -> Self:
        """An empty one, of the dtype and device of what it carries."""
        made: Self = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001  (there is no other way)
            cls, torch.Size(shape), dtype=like.dtype, device=like.device
        )
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What PyTorch's functions call when a symbol is among their arguments."""
        kwargs = kwargs or {}
        if func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (as its manual says)
                return func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is None:
            unsupported(getattr(func, "__name__", str(func)), [*args, *kwargs.values()])
        if not rule.takes_factors:
            args = tree_map(lambda a: a.dense() if isinstance(a, LowRank) else a, args)
        return rule.run(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own is declared as a function
        cls,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Here ends what got round a rule: a symbol has no memory to compute with."""
        unsupported(str(func), [*args, *(kwargs or {}).values()])


class Interpolated(Symbol):
    """theta_0 + sum_j c_j delta_j, kept apart: `parts` [P, *shape]."""

    @staticmethod
    def __new__(cls, parts: torch.Tensor, shares: Shares, name: str) -> Interpolated:
        """Has the shape, dtype and device of one part."""
        return cls.shaped(parts.shape[1:], parts)

    def __init__(self, parts: torch.Tensor, shares: Shares, name: str):
        """`name` is the parameter's, for errors."""
        self.parts, self.shares, self.parameter = parts, shares, name

    def values(self) -> torch.Tensor:
        """Its value for each sample, [B, *shape]."""
        rows_BP, parts = self.shares.rows, self.parts
        return (rows_BP @ parts.flatten(1).float()).to(parts.dtype).view(-1, *parts.shape[1:])


class LowRank(Symbol):
    """A linear layer's weight W_0 + sum_j c_j U_j V_j: `left` [O, J r], `right` [J r, I]."""

    @staticmethod
    def __new__(
        cls, base: torch.Tensor, left: torch.Tensor, right: torch.Tensor, shares: Shares, name: str
    ) -> LowRank:
        """Has the shape, dtype and device of the base."""
        return cls.shaped(base.shape, base)

    def __init__(
        self, base: torch.Tensor, left: torch.Tensor, right: torch.Tensor, shares: Shares, name: str
    ):
        """`name` is the parameter's, for errors."""
        self.base, self.left, self.right = base, left, right
        self.shares, self.parameter = shares, name

    def dense(self) -> Interpolated:
        """The same with whole differences, where it is not a linear layer's weight after all."""
        differences = self.shares.rows.shape[1] - 1
        pairs = zip(self.left.chunk(differences, dim=1), self.right.chunk(differences), strict=True)
        parts = torch.stack([self.base, *[u @ v for u, v in pairs]])
        return Interpolated(parts, self.shares, self.parameter)

    def values(self) -> torch.Tensor:
        """Its value for each sample, [B, O, I]."""
        return self.dense().values()


class PerSample(Symbol):
    """What became of an `Interpolated` behind a function that is not linear: its values."""

    @staticmethod
    def __new__(cls, values_B: torch.Tensor, shares: Shares, name: str) -> PerSample:
        """Has the shape of one sample's value."""
        return cls.shaped(values_B.shape[1:], values_B)

    def __init__(self, values_B: torch.Tensor, shares: Shares, name: str):
        """`values_B` is [B, *shape]."""
        self.values_B, self.shares, self.parameter = values_B, shares, name

    def values(self) -> torch.Tensor:
        """Its value for each sample, [B, *shape]."""
        return self.values_B


@dataclass(frozen=True)
class Rule:
    """What a function makes of symbols, called with the function's own arguments.

    `takes_factors`: of a `LowRank` as it is; for other rules it is made dense first.
    """

    run: Function
    takes_factors: bool = False


RULES: dict[Function, Rule] = {}

# What is asked of a symbol's shape and kind; the wrapper itself knows.
METADATA: frozenset[Function] = frozenset(
    {
        getattr(torch.Tensor, name).__get__
        for name in ("shape", "dtype", "device", "ndim", "requires_grad", "layout", "is_nested",
                     "is_cuda", "is_cpu", "is_leaf", "grad_fn")
    } | {
        torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point,
        torch.is_floating_point, torch.Tensor.__len__, torch.numel, torch.Tensor.stride,
    }
)  # fmt: skip


def rule(*functions: Function, takes_factors: bool = False) -> Callable[[F], F]:
    """Register what is decorated as the rule of these functions of PyTorch."""

    def register(run: F) -> F:
        RULES.update(dict.fromkeys(functions, Rule(run, takes_factors)))
        return run

    return register


def unsupported(what: str, values: Sequence[Any]) -> NoReturn:
    """Refuse what there is no rule for.

    Raises:
        UserError: naming the operation and the symbols among its values.
    """
    symbols = [value for value in leaves(values) if isinstance(value, Symbol)]
    names = ", ".join(dict.fromkeys(f"'{s.parameter}'" for s in symbols))
    raise UserError(
        f"The exact mode has no rule for {what}, which this architecture applies to {names}. Set "
        "mixture.clusters to a number: clustered merging runs every architecture."
    )


def leaves(values: Sequence[Any]) -> list[Any]:
    """Of nested lists and tuples."""
    return [
        leaf
        for value in values
        for leaf in (leaves(value) if isinstance(value, list | tuple) else [value])
    ]
