"""Derivatives of NumPy's primitives: one line a rule.

A rule says how the gradient of a result becomes that of an argument: ``rule(g, ans, *args)``, where `g` has the shape
of the result `ans`. Rules are written in functions that have rules themselves, so that gradients have gradients.
What an argument was broadcast over is summed by whoever calls the rule.

Conventions, where a function has no derivative:

    equal maxima, minima    share the gradient, in `maximum` as in `max` (HIPS autograd, PyTorch's amax)
    |x|, norms at 0         0
    clip at its bounds      1 (PyTorch)
    x**y                    by x at y = 0: 0; by y at x = 0: 0

Numbers between may be complex, as those of Fourier transforms are: the gradient of z = a + ib is then dC/da + i dC/db.
"""

import operator
from functools import lru_cache
from itertools import product
from math import log, pi
from typing import Any

import numpy as np

from distbp.autodiff.tracing import KEEPS, RULES, NotDifferentiable, Rule, Traced, identity, primitive

__all__ = ["COMPLEX", "add_at", "concatenate", "contract", "defvjp", "eigh_packed", "gather", "scatter", "svd_packed"]

Array = Any
"""Of NumPy, or traced."""


def defvjp(function: Any, *rules: Rule | None) -> None:
    """Give a function its rules, one for each argument; None for one that has no derivative."""
    RULES[function] = rules
    KEEPS.pop(function, None)  # other rules may ask for other values


def _keep(what: str, *functions: Any) -> None:
    KEEPS.update(dict.fromkeys(functions, what))


# --- element by element -------------------------------------------------------------------------------

defvjp(np.add, lambda g, ans, x, y: g, lambda g, ans, x, y: g)
defvjp(np.subtract, lambda g, ans, x, y: g, lambda g, ans, x, y: -g)
defvjp(
    np.multiply,
    lambda g, ans, x, y: g * (y if ans.dtype.kind == "f" else y.conjugate()),
    lambda g, ans, x, y: g * (x if ans.dtype.kind == "f" else x.conjugate()),
)
defvjp(
    np.divide,
    lambda g, ans, x, y: g / (y if ans.dtype.kind == "f" else y.conjugate()),
    lambda g, ans, x, y: -g * ans / y if ans.dtype.kind == "f" else -g * np.conj(ans / y),
)
defvjp(np.remainder, lambda g, ans, x, y: g, lambda g, ans, x, y: -g * np.floor_divide(x, y))
defvjp(np.fmod, lambda g, ans, x, y: g, lambda g, ans, x, y: -g * np.trunc(x / y))


def _power_x(g: Array, ans: Array, x: Array, y: Array) -> Array:
    if type(y) in (int, float):
        slope = 2.0 * x if y == 2 else y * x ** (y - 1.0) if y else 0.0 * x
    else:
        slope = y * x ** np.where(y == 0, 1.0, y - 1.0)
    return g * (slope if ans.dtype.kind == "f" else np.conj(slope))


def _power_y(g: Array, ans: Array, x: Array, y: Array) -> Array:
    slope = ans * (float(np.log(x or 1.0)) if type(x) in (int, float) else np.log(np.where(x == 0, 1.0, x)))
    return g * (slope if ans.dtype.kind == "f" else np.conj(slope))


defvjp(np.power, _power_x, _power_y)
defvjp(np.float_power, _power_x, _power_y)
defvjp(np.negative, lambda g, ans, x: -g)
defvjp(np.positive, lambda g, ans, x: g)
defvjp(np.absolute, lambda g, ans, x: g * np.sign(x))
defvjp(np.fabs, lambda g, ans, x: g * np.sign(x))
defvjp(np.conjugate, lambda g, ans, x: np.conj(g))
defvjp(np.reciprocal, lambda g, ans, x: -g * ans * ans)
defvjp(np.square, lambda g, ans, x: g * (2.0 * (x if ans.dtype.kind == "f" else np.conj(x))))
defvjp(np.sqrt, lambda g, ans, x: g * 0.5 / ans)
defvjp(np.cbrt, lambda g, ans, x: g / (3.0 * ans * ans))
defvjp(np.exp, lambda g, ans, x: g * (ans if ans.dtype.kind == "f" else np.conj(ans)))
defvjp(np.exp2, lambda g, ans, x: g * ans * log(2.0))
defvjp(np.expm1, lambda g, ans, x: g * (ans + 1.0))
defvjp(np.log, lambda g, ans, x: g / x)
defvjp(np.log2, lambda g, ans, x: g / (x * log(2.0)))
defvjp(np.log10, lambda g, ans, x: g / (x * log(10.0)))
defvjp(np.log1p, lambda g, ans, x: g / (1.0 + x))
defvjp(
    np.logaddexp,
    lambda g, ans, x, y: g * _exp_difference(np.exp, x, ans),
    lambda g, ans, x, y: g * _exp_difference(np.exp, y, ans),
)
defvjp(
    np.logaddexp2,
    lambda g, ans, x, y: g * _exp_difference(np.exp2, x, ans),
    lambda g, ans, x, y: g * _exp_difference(np.exp2, y, ans),
)


