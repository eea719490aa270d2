"""What PyTorch's functions make of tensors that are another one for each sample.

    linear       [x | c_1 x | ...] [W_0 | W_1 | ...]^T: one product of P times the inner size
    conv2d       the same over channels; grouped ones as a sum of convolutions
    norms        weight and bias (and running statistics) of each sample
    attention    its linear layers as above, around scaled_dot_product_attention
    +, -, *, /   values of each sample
    shapes       the same change for every part

Importing this module registers them with `tensors.RULES`; a function without a rule is refused by
name. A new one is a function below with `@rule(the functions of PyTorch)`. The batch is the first
dimension of every activation; `multi_head_attention_forward` alone has it second.

Shapes: B batch, J differences, P = 1 + J parts, I and O inner and outer size of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch.utils._pytree import tree_map

from dawin_ray.errors import UserError
from dawin_ray.method.samplewise.tensors import (
    Function,
    Interpolated,
    LowRank,
    PerSample,
    Shares,
    Symbol,
    leaves,
    rule,
    unsupported,
)

MaybeTensor = torch.Tensor | None
Pair = int | tuple[int, int]


@rule(F.linear, takes_factors=True)
def _linear(x: torch.Tensor, weight: torch.Tensor, bias: MaybeTensor = None) -> torch.Tensor:
    x, symbol = _activation(x)
    plain_bias = None if isinstance(bias, Symbol) else bias
    if isinstance(weight, Interpolated):
        _check_batch(x, weight, "linear")
        stacked = weight.parts.transpose(0, 1).flatten(1)
        y = F.linear(_wide(x, weight.shares), stacked, plain_bias)
    elif isinstance(weight, LowRank):
        _check_batch(x, weight, "linear")
        inner = F.linear(x, weight.right).unflatten(-1, (weight.shares.rows.shape[1] - 1, -1))
        rows_BJ = weight.shares.rows[:, 1:].to(x.dtype)
        inner = (inner * _along(rows_BJ.unsqueeze(-1), inner.ndim)).flatten(-2)
        y = F.linear(x, weight.base, plain_bias)
        y.view(-1, y.shape[-1]).addmm_(inner.flatten(0, -2), weight.left.T)
    elif isinstance(weight, PerSample):
        unsupported("linear with weights behind a function", [weight])
    else:
        y = F.linear(x, weight, plain_bias)
    if isinstance(bias, Symbol):
        _check_batch(x, bias, "linear")
        y = y.add_(_along(bias.values(), y.ndim))
    return _again(y, symbol)


@rule(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
def _matmul(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if not isinstance(weight, Interpolated) or weight.ndim != 2:
        unsupported("matmul", [x, weight])
    x, symbol = _activation(x)
    _check_batch(x, weight, "matmul")
    return _again(_wide(x, weight.shares) @ weight.parts.flatten(0, 1), symbol)


@rule(torch.Tensor.__rmatmul__)
def _matmul_from_the_right(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return _matmul(x, weight)


@rule(F.conv2d)
def _conv2d(  # noqa: PLR0913  (PyTorch's signature)
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: MaybeTensor = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    plain_bias = None if isinstance(bias, Symbol) else bias
    convolved = partial(F.conv2d, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if not isinstance(weight, Interpolated):
        y = convolved(x, weight, plain_bias)
    elif groups == 1:
        _check_batch(x, weight, "conv2d")
        rows_BP = weight.shares.rows.to(x.dtype)
        wide = (x.unsqueeze(1) * _along(rows_BP[..., None, None, None], 5)).flatten(1, 2)
        y = convolved(wide, weight.parts.transpose(0, 1).flatten(1, 2), plain_bias)
    else:
        _check_batch(x, weight, "conv2d")
        y = convolved(x, weight.parts[0], plain_bias)
        for part, difference in enumerate(weight.parts[1:], 1):
            more = convolved(x, difference)
            y.addcmul_(more, weight.shares.column(part, more))
    if isinstance(bias, Symbol):
        _check_batch(x, bias, "conv2d")
        y = y.add_(bias.values()[..., None, None])
    return y


@rule(F.layer_norm, torch.layer_norm)
def _layer_norm(
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: MaybeTensor = None,
    bias: MaybeTensor = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    x, symbol = _activation(x)
    y = F.layer_norm(x, list(normalized_shape), None, None, eps)
    weight, bias = (
        _along(p.values(), y.ndim) if isinstance(p, Symbol) else p for p in (weight, bias)
    )
    if weight is not None and bias is not None:
        y = torch.addcmul(bias, y, weight)
    elif weight is not None:
        y = y * weight
    elif bias is not None:
        y = y + bias
    return _again(y, symbol)


@rule(F.batch_norm)
def _batch_norm(  # noqa: PLR0913  (PyTorch's signature)
    x: torch.Tensor,
    running_mean: MaybeTensor,
    running_var: MaybeTensor,
    weight: MaybeTensor = None,
    bias: MaybeTensor = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    given = (running_mean, running_var, weight, bias)
    symbols = [p for p in given if isinstance(p, Symbol)]
    if training or running_mean is None or running_var is None:
        unsupported("batch_norm over the batch's own statistics", symbols)
    _check_batch(x, symbols[0], "batch_norm")
    mean, var = (_wide_values(p) for p in (running_mean, running_var))
    # [C] or [B, C]; as PyTorch does it on a CPU, two numbers for each channel
    slope = torch.rsqrt(var.float() + eps)
    if weight is not None:
        slope = slope * _wide_values(weight)
    offset = -mean * slope if bias is None else _wide_values(bias) - mean * slope
    slope, offset = (
        p.to(x.dtype).view(-1, p.shape[-1], *[1] * (x.ndim - 2)) for p in (slope, offset)
    )
    return torch.addcmul(offset, x, slope)


@rule(F.multi_head_attention_forward, takes_factors=True)
def _attention(  # noqa: PLR0913  (PyTorch's signature)
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: MaybeTensor,
    in_proj_bias: MaybeTensor,
    bias_k: MaybeTensor,
    bias_v: MaybeTensor,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: MaybeTensor,
    training: bool = True,
    key_padding_mask: MaybeTensor = None,
    need_weights: bool = True,
    attn_mask: MaybeTensor = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: MaybeTensor = None,
    k_proj_weight: MaybeTensor = None,
    v_proj_weight: MaybeTensor = None,
    static_k: MaybeTensor = None,
    static_v: MaybeTensor = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, None]:
    """The batch is the second dimension here."""
    rare = (bias_k, bias_v, key_padding_mask, static_k, static_v)
    if need_weights or add_zero_attn or any(r is not None for r in rare) or query.ndim != 3:
        unsupported(
            "attention with extra keys, masked keys or returned weights",
            [in_proj_weight, out_proj_weight, q_proj_weight],
        )
    if use_separate_proj_weight:
        weights = [q_proj_weight, k_proj_weight, v_proj_weight]
    else:
        weights = [in_proj_weight]
    inputs = [query] if query is key and key is value else [query, key, value]
    q, k, v = _projected([x.transpose(0, 1) for x in inputs], weights, in_proj_bias)
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.unflatten(0, (-1, num_heads))
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask, is_causal=is_causal and attn_mask is None
    )
    y = _linear(y.transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias)
    return y.transpose(0, 1), None


def _projected(
    inputs: Sequence[torch.Tensor], weights: Sequence[MaybeTensor], bias: MaybeTensor
) -> Sequence[torch.Tensor]:
    """Queries, keys and values of one input or three, by one weight [3 O, I] or three."""
    known = [weight for weight in weights if weight is not None]
    if len(inputs) == len(known) == 1:
        return _linear(inputs[0], known[0], bias).chunk(3, dim=-1)
    if len(inputs) == 1:
        inputs = [inputs[0]] * 3
    if len(known) == 1:
        known = list(known[0].chunk(3))
    biases: Sequence[MaybeTensor] = [None] * 3 if bias is None else bias.chunk(3)
    return [_linear(x, w, b) for x, w, b in zip(inputs, known, biases, strict=True)]


def _elementwise(func: Function, *args: Any, **kwargs: Any) -> torch.Tensor:
    """A sum, product and the like of activations and symbols."""
    symbols = [a for a in args if isinstance(a, Symbol)]
    tensors = [a for a in args if isinstance(a, torch.Tensor) and not isinstance(a, Symbol)]
    if not tensors:
        ndim = max(s.ndim for s in symbols) + 1
        values = [_along(a.values(), ndim) if isinstance(a, Symbol) else a for a in args]
        return PerSample(func(*values, **kwargs), symbols[0].shares, symbols[0].parameter)
    x = max(tensors, key=lambda tensor: tensor.ndim)
    name = func.__name__
    found: torch.Tensor = func(
        *[_aligned(a, x, name) if isinstance(a, Symbol) else a for a in args], **kwargs
    )
    return found


def _aligned(symbol: Symbol, x: torch.Tensor, what: str) -> torch.Tensor:
    """A symbol's values, to be broadcast against an activation."""
    values, count = symbol.values(), symbol.shares.batch
    if x.ndim > symbol.ndim:
        _check_batch(x, symbol, what)
        return _along(values, x.ndim)
    # the parameter has a dimension of size 1 where the activation has the batch
    for dim, size in enumerate(symbol.shape):
        if size == 1 and x.ndim == symbol.ndim and x.shape[dim] == count:
            return values.squeeze(dim + 1).movedim(0, dim)
    unsupported(what, [symbol])


