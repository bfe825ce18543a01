"""Functions of NumPy that give arrays another shape, put them together, or pick and move their elements.

One that only moves elements is called once on their numbers, from 1, and the elements are picked by what it gives: one
rule serves them all.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import stride_tricks

from distbp.autodiff import derivatives as d
from distbp.autodiff.tracing import COMPOSITIONS, NotDifferentiable, Traced, composes, refuse_output, value_of

__all__: list[str] = []

Array = Any
linalg: Any = np.linalg


@composes(np.ravel)
def _ravel(a: Array, order: str = "C") -> Array:
    if order in "AK":
        order = "F" if np.isfortran(value_of(a)) else "C"
    return a.reshape(-1, order=order)


@composes(np.concatenate)
def _concatenate(arrays: Any, axis: int | None = 0, out: Any = None, *, dtype: Any = None, **kw: Any) -> Array:
    refuse_output(out)
    arrays = [a if dtype is None else _array(a).astype(dtype) for a in arrays]
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    return d.concatenate(axis % max(1, np.ndim(arrays[0])), *map(_array, arrays))


def _array(a: Any) -> Array:
    return a if type(a) is Traced else np.asarray(a)


@composes(np.stack)
def _stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, **kw: Any) -> Array:
    refuse_output(out)
    return d.stack(axis, *[a if dtype is None else a.astype(dtype) for a in map(_array, arrays)])


@composes(np.vstack)
def _vstack(tup: Any, **kw: Any) -> Array:
    return np.concatenate([np.atleast_2d(a) for a in tup], 0, **kw)


@composes(np.hstack)
def _hstack(tup: Any, **kw: Any) -> Array:
    arrays = [np.atleast_1d(a) for a in tup]
    return np.concatenate(arrays, 0 if arrays[0].ndim == 1 else 1, **kw)


@composes(np.dstack)
def _dstack(tup: Any) -> Array:
    return np.concatenate([np.atleast_3d(a) for a in tup], 2)


@composes(np.column_stack)
def _column_stack(tup: Any) -> Array:
    return np.concatenate([np.reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], 1)


@composes(np.block)
def _block(arrays: Any) -> Array:
    def depth(x: Any) -> int:
        return 1 + max(map(depth, x)) if isinstance(x, list) else 0

    levels = depth(arrays)

    def joined(x: Any, level: int) -> Any:
        if isinstance(x, list):
            return np.concatenate([joined(part, level - 1) for part in x], -level)
        return np.reshape(x, (1,) * (ndim - np.ndim(x)) + np.shape(x))

    def most(x: Any) -> int:
        return max(map(most, x)) if isinstance(x, list) else int(np.ndim(x))

    ndim = max(levels, most(arrays))
    return joined(arrays, levels)


@composes(np.append)
def _append(arr: Array, values: Array, axis: int | None = None) -> Array:
    return np.concatenate([np.ravel(arr), np.ravel(values)] if axis is None else [arr, values], axis or 0)


@composes(np.insert)
def _insert(arr: Array, obj: Any, values: Array, axis: int | None = None) -> Array:
    a, index = arr, obj
    if not isinstance(index, (int, np.integer)):
        raise NotDifferentiable("np.insert of a traced array: at one place, a whole number")
    if axis is None:
        a, axis = np.ravel(a), 0
    values = np.moveaxis(np.reshape(values, (1,) * (a.ndim - np.ndim(values)) + np.shape(values)), 0, axis)
    shape = tuple(values.shape[i] if i == axis % a.ndim else n for i, n in enumerate(a.shape))
    values = values.astype(a.dtype)
    before, after = np.split(a, [int(index) + (a.shape[axis] if index < 0 else 0)], axis)
    return np.concatenate([before, np.broadcast_to(values, shape), after], axis)


@composes(np.array_split)
def _array_split(ary: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    a, sections, n = ary, indices_or_sections, ary.shape[axis]
    if isinstance(sections, (int, np.integer)):
        small, more = divmod(n, sections)
        cuts = np.cumsum([0] + [small + 1] * more + [small] * (int(sections) - more)).tolist()
    else:
        cuts = [0, *(int(c) for c in sections), n]
    before = (slice(None),) * (axis % a.ndim)
    return [a[(*before, slice(lo, hi))] for lo, hi in zip(cuts, cuts[1:], strict=False)]


@composes(np.split)
def _split(ary: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    if isinstance(indices_or_sections, (int, np.integer)) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return _array_split(ary, indices_or_sections, axis)


COMPOSITIONS[np.vsplit] = lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0)
COMPOSITIONS[np.hsplit] = lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1)
COMPOSITIONS[np.dsplit] = lambda ary, indices_or_sections: _split(ary, indices_or_sections, 2)


@composes(np.unstack)
def _unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    return tuple(np.moveaxis(x, axis, 0))


def _at_least(n: int) -> Callable[..., Any]:
    def composed(*arrays: Array) -> Any:
        out = []
        for a in arrays:
            if np.ndim(a) < n:
                shape = {0: (1,) * n, 1: (1, -1, 1)[:n] if n == 3 else (1, -1), 2: (*np.shape(a), 1)}[np.ndim(a)]
                a = np.reshape(a, shape)
            out.append(a)
        return out[0] if len(out) == 1 else tuple(out)

    return composed


COMPOSITIONS[np.atleast_1d], COMPOSITIONS[np.atleast_2d] = _at_least(1), _at_least(2)
COMPOSITIONS[np.atleast_3d] = _at_least(3)
COMPOSITIONS[np.matrix_transpose] = COMPOSITIONS[linalg.matrix_transpose] = lambda x, /: np.swapaxes(x, -1, -2)


@composes(np.rollaxis)
def _rollaxis(a: Array, axis: int, start: int = 0) -> Array:
    axis, start = axis % a.ndim, start + a.ndim if start < 0 else start
    return np.moveaxis(a, axis, start - 1 if start > axis else start)


@composes(np.broadcast_arrays)
def _broadcast_arrays(*arrays: Array, subok: bool = False) -> tuple[Array, ...]:
    shape = np.broadcast_shapes(*map(np.shape, arrays))
    return tuple(np.broadcast_to(a, shape) for a in arrays)


@composes(np.meshgrid)
def _meshgrid(*xi: Array, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    n = len(xi)
    out = [np.reshape(x, (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        out = [np.swapaxes(x, 0, 1) for x in out]
    return tuple(out) if sparse else _broadcast_arrays(*out)


@composes(np.linspace)
def _linspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False,
              dtype: Any = None, axis: int = 0, **kw: Any) -> Any:  # fmt: skip
    count = num - 1 if endpoint else num
    step = (stop - start) / max(1, count)
    parts = np.reshape(np.arange(num, dtype=np.result_type(step.dtype)), (-1,) + (1,) * step.ndim)
    points = np.moveaxis(start + parts * step, 0, axis)
    points = points if dtype is None else points.astype(dtype)
    return (points, step if count > 0 else np.nan) if retstep else points


@composes(np.logspace)
def _logspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True, base: Array = 10.0, dtype: Any = None,
              axis: int = 0) -> Array:  # fmt: skip
    points = base ** _linspace(start, stop, num, endpoint, axis=axis)
    return points if dtype is None else points.astype(dtype)


@composes(np.geomspace)
def _geomspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
               ) -> Array:  # fmt: skip
    points = np.exp(_linspace(np.log(start), np.log(stop), num, endpoint, axis=axis))
    return points.astype(float if dtype is None else dtype)


@composes(np.take)
def _take(a: Array, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Array:
    refuse_output(out)
    if axis is None:
        a, axis = np.ravel(a), 0
    indices = np.asarray(value_of(indices))
    if mode != "raise":
        n = a.shape[axis]
        indices = indices % n if mode == "wrap" else np.clip(indices, 0, n - 1)
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


@composes(np.compress)
def _compress(condition: Any, a: Array, axis: int | None = None, out: Any = None) -> Array:
    return _take(a, np.flatnonzero(value_of(condition)), axis, out)


@composes(np.extract)
def _extract(condition: Any, arr: Array) -> Array:
    return np.ravel(arr)[np.flatnonzero(value_of(condition))]


@composes(np.sort)
def _sort(a: Array, axis: int | None = -1, kind: Any = None, **kw: Any) -> Array:
    if axis is None:
        a, axis = np.ravel(a), -1
    return np.take_along_axis(a, np.argsort(value_of(a), axis, kind="stable"), axis)


@composes(np.partition)
def _partition(a: Array, kth: Any, axis: int | None = -1, **kw: Any) -> Array:
    if axis is None:
        a, axis = np.ravel(a), -1
    return np.take_along_axis(a, np.argpartition(value_of(a), kth, axis), axis)


@composes(np.unique_values)
def _unique_values(x: Array) -> Array:
    return np.ravel(x)[np.unique(value_of(x), return_index=True)[1]]


@composes(np.unique_counts)
def _unique_counts(x: Array) -> Any:
    return np.unique_counts(value_of(x))._replace(values=_unique_values(x))


@composes(np.unique_inverse)
def _unique_inverse(x: Array) -> Any:
    return np.unique_inverse(value_of(x))._replace(values=_unique_values(x))


@composes(np.unique_all)
def _unique_all(x: Array) -> Any:
    return np.unique_all(value_of(x))._replace(values=_unique_values(x))


@composes(np.unique)
def _unique(ar: Array, *how: Any, **kw: Any) -> Array:
    if how or kw:
        raise NotDifferentiable("np.unique of a traced array: without options")
    return _unique_values(ar)


@composes(np.bincount)
def _bincount(x: Any, weights: Array = None, minlength: int = 0) -> Array:
    x = value_of(x)
    if type(weights) is not Traced:
        return np.bincount(x, value_of(weights), minlength)
    return d.scatter(weights.astype(float), x, (max(minlength, int(np.max(x, initial=-1)) + 1),))


@composes(np.pad)
def _pad(array: Array, pad_width: Any, mode: Any = "constant", **kw: Any) -> Array:
    a, width = array, pad_width
    if isinstance(width, dict):
        axes = {axis % a.ndim: w for axis, w in width.items()}
        width = [np.broadcast_to(axes.get(axis, 0), 2).tolist() for axis in range(a.ndim)]
    if mode == "constant":
        constant = kw.get("constant_values", 0)
        if type(constant) is Traced:
            hole = np.pad(np.zeros(a.shape, bool), width, constant_values=True)
            return np.where(hole, constant, d.pad_constant(a, width))
        return d.pad_constant(a, width, constant)
    if mode in ("edge", "reflect", "symmetric", "wrap") and kw.get("reflect_type", "even") == "even":
        return _moved(np.pad)(a, width, mode, **kw)
    raise NotDifferentiable(f"np.pad of a traced array: mode {mode!r} is not known; constant, edge, reflect, ... are")


def _moved(function: Any) -> Callable[..., Array]:
    """A function that moves elements, leaves some out, doubles some, or puts zeros: by their numbers."""
    first = next(iter(inspect.signature(function).parameters))

    def composed(*args: Any, **kw: Any) -> Array:
        if not args:
            args = (kw.pop(first),)
        a = args[0]
        return d.gather(a, function(np.arange(1, a.size + 1).reshape(a.shape), *args[1:], **kw))

    return composed


for _function in (
    np.diagonal, np.diag, np.diagflat, np.tril, np.triu, np.repeat, np.tile, np.rot90, np.fliplr, np.flipud, np.resize,
    np.delete, np.fft.fftshift, np.fft.ifftshift, linalg.diagonal,
):  # fmt: skip
    COMPOSITIONS[_function] = _moved(_function)


@composes(np.trim_zeros)
def _trim_zeros(filt: Array, trim: str = "fb", **kw: Any) -> Array:
    if filt.ndim != 1 or kw:
        raise NotDifferentiable("np.trim_zeros of a traced array: of vectors")
    (there,) = np.nonzero(value_of(filt))
    if not len(there):
        return filt[:0]
    return filt[there[0] if "f" in trim.lower() else 0 : there[-1] + 1 if "b" in trim.lower() else len(filt)]


@composes(np.take_along_axis)
def _take_along_axis(arr: Array, indices: Any, axis: int | None = -1) -> Array:
    return _take_by_numbers(arr, value_of(indices), axis)


_take_by_numbers = _moved(np.take_along_axis)


@composes(stride_tricks.sliding_window_view)
def _sliding_window_view(x: Array, window_shape: Any, axis: Any = None, **kw: Any) -> Array:
    return d.windows(x, window_shape, axis)
