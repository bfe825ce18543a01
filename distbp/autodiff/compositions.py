"""Functions of NumPy in terms of others: element by element, and reductions.

What is written in primitives has every derivative that these have.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.autodiff import derivatives as d
from distbp.autodiff.tracing import (
    COMPOSITIONS,
    METHODS,
    NotDifferentiable,
    Traced,
    composes,
    identity,
    record,
    refuse_output,
    value_of,
)

__all__ = ["log_softmax", "logsumexp", "softmax"]

Array = Any


# --- element by element -------------------------------------------------------------------------------


@composes(np.absolute)
def _absolute(x: Array, **kw: Any) -> Array:
    return d.absolute_complex(x) if x.dtype.kind == "c" else record(np.absolute, (x,), kw)


@composes(np.divmod)
def _divmod(x: Array, y: Array) -> Array:
    return np.floor_divide(x, y), np.remainder(x, y)


@composes(np.modf)
def _modf(x: Array) -> Array:
    return x - np.trunc(x), np.trunc(x)


@composes(np.frexp)
def _frexp(x: Array) -> Array:
    exponent = np.frexp(value_of(x))[1]
    return np.ldexp(x, -exponent), exponent


@composes(np.where)
def _where(condition: Array, *xy: Array) -> Array:
    condition = value_of(condition)
    return record(np.where, (condition, *xy)) if any(type(a) is Traced for a in xy) else np.where(condition, *xy)


@composes(np.clip)
def _clip(a: Array, a_min: Array = None, a_max: Array = None, out: Any = None, *, min: Array = None, max: Array = None
          ) -> Array:  # fmt: skip
    refuse_output(out)
    x, lo, hi = a, a_min if min is None else min, a_max if max is None else max
    if type(lo) is Traced or type(hi) is Traced:
        x = x if lo is None else np.maximum(x, lo)
        return x if hi is None else np.minimum(x, hi)
    return np.where(_outside(x, lo, hi), np.clip(value_of(x), lo, hi), x)


def _outside(x: Array, lo: Array, hi: Array) -> Array:
    below = False if lo is None else x < lo
    return below if hi is None else below | (x > hi)


@composes(np.sinc)
def _sinc(x: Array) -> Array:
    y = np.pi * np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0 - (np.pi * x) ** 2 / 6.0, np.sin(y) / y)


@composes(np.angle)
def _angle(z: Array, deg: bool = False) -> Array:
    return np.arctan2(np.imag(z), np.real(z)) * (180.0 / np.pi if deg else 1.0)


@composes(np.real)
def _real(val: Array) -> Array:
    return record(np.real, (val,)) if val.dtype.kind == "c" else val


@composes(np.imag)
def _imag(val: Array) -> Array:
    return record(np.imag, (val,)) if val.dtype.kind == "c" else np.zeros_like(val)


@composes(np.unwrap)
def _unwrap(p: Array, *how: Any, **kw: Any) -> Array:
    return p + (np.unwrap(value_of(p), *how, **kw) - value_of(p))


@composes(np.copy)
def _copy(a: Array, *how: Any, **kw: Any) -> Array:
    return record(identity, (a,))


@composes(np.real_if_close)
def _real_if_close(a: Array, tol: float = 100) -> Array:
    return np.real(a) if np.isrealobj(np.real_if_close(value_of(a), tol)) else a


@composes(np.astype)
def _astype(x: Array, dtype: Any, /, **kw: Any) -> Array:
    return x.astype(dtype)


@composes(np.select)
def _select(condlist: Any, choicelist: Any, default: Array = 0) -> Array:
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        default = np.where(condition, choice, default)
    return default


@composes(np.choose)
def _choose(a: Array, choices: Any, out: Any = None, mode: str = "raise") -> Array:
    refuse_output(out)
    index, dtype = value_of(a), np.result_type(*map(value_of, choices))
    choices = [(c if type(c) is Traced else np.asarray(c)).astype(dtype) for c in choices]
    stacked = np.stack(np.broadcast_arrays(*choices))
    if mode != "raise":
        raise NotDifferentiable("np.choose of a traced array: mode='raise' only")
    return np.take_along_axis(stacked, np.broadcast_to(index, stacked.shape[1:])[None], 0)[0]


@composes(np.piecewise)
def _piecewise(x: Array, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Array:
    conditions = [np.asarray(value_of(c)) for c in condlist]
    if len(funclist) == len(conditions) + 1:
        conditions = [*conditions, ~np.any(conditions, axis=0)]
    out = np.zeros_like(value_of(x))
    for condition, f in zip(conditions, funclist, strict=True):
        safe = np.where(condition, x, value_of(x).reshape(-1)[int(np.argmax(condition))] if condition.any() else 0.0)
        out = np.where(condition, f(safe, *args, **kw) if callable(f) else f, out)
    return out


@composes(np.interp)
def _interp(x: Array, xp: Array, fp: Array, left: Any = None, right: Any = None, period: Any = None) -> Array:
    if period is not None:
        raise NotDifferentiable("np.interp of a traced array: without period")
    x, xp, fp = (a if type(a) is Traced else np.asarray(a, float) for a in (x, xp, fp))
    inside = np.clip(x, value_of(xp)[0], value_of(xp)[-1])
    i = np.clip(np.searchsorted(value_of(xp), value_of(inside), "right") - 1, 0, len(xp) - 2)
    x0, x1, f0, f1 = xp[i], xp[i + 1], fp[i], fp[i + 1]
    y = f0 + (f1 - f0) * (inside - x0) / (x1 - x0)
    y = y if left is None else np.where(x < xp[0], left, y)
    return y if right is None else np.where(x > xp[-1], right, y)


# --- reductions ---------------------------------------------------------------------------------------


def _kept(x: Array, where: Any, otherwise: float) -> Array:
    return x if where is True else np.where(where, x, otherwise)


@composes(np.var)
def _var(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False,
         *, where: Any = True, mean: Array = None, correction: float | None = None) -> Array:  # fmt: skip
    refuse_output(out)
    a, ddof = a if dtype is None else a.astype(dtype), ddof if correction is None else correction
    mean = np.mean(a, axis, keepdims=True, where=where) if mean is None else mean
    rest = a - mean
    square = _kept((np.abs(rest) if a.dtype.kind == "c" else rest) ** 2, where, 0.0)
    count = np.sum(np.broadcast_to(where, a.shape), axis, keepdims=keepdims)
    return np.sum(square, axis, keepdims=keepdims) / np.maximum(count - ddof, 0).astype(square.dtype)


@composes(np.std)
def _std(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False,
         **kw: Any) -> Array:  # fmt: skip
    variance = _var(a, axis, dtype, out, ddof, keepdims, **kw)
    return np.where(variance == 0, 0.0, np.sqrt(np.where(variance == 0, 1.0, variance)))


@composes(np.ptp)
def _ptp(a: Array, axis: Any = None, out: Any = None, keepdims: bool = False) -> Array:
    refuse_output(out)
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


@composes(np.average)
def _average(a: Array, axis: Any = None, weights: Array = None, returned: bool = False, *, keepdims: bool = False
             ) -> Array:  # fmt: skip
    if weights is None:
        total, count = np.mean(a, axis, keepdims=keepdims), np.size(a) / max(1, np.size(np.mean(value_of(a), axis)))
        return (total, np.zeros_like(total) + count) if returned else total
    weights = weights if type(weights) is Traced else np.asarray(weights)
    if np.ndim(weights) != np.ndim(a):
        axes = [i % np.ndim(a) for i in np.atleast_1d(axis)]
        ordered = np.transpose(weights, np.argsort(axes))
        weights = np.reshape(ordered, [n if i in axes else 1 for i, n in enumerate(np.shape(a))])
    weights = np.broadcast_to(weights.astype(np.result_type(weights.dtype, a.dtype)), a.shape)
    scale = np.sum(weights, axis, keepdims=keepdims)
    mean = np.sum(a * weights, axis, keepdims=keepdims) / scale
    return (mean, scale) if returned else mean


def _passing_nan(function: Any, otherwise: float) -> Callable[..., Array]:
    return lambda a, *how, **kw: function(np.where(np.isnan(value_of(a)), otherwise, a), *how, **kw)


COMPOSITIONS[np.nansum] = _passing_nan(np.sum, 0.0)
COMPOSITIONS[np.nanprod] = _passing_nan(np.prod, 1.0)
COMPOSITIONS[np.nancumsum] = _passing_nan(np.cumsum, 0.0)
COMPOSITIONS[np.nancumprod] = _passing_nan(np.cumprod, 1.0)
COMPOSITIONS[np.nanmax] = _passing_nan(np.max, -np.inf)
COMPOSITIONS[np.nanmin] = _passing_nan(np.min, np.inf)


def _over_numbers(function: Any) -> Callable[..., Array]:
    def composed(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, *how: Any, **kw: Any) -> Array:
        refuse_output(out)
        there = ~np.isnan(value_of(a))
        return function(np.where(there, a, 0.0), axis, None, None, *how, where=there, **kw)

    return composed


COMPOSITIONS[np.nanmean] = _over_numbers(np.mean)
COMPOSITIONS[np.nanvar] = _over_numbers(np.var)
COMPOSITIONS[np.nanstd] = _over_numbers(np.std)


@composes(np.cumulative_sum)
def _cumulative_sum(x: Array, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
                    include_initial: bool = False) -> Array:  # fmt: skip
    return _cumulative(np.cumsum, np.zeros, x, axis, dtype, out, include_initial)


@composes(np.cumulative_prod)
def _cumulative_prod(x: Array, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
                     include_initial: bool = False) -> Array:  # fmt: skip
    return _cumulative(np.cumprod, np.ones, x, axis, dtype, out, include_initial)


def _cumulative(function: Any, first: Any, x: Array, axis: Any, dtype: Any, out: Any, include_initial: bool) -> Array:
    refuse_output(out)
    axis, x = 0 if axis is None else axis, x if dtype is None else x.astype(dtype)
    total = function(x, axis)
    if include_initial:
        shape = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
        total = np.concatenate([first(shape, x.dtype), total], axis)
    return total


@composes(np.median)
def _median(a: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
            ) -> Array:  # fmt: skip
    return _quantile(a, 0.5, axis, out, keepdims=keepdims)


@composes(np.percentile)
def _percentile(a: Array, q: Array, *how: Any, **kw: Any) -> Array:
    return _quantile(a, q / 100.0 if type(q) in (int, float) else np.asarray(q) / 100.0, *how, **kw)


@composes(np.quantile)
def _quantile(a: Array, q: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False,
              method: str = "linear", keepdims: bool = False, *, weights: Any = None) -> Array:  # fmt: skip
    refuse_output(out)
    if method != "linear" or weights is not None:
        raise NotDifferentiable("quantiles of a traced array: method='linear' only, without weights")
    axes = tuple(range(a.ndim)) if axis is None else tuple(i % a.ndim for i in np.atleast_1d(axis))
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    flat = np.transpose(a, rest + axes).reshape(*(a.shape[i] for i in rest), -1)
    ordered, place = np.sort(flat, -1), np.asarray(q) * (flat.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above, part = np.minimum(below + 1, flat.shape[-1] - 1), place - below
    part = part.astype(a.dtype) if type(q) in (int, float) else part
    picked = ordered[..., below] + (ordered[..., above] - ordered[..., below]) * part
    if (unknown := np.isnan(value_of(ordered)[..., -1])).any():
        picked = np.where(np.reshape(unknown, unknown.shape + (1,) * np.ndim(q)), np.nan, picked)
    picked = np.moveaxis(picked, range(len(rest), picked.ndim), range(np.ndim(q)))
    if keepdims:
        picked = picked.reshape(*np.shape(q), *(1 if i in axes else n for i, n in enumerate(a.shape)))
    return picked


@composes(np.cov)
def _cov(m: Array, y: Array = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, **kw: Any
         ) -> Array:  # fmt: skip
    if kw:
        raise NotDifferentiable(f"np.cov of a traced array: without {', '.join(kw)}")

    def rows(x: Array) -> Array:
        x = np.atleast_2d(x)
        return x if rowvar or x.shape[0] == 1 else x.T

    x = rows(m) if y is None else np.concatenate([rows(m), rows(y)])
    x = x.astype(np.result_type(x.dtype, float))  # as NumPy does
    x = x - np.mean(x, 1, keepdims=True)
    total = np.matmul(x, x.T) / (x.shape[1] - ((0 if bias else 1) if ddof is None else ddof))
    return np.squeeze(total)


@composes(np.corrcoef)
def _corrcoef(x: Array, y: Array = None, rowvar: bool = True, **kw: Any) -> Array:
    c = np.atleast_2d(_cov(x, y, rowvar, **kw))
    scale = np.sqrt(np.diagonal(c))
    return np.squeeze(c / scale[:, None] / scale)


@composes(np.trapezoid)
def _trapezoid(y: Array, x: Array = None, dx: float = 1.0, axis: int = -1) -> Array:
    y = np.moveaxis(y, axis, -1)
    steps = dx if x is None else np.diff(x if np.ndim(x) == 1 else np.moveaxis(x, axis, -1))
    return np.sum(steps * (y[..., 1:] + y[..., :-1]) / 2.0, -1)


@composes(np.diff)
def _diff(a: Array, n: int = 1, axis: int = -1, prepend: Array = None, append: Array = None) -> Array:
    ends = [x for x in (prepend, a, append) if x is not None and x is not np._NoValue]
    if len(ends) > 1:
        one = tuple(1 if i == axis % a.ndim else k for i, k in enumerate(a.shape))
        a = np.concatenate([x if np.ndim(x) else x + np.zeros(one) for x in ends], axis)
    a = np.moveaxis(a, axis, -1)
    for _ in range(n):
        a = a[..., 1:] - a[..., :-1]
    return np.moveaxis(a, -1, axis)


@composes(np.ediff1d)
def _ediff1d(ary: Array, to_end: Array = None, to_begin: Array = None) -> Array:
    parts = [np.ravel(x) for x in (to_begin, np.diff(np.ravel(ary)), to_end) if x is not None]
    return np.concatenate([x.astype(ary.dtype) for x in parts])


@composes(np.gradient)
def _gradient(f: Array, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    if edge_order != 1 or any(np.ndim(h) for h in spacing):
        raise NotDifferentiable("np.gradient of a traced array: with edge_order=1 and equal distances only")
    axes = range(f.ndim) if axis is None else [a % f.ndim for a in np.atleast_1d(axis)]
    steps = spacing * (len(axes) if len(spacing) == 1 else 1) or (1.0,) * len(axes)
    slopes = []
    for a, h in zip(axes, steps, strict=True):
        x = np.moveaxis(f, a, -1)
        parts = [x[..., 1:2] - x[..., :1], (x[..., 2:] - x[..., :-2]) / 2.0, x[..., -1:] - x[..., -2:-1]]
        slopes.append(np.moveaxis(np.concatenate(parts, -1) / h, -1, a))
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Log of the sum of exponentials along `axis`, without overflow; of plain and traced arrays."""
    top = np.max(value_of(x), axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0).astype(top.dtype)
    total = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


def softmax(x: Array, axis: Any = None) -> Array:
    """exp(x) divided by its sum along `axis`, without overflow; of plain and traced arrays."""
    e = np.exp(x - np.max(value_of(x), axis, keepdims=True))
    return e / np.sum(e, axis, keepdims=True)


def log_softmax(x: Array, axis: Any = None) -> Array:
    """Log of `softmax`."""
    return x - logsumexp(x, axis, True)


METHODS[np.logaddexp, "reduce"] = lambda x, axis=0, keepdims=False: logsumexp(x, axis, keepdims)
