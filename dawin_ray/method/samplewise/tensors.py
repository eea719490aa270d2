"""Tensors that are another one for each sample, and what PyTorch's functions make of them.

A parameter of an interpolated model is a linear form of the sample's shares,
theta = theta_0 + sum_j c_j delta_j. `Interpolated` carries its parts; `LowRank` does so in factors;
`PerSample` holds values where a function was not linear. They take the parameters' places in a
model whose code runs unchanged, and answer through `__torch_function__`:

    linear       [x | c_1 x | ...] [W_0 | W_1 | ...]^T: one product of P times the inner size
    conv2d       the same over channels; grouped ones as a sum of convolutions
    norms        weight and bias (and running statistics) of each sample
    attention    its linear layers as above, around scaled_dot_product_attention
    +, -, *, /   values of each sample
    shapes       the same change for every part

The batch is the first dimension of every activation; `multi_head_attention_forward` alone has it
second.

Shapes: B batch, J differences, P = 1 + J parts, I and O inner and outer size of a layer, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch.utils._pytree import tree_map

from dawin_ray.errors import UserError


class Shares:
    """The shares of the batch that is being run: float32 [B, P], those of part 0 all 1."""

    def __init__(self) -> None:
        """Empty, until a forward sets them."""
        self.rows_BP: torch.Tensor | None = None

    def column(self, part: int, like: torch.Tensor) -> torch.Tensor:
        """Shares of one part, [B, 1, ...] to multiply an activation by."""
        column_B = self.rows_BP[:, part].to(like.dtype)
        return column_B.view(-1, *[1] * (like.ndim - 1))


class _Symbol(torch.Tensor):
    """A tensor that is another one for each sample; has a shape, but no memory of its own."""

    shares: Shares
    parameter: str  # its name in the model, for errors

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func not in _RULES:
            args = tree_map(lambda a: a.dense() if isinstance(a, LowRank) else a, args)
        rule = _RULES.get(func)
        if rule is not None:
            return rule(*args, **kwargs)
        if func in _ELEMENTWISE:
            return _elementwise(func, args, kwargs)
        if func in _STRUCTURAL:
            return _structural(func, args, kwargs)
        raise _unsupported(getattr(func, "__name__", str(func)), args, kwargs)

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        raise _unsupported(str(func), args, kwargs or {})


class Interpolated(_Symbol):
    """theta_0 + sum_j c_j delta_j, kept apart: `parts` [P, *shape]."""

    @staticmethod
    def __new__(cls, parts: torch.Tensor, shares: Shares, name: str) -> Interpolated:
        """Has the shape, dtype and device of one part."""
        return torch.Tensor._make_wrapper_subclass(
            cls, parts.shape[1:], dtype=parts.dtype, device=parts.device
        )

    def __init__(self, parts: torch.Tensor, shares: Shares, name: str):
        """`name` is the parameter's, for errors."""
        self.parts, self.shares, self.parameter = parts, shares, name

    def values(self) -> torch.Tensor:
        """Its value for each sample, [B, *shape]."""
        rows_BP, parts = self.shares.rows_BP, self.parts
        return (rows_BP @ parts.flatten(1).float()).to(parts.dtype).view(-1, *parts.shape[1:])


class LowRank(_Symbol):
    """A linear layer's weight W_0 + sum_j c_j U_j V_j: `outer` [O, J r], `inner` [J r, I]."""

    @staticmethod
    def __new__(
        cls, base: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, shares: Shares, name: str
    ) -> LowRank:
        """Has the shape, dtype and device of the base."""
        return torch.Tensor._make_wrapper_subclass(
            cls, base.shape, dtype=base.dtype, device=base.device
        )

    def __init__(
        self,
        base: torch.Tensor,
        outer: torch.Tensor,
        inner: torch.Tensor,
        shares: Shares,
        name: str,
    ):
        """`name` is the parameter's, for errors."""
        self.base, self.outer, self.inner = base, outer, inner
        self.shares, self.parameter = shares, name

    def dense(self) -> Interpolated:
        """The same with whole differences, where it is not a linear layer's weight after all."""
        differences = self.shares.rows_BP.shape[1] - 1
        pairs = zip(
            self.outer.chunk(differences, dim=1), self.inner.chunk(differences), strict=True
        )
        parts = torch.stack([self.base, *[u @ v for u, v in pairs]])
        return Interpolated(parts, self.shares, self.parameter)