def _exp_difference(exp: Any, x: Array, ans: Array) -> Array:
    """exp(x - ans); 0 where both are -inf."""
    return exp(x - np.where(np.isneginf(ans), 0.0, ans)) if np.isneginf(ans).any() else exp(x - ans)


defvjp(np.sin, lambda g, ans, x: g * np.cos(x))
defvjp(np.cos, lambda g, ans, x: -g * np.sin(x))
defvjp(np.tan, lambda g, ans, x: g * (1.0 + ans * ans))
defvjp(np.arcsin, lambda g, ans, x: g / np.sqrt(1.0 - x * x))
defvjp(np.arccos, lambda g, ans, x: -g / np.sqrt(1.0 - x * x))
defvjp(np.arctan, lambda g, ans, x: g / (1.0 + x * x))
defvjp(np.sinh, lambda g, ans, x: g * np.cosh(x))
defvjp(np.cosh, lambda g, ans, x: g * np.sinh(x))
defvjp(np.tanh, lambda g, ans, x: g * (1.0 - ans * ans))
defvjp(np.arcsinh, lambda g, ans, x: g / np.sqrt(x * x + 1.0))
defvjp(np.arccosh, lambda g, ans, x: g / np.sqrt(x * x - 1.0))
defvjp(np.arctanh, lambda g, ans, x: g / (1.0 - x * x))
defvjp(np.arctan2, lambda g, ans, x, y: g * y / (x * x + y * y), lambda g, ans, x, y: -g * x / (x * x + y * y))
defvjp(np.hypot, lambda g, ans, x, y: g * x / _not_zero(ans), lambda g, ans, x, y: g * y / _not_zero(ans))
defvjp(np.deg2rad, lambda g, ans, x: g * (pi / 180.0))
defvjp(np.radians, lambda g, ans, x: g * (pi / 180.0))
defvjp(np.rad2deg, lambda g, ans, x: g * (180.0 / pi))
defvjp(np.degrees, lambda g, ans, x: g * (180.0 / pi))
defvjp(np.copysign, lambda g, ans, x, y: g * np.sign(x) * np.copysign(1.0, y), lambda g, ans, x, y: 0.0 * g)
defvjp(np.ldexp, lambda g, ans, x, n: np.ldexp(g, n), None)


def _not_zero(x: Array) -> Array:
    return np.where(x == 0, 1.0, x) if (x == 0).any() else x


def _larger(g: Array, x: Array, y: Array) -> Array:
    """G where x > y, half of it where they are equal; a number that is not one counts for both, which it makes so."""
    wins, tie = ~(y >= x), x == y
    return np.where(tie, 0.5 * g, g * wins) if tie.any() else g * wins


def _better(g: Array, x: Array, y: Array) -> Array:
    """The same for fmax, which passes over what is not a number."""
    wins, tie = (x > y) | (y != y), x == y
    return np.where(tie, 0.5 * g, g * wins) if tie.any() else g * wins


