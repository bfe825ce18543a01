"""Functions that pick, move or pad elements: indexing, sorting, windows.

One that only moves elements is called once on their numbers, from 1, and the elements are picked by what it gives: one
rule serves them all.
"""

import inspect
import operator
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from distbp.autodiff.tables import COMPOSITIONS, Array, NotDifferentiable, composes, defvjp, linear, refuse_out
from distbp.autodiff.tracing import Traced, primitive, record, value_of


def add_at(total: Array, index: Any, g: Array) -> None:
    """Compute ``total[index] += g``, also where the index names an element more than once."""
    parts = index if type(index) is tuple else (index,)
    if not any(isinstance(i, (list, np.ndarray)) and np.asarray(i).dtype.kind in "iu" for i in parts):
        total[index] += g
    elif type(index) is not tuple and isinstance(index, np.ndarray) and total.size > 0 and index.size > 0:
        rows = index.reshape(-1) % len(total)  # sorted, equal rows lie side by side
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        g = np.ascontiguousarray(g).reshape(len(rows), *total.shape[1:])
        total[rows[starts]] += np.add.reduceat(g[order], starts, axis=0)
    else:
        np.add.at(total, index, g)


@primitive
def scatter(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Add `g` at `index` to zeros of that shape: the transpose of picking elements."""
    total = np.zeros(shape, g.dtype)
    add_at(total, index, g)
    return total


defvjp(operator.getitem, lambda g, ans, x, index: scatter(g, index, x.shape), None)
defvjp(scatter, lambda g, ans, x, index, shape: g[index], None, None)


@primitive
def gather(x: Array, places: Any) -> Array:
    """Pick the elements of `x`, seen as flat, at `places`, counted from 1; 0 gives 0. Any rearrangement does."""
    flat = np.concatenate([np.zeros(1, x.dtype), x.reshape(-1)])
    return flat[places]


@primitive
def ungather(g: Array, places: Any, shape: tuple[int, ...]) -> Array:
    """Sum for each element what came from it: the transpose of `gather`."""
    if g.dtype.kind == "c":
        return ungather(g.real, places, shape) + 1j * ungather(g.imag, places, shape)
    total = np.bincount(places.reshape(-1), weights=g.reshape(-1), minlength=prod(shape) + 1)
    return total[1:].reshape(shape).astype(g.dtype)


defvjp(gather, lambda g, ans, x, places: ungather(g, places, x.shape), None)
defvjp(ungather, lambda g, ans, x, places, shape: gather(g, places), None, None)


def _pad_vjp(g: Array, ans: Array, x: Array, width: Any, **constant: Any) -> Array:
    before = np.broadcast_to(width, (x.ndim, 2))[:, 0]
    return g[tuple(slice(int(b), int(b) + n) for b, n in zip(before, x.shape, strict=True))]


@primitive
def overlap_add(g: Array, shape: Any, axis: Any, of: tuple[int, ...]) -> Array:
    """Sum windows at their places in an array of shape `of`: the transpose of `sliding_window_view`."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    axes = tuple(range(len(of))) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    total = np.zeros(of, g.dtype)
    for offset in product(*map(range, sizes)):
        start = [0] * len(of)
        for a, o in zip(axes, offset, strict=True):
            start[a] += o
        place = tuple(slice(o, o + n) for o, n in zip(start, g.shape[: len(of)], strict=True))
        total[place] += g[(..., *offset)]
    return total


defvjp(np.pad, _pad_vjp, None)
defvjp(
    sliding_window_view,
    lambda g, ans, x, window_shape, axis=None, **kw: overlap_add(g, window_shape, axis, x.shape),
)
defvjp(overlap_add, lambda g, ans, x, shape, axis, of: sliding_window_view(g, shape, axis), None, None, None)

linear(operator.getitem, scatter, gather, ungather, np.pad, sliding_window_view, overlap_add)

# --- in terms of others -------------------------------------------------------------------------------


@composes(np.take)
def _take(a: Array, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Array:
    refuse_out(out)
    if axis is None:
        a, axis = np.ravel(a), 0
    indices = np.asarray(value_of(indices))
    if mode != "raise":
        n = a.shape[axis]
        indices = indices % n if mode == "wrap" else np.clip(indices, 0, n - 1)
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


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


@composes(np.unique)
def _unique(ar: Array, *how: Any, **kw: Any) -> Array:
    if how or kw:
        raise NotDifferentiable("np.unique of a traced array: without options")
    return _unique_values(ar)


COMPOSITIONS |= {
    np.compress: lambda condition, a, axis=None, out=None: _take(a, np.flatnonzero(value_of(condition)), axis, out),
    np.extract: lambda condition, arr: np.ravel(arr)[np.flatnonzero(value_of(condition))],
    np.unique_all: lambda x: np.unique_all(value_of(x))._replace(values=_unique_values(x)),
    np.unique_counts: lambda x: np.unique_counts(value_of(x))._replace(values=_unique_values(x)),
    np.unique_inverse: lambda x: np.unique_inverse(value_of(x))._replace(values=_unique_values(x)),
}


@composes(np.bincount)
def _bincount(x: Any, weights: Array = None, minlength: int = 0) -> Array:
    x = value_of(x)
    if type(weights) is not Traced:
        return np.bincount(x, value_of(weights), minlength)
    return scatter(weights.astype(float), x, (max(minlength, int(np.max(x, initial=-1)) + 1),))


def _as_gather(function: Any) -> Any:
    """Compose a function that moves, drops or repeats elements, or puts zeros, by what it does to their numbers."""
    name = next(iter(inspect.signature(function).parameters))

    def composed(*args: Any, **kw: Any) -> Array:
        a, *how = args or (kw.pop(name),)
        return gather(a, function(np.arange(1, a.size + 1).reshape(a.shape), *how, **kw))

    return composed


_pad_by_gathering = _as_gather(np.pad)


@composes(np.pad)
def _pad(array: Array, pad_width: Any, mode: Any = "constant", **kw: Any) -> Array:
    if isinstance(pad_width, dict):
        axes = {axis % array.ndim: w for axis, w in pad_width.items()}
        pad_width = [np.broadcast_to(axes.get(axis, 0), 2).tolist() for axis in range(array.ndim)]
    if mode == "constant":
        constant = kw.get("constant_values", 0)
        if type(constant) is Traced:
            hole = np.pad(np.zeros(array.shape, bool), pad_width, constant_values=True)
            return np.where(hole, constant, record(np.pad, (array, pad_width)))
        return record(np.pad, (array, pad_width), {"constant_values": constant})
    if mode in ("edge", "reflect", "symmetric", "wrap") and kw.get("reflect_type", "even") == "even":
        return _pad_by_gathering(array, pad_width, mode, **kw)
    raise NotDifferentiable(f"np.pad of a traced array: mode {mode!r} is not known; constant, edge, reflect, ... are")


for _function in (
    np.diagonal, np.diag, np.diagflat, np.tril, np.triu, np.repeat, np.tile, np.rot90, np.fliplr, np.flipud, np.resize,
    np.delete, np.fft.fftshift, np.fft.ifftshift, np.linalg.diagonal,
):  # fmt: skip
    COMPOSITIONS[_function] = _as_gather(_function)
_gather_along_axis = _as_gather(np.take_along_axis)
COMPOSITIONS[np.take_along_axis] = lambda arr, indices, axis=-1: _gather_along_axis(arr, value_of(indices), axis)


@composes(np.trim_zeros)
def _trim_zeros(filt: Array, trim: str = "fb", **kw: Any) -> Array:
    if filt.ndim != 1 or kw:
        raise NotDifferentiable("np.trim_zeros of a traced array: of vectors")
    (nonzero,) = np.nonzero(value_of(filt))
    if not len(nonzero):
        return filt[:0]
    return filt[nonzero[0] if "f" in trim.lower() else 0 : nonzero[-1] + 1 if "b" in trim.lower() else len(filt)]