class PerSample(_Symbol):
    """What became of an `Interpolated` behind a function that is not linear: its values."""

    @staticmethod
    def __new__(cls, values_B: torch.Tensor, shares: Shares, name: str) -> PerSample:
        """Has the shape of one sample's value."""
        return torch.Tensor._make_wrapper_subclass(
            cls, values_B.shape[1:], dtype=values_B.dtype, device=values_B.device
        )

    def __init__(self, values_B: torch.Tensor, shares: Shares, name: str):
        """`values_B` is [B, *shape]."""
        self.values_B, self.shares, self.parameter = values_B, shares, name

    def values(self) -> torch.Tensor:
        """Its value for each sample, [B, *shape]."""
        return self.values_B


def _unsupported(what: str, args: tuple, kwargs: Mapping) -> UserError:
    symbols = [v for v in _flat([*args, *kwargs.values()]) if isinstance(v, _Symbol)]
    names = ", ".join(dict.fromkeys(f"'{s.parameter}'" for s in symbols))
    return UserError(
        f"The exact mode has no rule for {what}, which this architecture applies to {names}. Set "
        "mixture.clusters to a number: clustered merging runs every architecture."
    )


def _flat(values: Sequence) -> list:
    return [
        leaf
        for value in values
        for leaf in (_flat(value) if isinstance(value, list | tuple) else [value])
    ]


def _check_batch(x: torch.Tensor, symbol: _Symbol, what: str) -> None:
    count = len(symbol.shares.rows_BP)
    if x.shape[0] != count:
        raise UserError(
            f"The exact mode cannot tell the samples apart where {what} meets "
            f"'{symbol.parameter}': it expected a batch of {count} in the first dimension of "
            f"{list(x.shape)}. Set mixture.clusters to a number."
        )


def _activation(x: torch.Tensor) -> tuple[torch.Tensor, _Symbol | None]:
    """An activation [B, ...]: itself, or the values of a symbol, which then comes along."""
    return (x.values(), x) if isinstance(x, _Symbol) else (x, None)


def _again(y: torch.Tensor, symbol: _Symbol | None) -> torch.Tensor:
    """What was computed from a symbol's values is one itself."""
    return y if symbol is None else PerSample(y, symbol.shares, symbol.parameter)


def _along(values_B: torch.Tensor, ndim: int) -> torch.Tensor:
    """[B, *shape] as [B, 1, ..., *shape] of `ndim` dimensions."""
    return values_B.view(len(values_B), *[1] * (ndim - values_B.ndim), *values_B.shape[1:])


def _wide(x: torch.Tensor, shares: Shares) -> torch.Tensor:
    """[x | c_1 x | ...]: an activation [B, ..., I] as [B, ..., P I]."""
    rows_BP = shares.rows_BP.to(x.dtype)
    return (x.unsqueeze(-2) * _along(rows_BP.unsqueeze(-1), x.ndim + 1)).flatten(-2)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None):
    x, symbol = _activation(x)
    plain_bias = None if isinstance(bias, _Symbol) else bias
    if isinstance(weight, Interpolated):
        _check_batch(x, weight, "linear")
        stacked = weight.parts.transpose(0, 1).flatten(1)
        y = F.linear(_wide(x, weight.shares), stacked, plain_bias)
    elif isinstance(weight, LowRank):
        _check_batch(x, weight, "linear")
        inner = F.linear(x, weight.inner).unflatten(-1, (weight.shares.rows_BP.shape[1] - 1, -1))
        rows_BJ = weight.shares.rows_BP[:, 1:].to(x.dtype)
        inner = (inner * _along(rows_BJ.unsqueeze(-1), inner.ndim)).flatten(-2)
        y = F.linear(x, weight.base, plain_bias)
        y.view(-1, y.shape[-1]).addmm_(inner.flatten(0, -2), weight.outer.T)
    elif isinstance(weight, PerSample):
        raise _unsupported("linear with weights behind a function", (weight,), {})
    else:
        y = F.linear(x, weight, plain_bias)
    if isinstance(bias, _Symbol):
        _check_batch(x, bias, "linear")
        y = y.add_(_along(bias.values(), y.ndim))
    return _again(y, symbol)


def _matmul(x: torch.Tensor, weight: torch.Tensor):
    if not isinstance(weight, Interpolated) or weight.ndim != 2:
        raise _unsupported("matmul", (x, weight), {})
    x, symbol = _activation(x)
    _check_batch(x, weight, "matmul")
    return _again(_wide(x, weight.shares) @ weight.parts.flatten(0, 1), symbol)


