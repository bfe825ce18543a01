"""Shapes: to reshape, transpose, broadcast, join and split arrays, and to lay out grids."""

import inspect
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff.tables import COMPOSITIONS, RULES, Array, NotDifferentiable, composes, defvjp, linear, refuse_out
from distbp.autodiff.tracing import Traced, primitive, value_of
from distbp.trees import leaves_of


def _checked_order(order: str) -> Any:
    """Return `order`, but refuse the one that depends on how an array lies in memory."""
    if order == "A":
        raise NotDifferentiable("np.reshape of a traced array: order='A' depends on how it lies in memory; C or F")
    return order


defvjp(np.reshape, lambda g, ans, x, shape=None, order="C", **kw: np.reshape(g, x.shape, _checked_order(order)))
defvjp(np.expand_dims, lambda g, ans, x, axis: np.reshape(g, x.shape))
defvjp(np.squeeze, lambda g, ans, x, axis=None: np.reshape(g, x.shape))
defvjp(np.broadcast_to, lambda g, ans, x, *how, **kw: g)
defvjp(
    np.transpose,
    lambda g, ans, x, axes=None: np.transpose(g, None if axes is None else np.argsort(np.mod(axes, g.ndim))),
)
defvjp(np.swapaxes, lambda g, ans, x, axis1, axis2: np.swapaxes(g, axis1, axis2))
defvjp(np.moveaxis, lambda g, ans, x, source, destination: np.moveaxis(g, destination, source))
defvjp(np.flip, lambda g, ans, x, axis=None: np.flip(g, axis))
defvjp(np.roll, lambda g, ans, x, shift, axis=None: np.roll(g, np.negative(shift), axis))


@primitive
def concatenate(axis: int, *arrays: Array) -> Array:
    """Compute ``np.concatenate``, the axis first."""
    return np.concatenate(arrays, axis)


def _concatenate_vjp(k: int, g: Array, ans: Array, axis: int, *arrays: Array) -> Array:
    start = sum(array.shape[axis] for array in arrays[: k - 1])
    index: list[Any] = [slice(None)] * ans.ndim
    index[axis] = slice(start, start + arrays[k - 1].shape[axis])
    return g[tuple(index)]


RULES[concatenate] = _concatenate_vjp


@primitive
def stack(axis: int, *arrays: Array) -> Array:
    """Compute ``np.stack``, the axis first."""
    return np.stack(arrays, axis)


RULES[stack] = lambda k, g, ans, axis, *arrays: g[(slice(None),) * (axis % ans.ndim) + (k - 1,)]
linear(
    np.reshape, np.expand_dims, np.squeeze, np.broadcast_to, np.transpose, np.swapaxes, np.moveaxis, np.flip, np.roll,
    concatenate, stack,
)  # fmt: skip

# --- in terms of others -------------------------------------------------------------------------------


@composes(np.ravel)
def _ravel(a: Array, order: str = "C") -> Array:
    if order in "AK":
        order = "F" if np.isfortran(value_of(a)) else "C"
    return a.reshape(-1, order=order)


@composes(np.concatenate)
def _concatenate(arrays: Any, axis: int | None = 0, out: Any = None, *, dtype: Any = None, **kw: Any) -> Array:
    refuse_out(out)
    arrays = [a if dtype is None else _array(a).astype(dtype) for a in arrays]
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    return concatenate(axis % max(1, np.ndim(arrays[0])), *map(_array, arrays))


def _array(a: Any) -> Array:
    return a if type(a) is Traced else np.asarray(a)


@composes(np.stack)
def _stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, **kw: Any) -> Array:
    refuse_out(out)
    return stack(axis, *[a if dtype is None else a.astype(dtype) for a in map(_array, arrays)])


for _composed in (np.hstack, np.vstack, np.dstack, np.unstack, np.rollaxis, np.logspace):  # in NumPy itself
    COMPOSITIONS[_composed] = inspect.unwrap(_composed)
COMPOSITIONS[np.matrix_transpose] = COMPOSITIONS[np.linalg.matrix_transpose] = lambda x, /: np.swapaxes(x, -1, -2)


@composes(np.block)
def _block(arrays: Any) -> Array:
    def depth(x: Any) -> int:
        return 1 + max(map(depth, x)) if isinstance(x, list) else 0

    def joined(x: Any, level: int) -> Any:
        if isinstance(x, list):
            return np.concatenate([joined(part, level - 1) for part in x], -level)
        return np.reshape(x, (1,) * (ndim - np.ndim(x)) + np.shape(x))

    levels = depth(arrays)
    ndim = max([levels, *[np.ndim(x) for _, x in leaves_of(arrays)]])
    return joined(arrays, levels)