defvjp(np.maximum, lambda g, ans, x, y: _larger(g, x, y), lambda g, ans, x, y: _larger(g, y, x))
defvjp(np.minimum, lambda g, ans, x, y: _larger(g, y, x), lambda g, ans, x, y: _larger(g, x, y))
defvjp(np.fmax, lambda g, ans, x, y: _better(g, x, y), lambda g, ans, x, y: _better(g, y, x))
defvjp(np.fmin, lambda g, ans, x, y: _better(g, -x, -y), lambda g, ans, x, y: _better(g, -y, -x))
defvjp(np.where, None, lambda g, ans, c, x, y: np.where(c, g, 0.0), lambda g, ans, c, x, y: np.where(c, 0.0, g))
defvjp(np.real, lambda g, ans, x: g + 0j if x.dtype.kind == "c" else g)
defvjp(np.imag, lambda g, ans, x: g * 1j)
defvjp(np.nan_to_num, lambda g, ans, x, *how, **kw: g * np.isfinite(x))


@primitive
def absolute_complex(z: Array) -> Array:
    """|z| of complex numbers."""
    return np.abs(z)


defvjp(absolute_complex, lambda g, ans, z: g * z / _not_zero(ans))


# --- sums, products, maxima ---------------------------------------------------------------------------


def _spread(g: Array, x: Array, axis: Any, keepdims: bool = False) -> Array:
    """What belongs to a reduction of `x`, for each of its elements."""
    if axis is None:
        if type(g) is not Traced and not keepdims:
            return np.full(x.shape, g)
        return np.broadcast_to(np.reshape(g, (1,) * x.ndim), x.shape)
    if not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, x.shape)


def _sum(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
         keepdims: bool = False, initial: Any = 0, where: Any = True) -> Array:  # fmt: skip
    g = _spread(g, x, axis, keepdims)
    return g if where is True else g * where


def _mean(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
          keepdims: bool = False, *, where: Any = True) -> Array:  # fmt: skip
    if where is not True:
        count = np.sum(np.broadcast_to(where, x.shape), axis, x.dtype, keepdims=keepdims)
        return _spread(g / count, x, axis, keepdims) * where
    return _spread(g / (x.size / max(1, ans.size)), x, axis, keepdims)


def _extreme(g: Array, ans: Array, x: Array, axis: Any = None, out: None = None, keepdims: bool = False,
             initial: Any = None, where: Any = True) -> Array:  # fmt: skip
    best = (x == _spread(ans, x, axis, keepdims)) & where
    count = np.maximum(np.sum(best, axis, x.dtype, keepdims=keepdims), 1)
    return _spread(g / count, x, axis, keepdims) * best


def _prod(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None,
          keepdims: bool = False, initial: Any = 1, where: Any = True) -> Array:  # fmt: skip
    if where is not True:
        return _prod(g, ans, np.where(where, x, 1.0), axis, None, None, keepdims, initial) * where
    if (x != 0).all():
        return _spread(g * ans, x, axis, keepdims) / x
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    flat = np.transpose(x, rest + axes).reshape([x.shape[a] for a in rest] + [-1])
    others = initial * np.prod(np.where(np.eye(flat.shape[-1], dtype=bool), 1.0, flat[..., None, :]), -1)
    others = np.transpose(
        others.reshape([x.shape[a] for a in rest + axes]), [(rest + axes).index(a) for a in range(x.ndim)]
    )
    return _spread(g, x, axis, keepdims) * others


def _cumsum(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None) -> Array:
    if axis is None:
        return np.flip(np.cumsum(np.flip(g, 0), 0), 0).reshape(x.shape)
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


def _cumprod(g: Array, ans: Array, x: Array, axis: Any = None, dtype: Any = None, out: None = None) -> Array:
    if axis is None:
        return _cumprod(g, ans, x.reshape(-1), 0).reshape(x.shape)
    if (x != 0).all():
        return _cumsum(g * ans, ans, x, axis) / x
    x, g = np.moveaxis(x, axis, -1), np.moveaxis(g, axis, -1)
    k = np.arange(x.shape[-1])  # result k, by element i: the product of all others up to k
    taken = (k <= k[:, None])[:, None, :] & (k[:, None] != k)[None]  # [k, i, j]
    terms = np.prod(np.where(taken, x[..., None, None, :], 1.0), -1) * (k <= k[:, None])
    return np.moveaxis(np.sum(g[..., :, None] * terms, -2), -1, axis)


