"""Means, deviations, quantiles and covariances, in terms of sums, products and sorted values."""

from typing import Any

import numpy as np

from distbp.autodiff.reductions import axes_of
from distbp.autodiff.tables import COMPOSITIONS, Array, NotDifferentiable, composes, refuse_out
from distbp.autodiff.tracing import Traced, value_of


@composes(np.var)
def _var(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False,
         *, where: Any = True, mean: Array = None, correction: float | None = None) -> Array:  # fmt: skip
    a, ddof = a if dtype is None else a.astype(dtype), ddof if correction is None else correction
    mean = np.mean(a, axis, keepdims=True, where=where) if mean is None else mean
    rest = a - mean
    square = (np.abs(rest) if a.dtype.kind == "c" else rest) ** 2
    square = square if where is True else np.where(where, square, 0.0)
    count = np.sum(np.broadcast_to(where, a.shape), axis, keepdims=keepdims)
    return np.sum(square, axis, out=out, keepdims=keepdims) / np.maximum(count - ddof, 0).astype(square.dtype)


@composes(np.std)
def _std(a: Array, *how: Any, **kw: Any) -> Array:
    variance = _var(a, *how, **kw)
    return np.where(variance == 0, 0.0, np.sqrt(np.where(variance == 0, 1.0, variance)))


@composes(np.average)
def _average(a: Array, axis: Any = None, weights: Array = None, returned: bool = False, *, keepdims: bool = False
             ) -> Array:  # fmt: skip
    if weights is None:
        mean = np.mean(a, axis, keepdims=keepdims)
        return (mean, np.zeros_like(mean) + a.size / max(1, mean.size)) if returned else mean
    weights = weights if type(weights) is Traced else np.asarray(weights)
    if np.ndim(weights) != np.ndim(a):
        axes = axes_of(a, axis)
        ordered = np.transpose(weights, np.argsort(axes))
        weights = np.reshape(ordered, [n if i in axes else 1 for i, n in enumerate(a.shape)])
    weights = np.broadcast_to(weights.astype(np.result_type(weights.dtype, a.dtype)), a.shape)
    scale = np.sum(weights, axis, keepdims=keepdims)
    mean = np.sum(a * weights, axis, keepdims=keepdims) / scale
    return (mean, scale) if returned else mean


def _without_nan(function: Any) -> Any:
    def composed(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, *how: Any, **kw: Any) -> Array:
        refuse_out(out)
        known = ~np.isnan(value_of(a))
        return function(np.where(known, a, 0.0), axis, None, None, *how, where=known, **kw)

    return composed


@composes(np.quantile)
def _quantile(a: Array, q: Array, axis: Any = None, out: Any = None, overwrite_input: bool = False,
              method: str = "linear", keepdims: bool = False, *, weights: Any = None) -> Array:  # fmt: skip
    refuse_out(out)
    if method != "linear" or weights is not None:
        raise NotDifferentiable("quantiles of a traced array: method='linear' only, without weights")
    axes = axes_of(a, axis)
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


COMPOSITIONS |= {
    np.nanmean: _without_nan(np.mean),
    np.nanvar: _without_nan(np.var),
    np.nanstd: _without_nan(np.std),
    np.median: lambda a, axis=None, out=None, overwrite_input=False, keepdims=False: _quantile(
        a, 0.5, axis, out, keepdims=keepdims
    ),
    np.percentile: lambda a, q, *how, **kw: _quantile(
        a, q / 100.0 if type(q) in (int, float) else np.asarray(q) / 100.0, *how, **kw
    ),
}


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
    return np.squeeze(np.matmul(x, x.T) / (x.shape[1] - ((0 if bias else 1) if ddof is None else ddof)))


@composes(np.corrcoef)
def _corrcoef(x: Array, y: Array = None, rowvar: bool = True, **kw: Any) -> Array:
    c = np.atleast_2d(_cov(x, y, rowvar, **kw))
    scale = np.sqrt(np.diagonal(c))
    return np.squeeze(c / scale[:, None] / scale)
