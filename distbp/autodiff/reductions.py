"""Sums, products, extremes and differences along axes, and the softmax."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from distbp.autodiff.elementwise import nonzero_or_one
from distbp.autodiff.tables import COMPOSITIONS, METHODS, Array, NotDifferentiable, composes, defvjp, linear
from distbp.autodiff.tracing import Traced, primitive, value_of


def axes_of(x: Array, axis: Any) -> tuple[int, ...]:
    """Return what `axis` means for `x`, one, several or all (None), as axes counted from 0."""
    return tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)


def _broadcast_back(g: Array, x: Array, axis: Any, keepdims: bool = False) -> Array:
    """Broadcast what belongs to a reduction of `x` to the shape of `x`."""
    if axis is None:
        if type(g) is not Traced and not keepdims:
            return np.full(x.shape, g)
        return np.broadcast_to(np.reshape(g, (1,) * x.ndim), x.shape)
    if not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, x.shape)


def _sum_vjp(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
             keepdims: bool = False, initial: Any = 0, where: Any = True) -> Array:  # fmt: skip
    g = _broadcast_back(g, x, axis, keepdims)
    return g if where is True else g * where


def _mean_vjp(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
              keepdims: bool = False, *, where: Any = True) -> Array:  # fmt: skip
    if where is not True:
        count = np.sum(np.broadcast_to(where, x.shape), axis, x.dtype, keepdims=keepdims)
        return _broadcast_back(g / count, x, axis, keepdims) * where
    return _broadcast_back(g / (x.size / max(1, ans.size)), x, axis, keepdims)


def _extremum_vjp(g: Array, ans: Array, x: Array, axis: Any = None, out: None = None, keepdims: bool = False,
                  initial: Any = None, where: Any = True) -> Array:  # fmt: skip
    reached = (x == _broadcast_back(ans, x, axis, keepdims)) & where
    count = np.maximum(np.sum(reached, axis, x.dtype, keepdims=keepdims), 1)
    return _broadcast_back(g / count, x, axis, keepdims) * reached


def _prod_vjp(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
              keepdims: bool = False, initial: Any = 1, where: Any = True) -> Array:  # fmt: skip
    if where is not True:
        return _prod_vjp(g, ans, np.where(where, x, 1.0), axis, None, None, keepdims, initial) * where
    if (x != 0).all():
        return _broadcast_back(g * ans, x, axis, keepdims) / x
    axes = axes_of(x, axis)
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    moved = np.transpose(x, order)
    flat = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    others = initial * np.prod(np.where(np.eye(flat.shape[-1], dtype=bool), 1.0, flat[..., None, :]), -1)
    others = np.transpose(others.reshape(moved.shape), list(map(order.index, range(x.ndim))))
    return _broadcast_back(g, x, axis, keepdims) * others


def _cumsum_vjp(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None) -> Array:
    back = np.flip(np.cumsum(np.flip(g, axis), axis), axis)
    return back.reshape(x.shape) if axis is None else back


def _cumprod_vjp(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None) -> Array:
    if axis is None:
        return _cumprod_vjp(g, ans, x.reshape(-1), 0).reshape(x.shape)
    if (x != 0).all():
        return _cumsum_vjp(g * ans, ans, x, axis) / x
    x, g = np.moveaxis(x, axis, -1), np.moveaxis(g, axis, -1)
    k = np.arange(x.shape[-1])  # result k, by element i: the product of all others up to k
    taken = (k <= k[:, None])[:, None, :] & (k[:, None] != k)[None]  # [k, i, j]
    terms = np.prod(np.where(taken, x[..., None, None, :], 1.0), -1) * (k <= k[:, None])
    return np.moveaxis(np.sum(g[..., :, None] * terms, -2), -1, axis)


defvjp(np.sum, _sum_vjp)
defvjp(np.mean, _mean_vjp)
defvjp(np.prod, _prod_vjp)
defvjp(np.cumsum, _cumsum_vjp)
defvjp(np.cumprod, _cumprod_vjp)
for _function in (np.max, np.min, np.amax, np.amin):
    defvjp(_function, _extremum_vjp)


@primitive
def root_sum_squares(x: Array, axis: Any) -> Array:
    """Return the Euclidean norm along axes, which are kept; its derivative at 0 is 0."""
    return np.sqrt(np.sum(x * x, axis, keepdims=True))


defvjp(root_sum_squares, lambda g, ans, x, axis: g * x / nonzero_or_one(ans), None)

linear(np.sum, np.mean, np.cumsum)

# --- in terms of others -------------------------------------------------------------------------------


def _ignoring_nan(function: Any, otherwise: float) -> Any:
    return lambda a, *how, **kw: function(np.where(np.isnan(value_of(a)), otherwise, a), *how, **kw)


def _cumulative(function: Any, first: Any) -> Any:
    def composed(x: Array, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
                 ) -> Array:  # fmt: skip
        axis, x = 0 if axis is None else axis, x if dtype is None else x.astype(dtype)
        total = function(x, axis, out=out)
        if include_initial:
            shape = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
            total = np.concatenate([first(shape, x.dtype), total], axis)
        return total

    return composed


COMPOSITIONS |= {
    np.ptp: lambda a, axis=None, out=None, keepdims=False: (
        np.max(a, axis, out=out, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)
    ),
    np.nansum: _ignoring_nan(np.sum, 0.0),
    np.nanprod: _ignoring_nan(np.prod, 1.0),
    np.nancumsum: _ignoring_nan(np.cumsum, 0.0),
    np.nancumprod: _ignoring_nan(np.cumprod, 1.0),
    np.nanmax: _ignoring_nan(np.max, -np.inf),
    np.nanmin: _ignoring_nan(np.min, np.inf),
    np.cumulative_sum: _cumulative(np.cumsum, np.zeros),
    np.cumulative_prod: _cumulative(np.cumprod, np.ones),
}


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
    axes = axes_of(f, axis)
    steps = spacing * (len(axes) if len(spacing) == 1 else 1) or (1.0,) * len(axes)
    slopes = []
    for a, h in zip(axes, steps, strict=True):
        x = np.moveaxis(f, a, -1)
        parts = [x[..., 1:2] - x[..., :1], (x[..., 2:] - x[..., :-2]) / 2.0, x[..., -1:] - x[..., -2:-1]]
        slopes.append(np.moveaxis(np.concatenate(parts, -1) / h, -1, a))
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Return the log of the sum of exponentials along `axis`, without overflow; of plain and traced arrays."""
    top = np.max(value_of(x), axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0).astype(top.dtype)
    total = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


def softmax(x: Array, axis: Any = None) -> Array:
    """Return exp(x) divided by its sum along `axis`, without overflow; of plain and traced arrays."""
    e = np.exp(x - np.max(value_of(x), axis, keepdims=True))
    return e / np.sum(e, axis, keepdims=True)


def log_softmax(x: Array, axis: Any = None) -> Array:
    """Return the log of `softmax`."""
    return x - logsumexp(x, axis, True)


METHODS[np.logaddexp, "reduce"] = lambda x, axis=0, keepdims=False: logsumexp(x, axis, keepdims)