@composes(np.insert)
def _insert(arr: Array, obj: Any, values: Array, axis: int | None = None) -> Array:
    if not isinstance(obj, (int, np.integer)):
        raise NotDifferentiable("np.insert of a traced array: at one place, a whole number")
    if axis is None:
        arr, axis = np.ravel(arr), 0
    values = np.moveaxis(np.reshape(values, (1,) * (arr.ndim - np.ndim(values)) + np.shape(values)), 0, axis)
    shape = tuple(values.shape[i] if i == axis % arr.ndim else n for i, n in enumerate(arr.shape))
    before, after = np.split(arr, [int(obj) + (arr.shape[axis] if obj < 0 else 0)], axis)
    return np.concatenate([before, np.broadcast_to(values.astype(arr.dtype), shape), after], axis)


@composes(np.array_split)
def _array_split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    n, before = ary.shape[axis], (slice(None),) * (axis % ary.ndim)
    if isinstance(indices_or_sections, (int, np.integer)):
        small, more = divmod(n, int(indices_or_sections))
        cuts = [i * small + min(i, more) for i in range(int(indices_or_sections) + 1)]
    else:
        cuts = [0, *map(int, indices_or_sections), n]
    return [ary[(*before, slice(lo, hi))] for lo, hi in pairwise(cuts)]


@composes(np.split)
def _split(ary: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    if isinstance(indices_or_sections, (int, np.integer)) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return _array_split(ary, indices_or_sections, axis)


def _at_least(ndim: int, function: Any) -> Any:
    def composed(*arrays: Array) -> Any:
        out = [a if np.ndim(a) >= ndim else np.reshape(a, function(value_of(a)).shape) for a in arrays]
        return out[0] if len(out) == 1 else tuple(out)

    return composed


for _ndim, _function in enumerate((np.atleast_1d, np.atleast_2d, np.atleast_3d), 1):
    COMPOSITIONS[_function] = _at_least(_ndim, _function)


@composes(np.broadcast_arrays)
def _broadcast_arrays(*arrays: Array, subok: bool = False) -> tuple[Array, ...]:
    shape = np.broadcast_shapes(*map(np.shape, arrays))
    return tuple(np.broadcast_to(a, shape) for a in arrays)


@composes(np.meshgrid)
def _meshgrid(*xi: Array, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    n = len(xi)
    axes = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else range(n)
    out = [np.reshape(x, (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in zip(axes, xi, strict=True)]
    return tuple(out) if sparse else _broadcast_arrays(*out)


@composes(np.linspace)
def _linspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False,
              dtype: Any = None, axis: int = 0, **kw: Any) -> Any:  # fmt: skip
    count = num - 1 if endpoint else num
    step = (stop - start) / max(1, count)
    points = np.moveaxis(start + np.arange(num, dtype=step.dtype).reshape(-1, *(1,) * step.ndim) * step, 0, axis)
    points = points if dtype is None else points.astype(dtype)
    return (points, step if count > 0 else np.nan) if retstep else points


COMPOSITIONS |= {
    np.column_stack: lambda tup: np.concatenate([np.reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], 1),
    np.append: lambda arr, values, axis=None: np.concatenate([array(arr), array(values)], axis),
    np.vsplit: lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0),
    np.hsplit: lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1),
    np.dsplit: lambda ary, indices_or_sections: _split(ary, indices_or_sections, 2),
    np.geomspace: lambda start, stop, num=50, endpoint=True, dtype=None, axis=0: np.exp(
        _linspace(np.log(start), np.log(stop), num, endpoint, axis=axis)
    ).astype(float if dtype is None else dtype),
}


def array(parts: Any, dtype: Any = None) -> Array:
    """Make an array of numbers, arrays and lists of them, some of which may be traced: what `numpy.array` cannot."""
    if isinstance(parts, (tuple, list)) and any(type(x) is Traced for _, x in leaves_of(parts)):
        made: Array = np.stack([array(part) for part in parts])
    else:
        made = parts if type(parts) is Traced else np.array(parts)
    return made if dtype is None else made.astype(dtype)


def taken_apart(flat: Array, shapes: Any) -> list[Array]:
    """Return arrays of these shapes, whose numbers lie one after the other in `flat`."""
    ends = np.cumsum([0, *map(prod, shapes)])
    return [np.reshape(flat[lo:hi], shape) for lo, hi, shape in zip(ends, ends[1:], shapes, strict=False)]


class _Joined:
    """Joins what stands in brackets, as `numpy.r_` and `numpy.c_`, of which some may be traced."""

    def __init__(self, columns: bool) -> None:
        self._columns = columns

    __iter__ = None
    """By places it would go on for ever."""

    def __getitem__(self, parts: Any) -> Array:
        arrays = []
        for part in parts if isinstance(parts, tuple) else (parts,):
            if isinstance(part, str):
                raise NotDifferentiable("autodiff.r_ and c_ take arrays, numbers and slices; else np.concatenate")
            a = np.atleast_1d(np.r_[part] if isinstance(part, slice) else array(part))
            arrays.append(np.reshape(a, (-1, 1)) if self._columns and a.ndim == 1 else a)
        return np.concatenate(arrays, -1 if self._columns else 0)


r_, c_ = _Joined(columns=False), _Joined(columns=True)
"""As `numpy.r_` and `numpy.c_`, of traced arrays, too."""