def _structural(func: Function, *args: Any, **kwargs: Any) -> Any:
    """A change of shape or type, which is the same for all parts."""
    symbols = [v for v in leaves(args) if isinstance(v, Symbol)]
    shares, name = symbols[0].shares, symbols[0].parameter
    parts = [s.parts for s in symbols if isinstance(s, Interpolated)]
    linear = len(parts) == len(symbols)
    count = len(parts[0]) if linear else shares.batch

    def stacked(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(stacked(v) for v in value)
        if isinstance(value, Interpolated) and linear:
            return value.parts
        if isinstance(value, Symbol):
            return value.values()
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


@rule(torch.Tensor.expand)
def _expand(symbol: Symbol, *sizes: Any) -> torch.Tensor:
    """To a batch: there the values become an activation [B, ...]."""
    sizes = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    added = len(sizes) - symbol.ndim
    if sizes[0] != symbol.shares.batch or (not added and symbol.shape[0] != 1):
        expanded: torch.Tensor = _structural(torch.Tensor.expand, symbol, *sizes)
        return expanded
    values = symbol.values() if added else symbol.values().squeeze(1)
    return _along(values, len(sizes)).expand(sizes)


@rule(torch.Tensor.repeat)
def _repeat(symbol: Symbol, *sizes: Any) -> torch.Tensor:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    if any(size != 1 for size in sizes[1:]) or len(sizes) < symbol.ndim:
        unsupported("repeat", [symbol])
    shape = (1,) * (len(sizes) - symbol.ndim) + tuple(symbol.shape)
    return _expand(symbol, sizes[0] * shape[0], *shape[1:])


def _activation(x: torch.Tensor) -> tuple[torch.Tensor, Symbol | None]:
    """An activation [B, ...]: itself, or the values of a symbol, which then comes along."""
    return (x.values(), x) if isinstance(x, Symbol) else (x, None)


def _again(y: torch.Tensor, symbol: Symbol | None) -> torch.Tensor:
    """What was computed from a symbol's values is one itself."""
    return y if symbol is None else PerSample(y, symbol.shares, symbol.parameter)


def _along(values_B: torch.Tensor, ndim: int) -> torch.Tensor:
    """[B, *shape] as [B, 1, ..., *shape] of `ndim` dimensions."""
    return values_B.view(len(values_B), *[1] * (ndim - values_B.ndim), *values_B.shape[1:])


def _wide(x: torch.Tensor, shares: Shares) -> torch.Tensor:
    """[x | c_1 x | ...]: an activation [B, ..., I] as [B, ..., P I]."""
    rows_BP = shares.rows.to(x.dtype)
    return (x.unsqueeze(-2) * _along(rows_BP.unsqueeze(-1), x.ndim + 1)).flatten(-2)


def _wide_values(parameter: torch.Tensor) -> torch.Tensor:
    """Of a symbol its values [B, *shape] in float32, else itself."""
    return parameter.values().float() if isinstance(parameter, Symbol) else parameter


def _check_batch(x: torch.Tensor, symbol: Symbol, what: str) -> None:
    count = symbol.shares.batch
    if x.shape[0] != count:
        raise UserError(
            f"The exact mode cannot tell the samples apart where {what} meets "
            f"'{symbol.parameter}': it expected a batch of {count} in the first dimension of "
            f"{list(x.shape)}. Set mixture.clusters to a number."
        )


ELEMENTWISE: set[Function] = {
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

STRUCTURAL: set[Function] = {
    getattr(torch.Tensor, name)
    for name in ("view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "flatten",
                 "unflatten", "contiguous", "__getitem__", "to", "type", "float", "half",
                 "bfloat16", "chunk", "split", "unbind", "clone", "detach", "narrow", "select",
                 "movedim")
} | {
    torch.cat, torch.permute, torch.transpose, torch.reshape, torch.unsqueeze, torch.chunk,
    torch.split, torch.unbind, torch.flatten, *(getattr(torch.Tensor, p).__get__ for p in ("T",)),
}  # fmt: skip

for _functions, _run in ((ELEMENTWISE, _elementwise), (STRUCTURAL, _structural)):
    for _function in _functions:
        rule(_function)(partial(_run, _function))