def _conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    plain_bias = None if isinstance(bias, _Symbol) else bias
    where = (stride, padding, dilation, groups)
    if not isinstance(weight, Interpolated):
        y = F.conv2d(x, weight, plain_bias, *where)
    elif groups == 1:
        _check_batch(x, weight, "conv2d")
        rows_BP = weight.shares.rows_BP.to(x.dtype)
        wide = (x.unsqueeze(1) * _along(rows_BP[..., None, None, None], 5)).flatten(1, 2)
        y = F.conv2d(wide, weight.parts.transpose(0, 1).flatten(1, 2), plain_bias, *where)
    else:
        _check_batch(x, weight, "conv2d")
        y = F.conv2d(x, weight.parts[0], plain_bias, *where)
        for part, difference in enumerate(weight.parts[1:], 1):
            more = F.conv2d(x, difference, None, *where)
            y.addcmul_(more, weight.shares.column(part, more))
    if isinstance(bias, _Symbol):
        _check_batch(x, bias, "conv2d")
        y = y.add_(bias.values()[..., None, None])
    return y


def _layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    x, symbol = _activation(x)
    y = F.layer_norm(x, normalized_shape, None, None, eps)
    weight, bias = (
        _along(p.values(), y.ndim) if isinstance(p, _Symbol) else p for p in (weight, bias)
    )
    return _again(_affine(y, weight, bias), symbol)


def _batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    symbols = [p for p in (running_mean, running_var, weight, bias) if isinstance(p, _Symbol)]
    if training or running_mean is None:
        raise _unsupported("batch_norm over the batch's own statistics", tuple(symbols), {})
    _check_batch(x, symbols[0], "batch_norm")
    mean, var, weight, bias = (
        p.values().float() if isinstance(p, _Symbol) else p
        for p in (running_mean, running_var, weight, bias)
    )
    # [C] or [B, C]; as PyTorch does it on a CPU, two numbers for each channel
    slope = torch.rsqrt(var.float() + eps)
    slope = slope if weight is None else slope * weight
    offset = -mean * slope if bias is None else bias - mean * slope
    slope, offset = (
        p.to(x.dtype).view(-1, p.shape[-1], *[1] * (x.ndim - 2)) for p in (slope, offset)
    )
    return torch.addcmul(offset, x, slope)


def _affine(y: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None):
    if weight is not None and bias is not None:
        return torch.addcmul(bias, y, weight)
    return y if weight is None and bias is None else y * weight if bias is None else y + bias


def _attention(
    query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
    add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None,
    need_weights=True, attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None,
    k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None,
    average_attn_weights=True, is_causal=False,
):  # fmt: skip
    """`F.multi_head_attention_forward`: the batch is the second dimension here."""
    rare = (bias_k, bias_v, key_padding_mask, static_k, static_v)
    if need_weights or add_zero_attn or any(r is not None for r in rare) or query.ndim != 3:
        raise _unsupported(
            "attention with extra keys, masked keys or returned weights",
            (in_proj_weight, out_proj_weight, q_proj_weight),
            {},
        )
    itself = query is key and key is value
    query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    if itself and not use_separate_proj_weight:
        q, k, v = _linear(query, in_proj_weight, in_proj_bias).chunk(3, dim=-1)
    else:
        weights = (
            (q_proj_weight, k_proj_weight, v_proj_weight)
            if use_separate_proj_weight
            else in_proj_weight.chunk(3)
        )
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        q, k, v = (
            _linear(x, weight, bias)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.unflatten(0, (-1, num_heads))
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask, is_causal=is_causal and attn_mask is None
    )
    y = _linear(y.transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias)
    return y.transpose(0, 1), None


def _elementwise(func: Callable, args: tuple, kwargs: Mapping) -> torch.Tensor:
    """A sum, product and the like of activations and symbols."""
    symbols = [a for a in args if isinstance(a, _Symbol)]
    tensors = [a for a in args if isinstance(a, torch.Tensor) and not isinstance(a, _Symbol)]
    if not tensors:
        ndim = max(s.ndim for s in symbols) + 1
        values = [_along(a.values(), ndim) if isinstance(a, _Symbol) else a for a in args]
        return PerSample(func(*values, **kwargs), symbols[0].shares, symbols[0].parameter)
    x = max(tensors, key=lambda tensor: tensor.ndim)
    return func(*[_aligned(a, x, func) if isinstance(a, _Symbol) else a for a in args], **kwargs)