defvjp(np.sum, _sum)
defvjp(np.mean, _mean)
defvjp(np.prod, _prod)
defvjp(np.cumsum, _cumsum)
defvjp(np.cumprod, _cumprod)
for _function in (np.max, np.min, np.amax, np.amin):
    defvjp(_function, _extreme)


@primitive
def root_sum_squares(x: Array, axis: Any) -> Array:
    """The Euclidean norm along axes, whose derivative at 0 is 0; axes are kept."""
    return np.sqrt(np.sum(x * x, axis, keepdims=True))


defvjp(root_sum_squares, lambda g, ans, x, axis: g * x / _not_zero(ans), None)


# --- products -----------------------------------------------------------------------------------------


def _matmul_x(g: Array, ans: Array, x: Array, y: Array) -> Array:
    y = np.asarray(y) if type(y) is list else y
    if y.ndim == 1:
        return g * y if x.ndim == 1 else g[..., None] * y
    if x.ndim == 1:
        return np.matmul(y, g[..., None])[..., 0]
    return np.matmul(g, y.mT)


def _matmul_y(g: Array, ans: Array, x: Array, y: Array) -> Array:
    x = np.asarray(x) if type(x) is list else x
    if x.ndim == 1:
        return g * x if y.ndim == 1 else x[:, None] * g[..., None, :]
    if y.ndim == 1:
        return np.matmul(x.mT, g[..., None])[..., 0]
    if y.ndim == 2 and x.ndim > 2:  # one product instead of one for each matrix
        return np.matmul(x.reshape(-1, x.shape[-1]).T, g.reshape(-1, g.shape[-1]))
    return np.matmul(x.mT, g)


defvjp(np.matmul, _matmul_x, _matmul_y)


@lru_cache(maxsize=1024)
def _plan(a: str, b: str, out: str) -> tuple[Any, ...]:
    """How a product of two operands with these labels is one of matrices, or several side by side."""
    batch = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    left, right = ([c for c in labels if c in out and c not in other] for labels, other in ((a, b), (b, a)))
    first, second, result = batch + left + summed, batch + summed + right, batch + left + right
    return (
        len(batch), len(left), len(summed),
        tuple(a.index(c) for c in first), tuple(b.index(c) for c in second),
        tuple(result.index(c) for c in out),
    )  # fmt: skip


@primitive
def contract(subscripts: str, *operands: Array) -> Array:
    """``np.einsum`` with explicit subscripts, by products of matrices where two operands allow it."""
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    if len(operands) == 2:
        (a, b), (x, y) = labels, operands
        kept = set(out)
        one_way = all(c in b or c in kept for c in a) and all(c in a or c in kept for c in b)
        sizes = dict(zip(a, x.shape, strict=True))
        same = all(sizes.get(c, n) == n for c, n in zip(b, y.shape, strict=True))
        if one_way and same and len(set(a)) == len(a) and len(set(b)) == len(b) and set(a) & set(b):
            n_batch, n_left, n_summed, order_x, order_y, order = _plan(a, b, out)
            x, y = x.transpose(order_x), y.transpose(order_y)
            batch, left = x.shape[:n_batch], x.shape[n_batch : n_batch + n_left]
            summed, right = y.shape[n_batch : n_batch + n_summed], y.shape[n_batch + n_summed :]
            k = int(np.prod(summed, dtype=int))
            if n_summed:
                x = x.reshape(*batch, int(np.prod(left, dtype=int)), k)
                y = y.reshape(*batch, k, int(np.prod(right, dtype=int)))
                return np.matmul(x, y).reshape(batch + left + right).transpose(order)
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


def _contract(k: int, g: Array, ans: Array, subscripts: str, *operands: Array) -> Array:
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    mine, x = labels[k - 1], operands[k - 1]
    others = [(of, operand) for i, (of, operand) in enumerate(zip(labels, operands, strict=True)) if i != k - 1]
    known = set(out).union(*(of for of, _ in others))
    wanted = "".join(c for i, c in enumerate(mine) if c in known and c not in mine[:i])
    part = contract(",".join([out, *(of for of, _ in others)]) + "->" + wanted, g, *(operand for _, operand in others))
    if wanted == mine:  # sizes of 1 stretch
        return part if part.shape == x.shape else np.broadcast_to(part, np.broadcast_shapes(part.shape, x.shape))
    # labels that only this operand has were summed; one that it has twice picks a diagonal
    sizes = dict(zip(mine, x.shape, strict=True))
    first = "".join(dict.fromkeys(mine))
    part = part[tuple(slice(None) if c in wanted else None for c in first)]
    part = np.broadcast_to(part, np.broadcast_shapes(part.shape, tuple(sizes[c] for c in first)))
    for i, c in enumerate(mine):
        if c in mine[:i]:
            at = mine.index(c)
            part = np.expand_dims(part, i) * np.eye(sizes[c]).reshape(
                [sizes[c] if j in (at, i) else 1 for j in range(part.ndim + 1)]
            ).astype(x.dtype)
    return part


RULES[contract] = _contract


# --- places -------------------------------------------------------------------------------------------


def add_at(total: Array, index: Any, g: Array) -> None:
    """``total[index] += g``, also where the index names an element more than once."""
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
    """Zeros of that shape, to which `g` is added at `index`: what picking elements is the other way round."""
    total = np.zeros(shape, g.dtype)
    add_at(total, index, g)
    return total


defvjp(operator.getitem, lambda g, ans, x, index: scatter(g, index, x.shape), None)
defvjp(scatter, lambda g, ans, x, index, shape: g[index], None, None)


@primitive
def gather(x: Array, places: Any) -> Array:
    """Elements of `x`, seen as flat, at `places`, counted from 1; 0 gives 0. Any rearrangement is one."""
    flat = np.concatenate([np.zeros(1, x.dtype), x.reshape(-1)])
    return flat[places]


@primitive
def ungather(g: Array, places: Any, shape: tuple[int, ...]) -> Array:
    """`gather` the other way round: each element gets the sum of what came from it."""
    n = int(np.prod(shape, dtype=int)) + 1
    if g.dtype.kind == "c":
        return ungather(g.real, places, shape) + 1j * ungather(g.imag, places, shape)
    total = np.bincount(places.reshape(-1), weights=g.reshape(-1), minlength=n)
    return total[1:].reshape(shape).astype(g.dtype)


defvjp(gather, lambda g, ans, x, places: ungather(g, places, x.shape), None)
defvjp(ungather, lambda g, ans, x, places, shape: gather(g, places), None, None)


@primitive
def concatenate(axis: int, *arrays: Array) -> Array:
    """``np.concatenate``, the axis first."""
    return np.concatenate(arrays, axis)


def _concatenate(k: int, g: Array, ans: Array, axis: int, *arrays: Array) -> Array:
    start = sum(array.shape[axis] for array in arrays[: k - 1])
    index: list[Any] = [slice(None)] * ans.ndim
    index[axis] = slice(start, start + arrays[k - 1].shape[axis])
    return g[tuple(index)]


RULES[concatenate] = _concatenate


@primitive
def stack(axis: int, *arrays: Array) -> Array:
    """``np.stack``, the axis first."""
    return np.stack(arrays, axis)


def _stack(k: int, g: Array, ans: Array, axis: int, *arrays: Array) -> Array:
    return g[(slice(None),) * (axis % ans.ndim) + (k - 1,)]


RULES[stack] = _stack

defvjp(np.reshape, lambda g, ans, x, shape=None, order="C", **kw: np.reshape(g, x.shape, _known(order)))
defvjp(np.expand_dims, lambda g, ans, x, axis: np.reshape(g, x.shape))
defvjp(np.squeeze, lambda g, ans, x, axis=None: np.reshape(g, x.shape))
defvjp(np.broadcast_to, lambda g, ans, x, *how, **kw: g)
defvjp(np.transpose, lambda g, ans, x, axes=None: np.transpose(g, None if axes is None else _inverse(axes, g.ndim)))
defvjp(np.swapaxes, lambda g, ans, x, i, j: np.swapaxes(g, i, j))
defvjp(np.moveaxis, lambda g, ans, x, source, destination: np.moveaxis(g, destination, source))
defvjp(np.flip, lambda g, ans, x, axis=None: np.flip(g, axis))
defvjp(np.roll, lambda g, ans, x, shift, axis=None: np.roll(g, np.negative(shift), axis))