def _aligned(symbol: _Symbol, x: torch.Tensor, func: Callable) -> torch.Tensor:
    """A symbol's values, to be broadcast against an activation."""
    values, count = symbol.values(), len(symbol.shares.rows_BP)
    if x.ndim > symbol.ndim:
        _check_batch(x, symbol, func.__name__)
        return _along(values, x.ndim)
    # the parameter has a dimension of size 1 where the activation has the batch
    for dim, size in enumerate(symbol.shape):
        if size == 1 and x.ndim == symbol.ndim and x.shape[dim] == count:
            return values.squeeze(dim + 1).movedim(0, dim)
    raise _unsupported(func.__name__, (symbol,), {})


def _structural(func: Callable, args: tuple, kwargs: Mapping) -> Any:
    """A change of shape or type, which is the same for all parts."""
    tensors = [v for v in _flat(list(args)) if isinstance(v, torch.Tensor)]
    symbols = [v for v in tensors if isinstance(v, _Symbol)]
    shares, name = symbols[0].shares, symbols[0].parameter
    linear = all(isinstance(s, Interpolated) for s in symbols)
    count = len(symbols[0].parts) if linear else len(shares.rows_BP)

    def stacked(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(stacked(v) for v in value)
        if isinstance(value, _Symbol):
            return value.parts if linear else value.values()
        if isinstance(value, torch.Tensor):  # equal in all experts: no differences
            rest = torch.zeros_like(value) if linear else value
            return torch.stack([value, *[rest] * (count - 1)])
        return value

    def unstacked(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            kind = Interpolated if linear else PerSample
            return kind(value, shares, name)
        return type(value)(unstacked(v) for v in value)

    values = [stacked(a) for a in args]
    dims = tree_map(lambda v: 0 if isinstance(v, torch.Tensor) else None, values)
    mapped = torch.func.vmap(lambda *a: func(*a, **kwargs), in_dims=tuple(dims))
    return unstacked(mapped(*values))


def _expand(symbol: _Symbol, *sizes: Any) -> torch.Tensor:
    """To a batch: there the values become an activation [B, ...]."""
    sizes = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    added = len(sizes) - symbol.ndim
    if sizes[0] != len(symbol.shares.rows_BP) or (not added and symbol.shape[0] != 1):
        return _structural(torch.Tensor.expand, (symbol, *sizes), {})
    values = symbol.values() if added else symbol.values().squeeze(1)
    return _along(values, len(sizes)).expand(sizes)


def _repeat(symbol: _Symbol, *sizes: Any) -> torch.Tensor:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    if any(size != 1 for size in sizes[1:]) or len(sizes) < symbol.ndim:
        raise _unsupported("repeat", (symbol,), {})
    shape = (1,) * (len(sizes) - symbol.ndim) + tuple(symbol.shape)
    return _expand(symbol, sizes[0] * shape[0], *shape[1:])


_METADATA = {
    getattr(torch.Tensor, name).__get__
    for name in ("shape", "dtype", "device", "ndim", "requires_grad", "layout", "is_nested",
                 "is_cuda", "is_cpu", "is_leaf", "grad_fn")
} | {
    torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point,
    torch.is_floating_point, torch.Tensor.__len__, torch.numel, torch.Tensor.stride,
}  # fmt: skip

_RULES: dict[Callable, Callable] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.__matmul__: _matmul,
    torch.Tensor.__rmatmul__: lambda weight, x: _matmul(x, weight),
    F.conv2d: _conv2d,
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.multi_head_attention_forward: _attention,
    torch.Tensor.expand: _expand,
    torch.Tensor.repeat: _repeat,
}

_ELEMENTWISE = {
    getattr(owner, name)
    for operation in ("add", "sub", "mul", "div", "true_divide")
    for owner, name in [
        (torch, operation),
        (torch.Tensor, operation),
        (torch.Tensor, f"{operation}_"),
        (torch.Tensor, f"__{operation}__"),
        (torch.Tensor, f"__r{operation}__"),
        (torch.Tensor, f"__i{operation}__"),
    ]
    if hasattr(owner, name)
} | {
    torch.exp, torch.Tensor.exp, torch.clamp, torch.Tensor.clamp, torch.sigmoid,
    torch.Tensor.sigmoid, torch.tanh, torch.Tensor.__truediv__, torch.Tensor.__rtruediv__,
}  # fmt: skip

_STRUCTURAL = {
    getattr(torch.Tensor, name)
    for name in ("view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "flatten",
                 "unflatten", "contiguous", "__getitem__", "to", "type", "float", "half",
                 "bfloat16", "chunk", "split", "unbind", "clone", "detach", "narrow", "select",
                 "movedim")
} | {torch.cat, torch.permute, torch.transpose, torch.reshape, torch.unsqueeze, torch.chunk,
     torch.split, torch.unbind, torch.flatten, torch.Tensor.T.__get__}  # fmt: skip