def _known(order: str) -> Any:
    if order == "A":
        raise NotDifferentiable("np.reshape of a traced array: order='A' depends on how it lies in memory; C or F")
    return order


def _inverse(axes: Any, ndim: int) -> Any:
    return np.argsort([a % ndim for a in axes])


def _pad(g: Array, ans: Array, x: Array, width: Any, value: Any = 0) -> Array:
    before = np.broadcast_to(width, (x.ndim, 2))[:, 0]
    return g[tuple(slice(int(b), int(b) + n) for b, n in zip(before, x.shape, strict=True))]


@primitive
def pad_constant(x: Array, width: Any, value: Any = 0) -> Array:
    """``np.pad`` with a number."""
    return np.pad(x, width, constant_values=value)


defvjp(pad_constant, _pad, None, None)


@primitive
def windows(x: Array, shape: Any, axis: Any) -> Array:
    """``np.lib.stride_tricks.sliding_window_view``."""
    return np.lib.stride_tricks.sliding_window_view(x, shape, axis)


@primitive
def overlap_add(g: Array, shape: Any, axis: Any, of: tuple[int, ...]) -> Array:
    """The sum of windows at their places in an array of shape `of`: `windows` the other way round."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    axes = tuple(range(len(of))) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    total = np.zeros(of, g.dtype)
    for offset in product(*map(range, sizes)):
        index = [slice(0, n) for n in g.shape[: len(of)]]
        at = [0] * len(of)
        for a, o in zip(axes, offset, strict=True):
            at[a] += o
        place = tuple(slice(o, o + s.stop) for o, s in zip(at, index, strict=True))
        total[place] += g[(..., *offset)]
    return total


defvjp(windows, lambda g, ans, x, shape, axis: overlap_add(g, shape, axis, x.shape), None, None)
defvjp(overlap_add, lambda g, ans, x, shape, axis, of: windows(g, shape, axis), None, None, None)


# --- linear algebra (Giles 2008; Murray 2016 for Cholesky; Townsend 2016 for the singular vectors) ------


def _solve_a(g: Array, ans: Array, a: Array, b: Array) -> Array:
    gb = _solve_b(g, ans, a, b)
    return -gb[..., None] * ans[..., None, :] if b.ndim == 1 else -np.matmul(gb, ans.mT)


def _solve_b(g: Array, ans: Array, a: Array, b: Array) -> Array:
    return np.linalg.solve(a.mT, g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a.mT, g)


def _symmetric(x: Array) -> Array:
    return 0.5 * (x + x.mT)


def _cholesky(g: Array, ans: Array, a: Array, *, upper: bool = False) -> Array:
    if upper:
        return _cholesky(g.mT, ans.mT, a)
    inner = np.matmul(ans.mT, g)
    inner = np.tril(inner) * (1.0 - 0.5 * np.eye(a.shape[-1], dtype=a.dtype))
    half = np.linalg.solve(ans.mT, inner)
    return _symmetric(np.linalg.solve(ans.mT, half.mT).mT)


defvjp(np.linalg.inv, lambda g, ans, a: -np.matmul(np.matmul(ans.mT, g), ans.mT))
defvjp(np.linalg.det, lambda g, ans, a: (g * ans)[..., None, None] * np.linalg.inv(a).mT)
defvjp(np.linalg.solve, _solve_a, _solve_b)
defvjp(np.linalg.cholesky, _cholesky)


@primitive
def log_determinant(a: Array) -> Array:
    """Log |det a|."""
    return np.linalg.slogdet(a)[1]


defvjp(log_determinant, lambda g, ans, a: g[..., None, None] * np.linalg.inv(a).mT)


@primitive
def eigh_packed(a: Array, part: Any = "L") -> Array:
    """Eigenvalues, as the first row, above the eigenvectors of symmetric matrices."""
    w, v = np.linalg.eigh(a, part)
    return np.concatenate([w[..., None, :], v], -2)


def _eigh(g: Array, ans: Array, a: Array, part: str = "L") -> Array:
    w, v, gw, gv = ans[..., 0, :], ans[..., 1:, :], g[..., :1, :], g[..., 1:, :]
    eye = np.eye(a.shape[-1], dtype=a.dtype)
    inner = gw * eye
    if type(gv) is Traced or gv.any():
        inner = inner + np.matmul(v.mT, gv) * _over(w[..., None, :] - w[..., :, None], eye)
    return _symmetric(np.matmul(np.matmul(v, inner), v.mT))


def _over(x: Array, eye: Array) -> Array:
    """1 / x, and 0 on the diagonal."""
    return (1.0 - eye) / (x + eye)


defvjp(eigh_packed, _eigh, None)


@primitive
def svd_packed(a: Array) -> Array:
    """U above the singular values, as a row, above V, of matrices with at least as many rows as columns."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return np.concatenate([u, s[..., None, :], np.swapaxes(vt, -1, -2)], -2)


def _svd(g: Array, ans: Array, a: Array) -> Array:
    m, k = a.shape[-2:]
    u, s, v = ans[..., :m, :], ans[..., m, :], ans[..., m + 1 :, :]
    gu, gs, gv = g[..., :m, :], g[..., m : m + 1, :], g[..., m + 1 :, :]
    eye = np.eye(k, dtype=a.dtype)
    inner, rest = gs * eye, 0.0
    if type(g) is Traced or gu.any() or gv.any():
        square = s[..., None, :] ** 2 - s[..., :, None] ** 2
        over, row = _over(square, eye), s[..., None, :]
        u_part, v_part = np.matmul(u.mT, gu), np.matmul(v.mT, gv)
        inner = inner + over * (u_part - u_part.mT) * row + s[..., :, None] * (over * (v_part - v_part.mT))
        if m > k:
            rest = np.matmul((gu - np.matmul(u, u_part)) / row, v.mT)
    return np.matmul(np.matmul(u, inner), v.mT) + rest


defvjp(svd_packed, _svd)


# --- Fourier transforms: F is symmetric, so what goes back is conj(F conj(g)) ---------------------------

defvjp(np.fft.fft, lambda g, ans, x, n=None, axis=-1, norm=None: np.conj(np.fft.fft(np.conj(g), n, axis, norm)))
defvjp(np.fft.ifft, lambda g, ans, x, n=None, axis=-1, norm=None: np.conj(np.fft.ifft(np.conj(g), n, axis, norm)))

COMPLEX = {
    np.add, np.subtract, np.multiply, np.divide, np.power, np.square, np.exp, np.negative, np.positive, np.conjugate,
    np.sum, np.mean, np.cumsum, np.reshape, np.expand_dims, np.squeeze, np.broadcast_to, np.transpose, np.swapaxes,
    np.moveaxis, np.flip, np.roll, np.where, np.fft.fft, np.fft.ifft, operator.getitem, scatter, gather, ungather,
    concatenate, stack, pad_constant, windows, overlap_add, absolute_complex, identity,
}  # fmt: skip
"""What may give complex numbers."""

# --- what rules ask for ---------------------------------------------------------------------------------

_keep(
    "shapes", np.add, np.subtract, np.negative, np.positive, np.conjugate, np.deg2rad, np.radians, np.rad2deg,
    np.degrees, np.ldexp, np.where, np.real, np.imag, np.sum, np.mean, np.cumsum, operator.getitem, scatter, gather,
    ungather, concatenate, stack, np.reshape, np.expand_dims, np.squeeze, np.broadcast_to, np.transpose, np.swapaxes,
    np.moveaxis, np.flip, np.roll, pad_constant, windows, overlap_add, np.fft.fft, np.fft.ifft,
)  # fmt: skip
_keep(
    "result", np.reciprocal, np.sqrt, np.cbrt, np.exp, np.exp2, np.expm1, np.tan, np.tanh, np.linalg.inv,
    np.linalg.cholesky, eigh_packed, svd_packed,
)  # fmt: skip
_keep(
    "arguments", np.absolute, np.fabs, np.square, np.log, np.log2, np.log10, np.log1p, np.sin, np.cos, np.arcsin,
    np.arccos, np.arctan, np.sinh, np.cosh, np.arcsinh, np.arccosh, np.arctanh, np.arctan2, np.maximum, np.minimum,
    np.fmax, np.fmin, np.remainder, np.fmod, np.copysign, np.nan_to_num, log_determinant,
)  # fmt: skip
_keep("others", np.multiply, np.matmul, contract)
_keep("divisor", np.divide)
