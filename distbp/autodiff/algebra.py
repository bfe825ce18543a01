"""Products of arrays, and linear algebra, in terms of primitives."""

from typing import Any

import numpy as np
from numpy.lib import stride_tricks

from distbp.autodiff import derivatives as d
from distbp.autodiff.tracing import COMPOSITIONS, METHODS, NotDifferentiable, Traced, composes, refuse_output, value_of

__all__: list[str] = []

Array = Any
linalg: Any = np.linalg
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# --- products -----------------------------------------------------------------------------------------


@composes(np.dot)
def _dot(a: Array, b: Array, out: Any = None) -> Array:
    refuse_output(out)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) <= 2 and np.ndim(a) <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, max(0, np.ndim(b) - 2)))


@composes(np.inner)
def _inner(a: Array, b: Array) -> Array:
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else np.tensordot(a, b, (-1, -1))


@composes(np.outer, linalg.outer)
def _outer(a: Array, b: Array, out: Any = None) -> Array:
    refuse_output(out)
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@composes(np.vdot)
def _vdot(a: Array, b: Array) -> Array:
    return np.sum(np.conj(np.reshape(a, -1)) * np.reshape(b, -1))


@composes(np.vecdot, linalg.vecdot)
def _vecdot(a: Array, b: Array, /, *, axis: int = -1) -> Array:
    return np.sum(np.conj(a) * b, axis)


@composes(np.matvec)
def _matvec(a: Array, b: Array) -> Array:
    return np.matmul(a, b[..., None])[..., 0]


@composes(np.vecmat)
def _vecmat(a: Array, b: Array) -> Array:
    return np.matmul(np.conj(a)[..., None, :], b)[..., 0, :]


@composes(linalg.matmul)
def _matmul(a: Array, b: Array, /) -> Array:
    return np.matmul(a, b)


@composes(np.tensordot, linalg.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    if isinstance(axes, int):
        axes = list(range(np.ndim(a) - axes, np.ndim(a))), list(range(axes))
    of_a, of_b = ([int(i) % x.ndim for i in np.atleast_1d(which)] for x, which in zip((a, b), axes, strict=True))
    rest_a, rest_b = [i for i in range(a.ndim) if i not in of_a], [i for i in range(b.ndim) if i not in of_b]
    labels_a, labels_b = list(_LETTERS[: a.ndim]), list(_LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(of_a, of_b, strict=True):
        labels_b[j] = labels_a[i]
    out = [labels_a[i] for i in rest_a] + [labels_b[i] for i in rest_b]
    return d.contract(f"{''.join(labels_a)},{''.join(labels_b)}->{''.join(out)}", a, b)


@composes(np.kron)
def _kron(a: Array, b: Array) -> Array:
    n = max(np.ndim(a), np.ndim(b))
    a, b = (np.reshape(x, (1,) * (n - np.ndim(x)) + np.shape(x)) for x in (a, b))
    pairs = np.reshape(a, [k for m in a.shape for k in (m, 1)]) * np.reshape(b, [k for m in b.shape for k in (1, m)])
    return np.reshape(pairs, [m * k for m, k in zip(a.shape, b.shape, strict=True)])


@composes(np.cross, linalg.cross)
def _cross(a: Array, b: Array, *how: Any, axis: int | None = None, **kw: Any) -> Array:
    if how or kw or np.shape(a)[-1 if axis is None else axis] != 3 or np.shape(b)[-1 if axis is None else axis] != 3:
        raise NotDifferentiable("np.cross of a traced array: of vectors of 3, with axis= only")
    axis = -1 if axis is None else axis
    (a0, a1, a2), (b0, b1, b2) = ([np.take(x, i, axis) for i in range(3)] for x in (a, b))
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis)


@composes(np.einsum)
def _einsum(*operands: Any, out: Any = None, optimize: Any = False, **kw: Any) -> Array:
    refuse_output(out)
    subscripts, arrays = _explicit(operands)
    if len(arrays) > 2:  # from left to right, two at a time
        inputs, result = subscripts.split("->")
        labels, total, of = inputs.split(","), arrays[0], inputs.split(",")[0]
        for i, (theirs, array) in enumerate(zip(labels[1:], arrays[1:], strict=True), 1):
            later = set(result).union(*labels[i + 1 :])
            keep = result if i == len(arrays) - 1 else "".join(dict.fromkeys(c for c in of + theirs if c in later))
            total, of = d.contract(f"{of},{theirs}->{keep}", total, array), keep
        return total
    return d.contract(subscripts, *arrays)


def _explicit(operands: Any) -> tuple[str, list[Any]]:
    """Subscripts with an arrow, without dots and spaces, and the operands."""
    if not isinstance(operands[0], str):  # operand, labels, operand, labels, ..., labels of the result
        arrays, lists = list(operands[0 : len(operands) // 2 * 2 : 2]), list(operands[1::2])

        def text(labels: Any) -> str:
            return "".join("..." if c is Ellipsis else _LETTERS[c] for c in labels)

        subscripts = ",".join(map(text, lists)) + ("->" + text(operands[-1]) if len(operands) % 2 else "")
    else:
        subscripts, arrays = operands[0].replace(" ", ""), list(operands[1:])
    inputs, arrow, result = subscripts.partition("->")
    labels = inputs.split(",")
    if len(labels) != len(arrays):
        raise ValueError(f"np.einsum: {len(labels)} subscripts for {len(arrays)} operands")
    free = [c for c in reversed(_LETTERS) if c not in inputs]
    dots = [np.ndim(x) - len(of.replace("...", "")) for of, x in zip(labels, arrays, strict=True) if "..." in of]
    longest = "".join(free[: max(dots, default=0)])
    labels = [
        of.replace("...", longest[len(longest) - (np.ndim(x) - len(of.replace("...", ""))) :])
        for of, x in zip(labels, arrays, strict=True)
    ]
    if arrow:
        result = result.replace("...", longest)
    else:
        once = [c for c in sorted(set("".join(labels)) - set(longest)) if inputs.count(c) == 1]
        result = longest + "".join(once)
    return ",".join(labels) + "->" + result, arrays


@composes(np.trace)
def _trace(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Array:
    refuse_output(out)
    return np.sum(np.diagonal(a, offset, axis1, axis2), -1, dtype)


@composes(linalg.trace)
def _linalg_trace(a: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    return np.sum(np.diagonal(a, offset, -2, -1), -1, dtype)


@composes(np.convolve)
def _convolve(a: Array, v: Array, mode: str = "full") -> Array:
    return _slid(v, a[::-1], mode) if len(v) > len(a) else _slid(a, v[::-1], mode)


def _slid(a: Array, v: Array, mode: str) -> Array:
    """Sums of the products of `v` with each window of `a`, which is no shorter."""
    n = len(v)
    full = np.sum(stride_tricks.sliding_window_view(d.pad_constant(a, n - 1), n) * v, -1)
    if mode == "full":
        return full
    cut = (n - 1) // 2 if mode == "same" else n - 1
    return full[cut : cut + (len(a) if mode == "same" else len(a) - n + 1)]


@composes(np.correlate)
def _correlate(a: Array, v: Array, mode: str = "valid") -> Array:
    if len(v) > len(a):
        return np.flip(np.conj(_correlate(v, a, mode)))
    return _slid(a, np.conj(v), mode)


@composes(np.polyval)
def _polyval(p: Array, x: Array) -> Array:
    x = x if type(x) is Traced else np.asarray(x)
    y = 0.0 * x
    for k in range(len(p)):
        y = y * x + p[k]
    return y


@composes(np.vander)
def _vander(x: Array, N: int | None = None, increasing: bool = False) -> Array:
    x, powers = x.astype(np.promote_types(x.dtype, int)), range(len(x) if N is None else N)
    return np.stack([x**k for k in (powers if increasing else reversed(powers))], -1)


# --- linear algebra -----------------------------------------------------------------------------------


def _norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """``np.linalg.norm``."""
    x = np.abs(x) if x.dtype.kind == "c" and ord not in (2, -2, "nuc") else x
    if axis is None and (ord is None or x.ndim == 1):
        flat = _norm(np.ravel(x), ord, 0, True)
        return np.reshape(flat, (1,) * x.ndim if keepdims else ())
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    out = _vector_norm(x, ord, axes[0]) if len(axes) == 1 else _matrix_norm(x, ord, *axes)
    return out if keepdims else np.squeeze(out, axes)


def _vector_norm(x: Array, ord: Any, axis: int) -> Array:
    if ord is None or ord == 2:
        return d.root_sum_squares(x, axis)
    size = np.abs(x)
    if ord == np.inf:
        return np.max(size, axis, keepdims=True)
    if ord == -np.inf:
        return np.min(size, axis, keepdims=True)
    if ord == 0:
        return np.sum(x != 0, axis, keepdims=True).astype(x.dtype)
    if ord == 1:
        return np.sum(size, axis, keepdims=True)
    total = np.sum(size**ord, axis, keepdims=True)
    return np.where(total == 0, 0.0, np.where(total == 0, 1.0, total) ** (1.0 / ord))


def _matrix_norm(x: Array, ord: Any, row: int, column: int) -> Array:
    if ord in (None, "fro"):
        return d.root_sum_squares(x, (row, column))
    if ord in (1, -1, np.inf, -np.inf):
        along, across = (row, column) if abs(ord) == 1 else (column, row)
        return (np.max if ord > 0 else np.min)(np.sum(np.abs(x), along, keepdims=True), across, keepdims=True)
    values = linalg.svdvals(np.moveaxis(x, (row, column), (-2, -1)))
    of: Any = {"nuc": np.sum, 2: np.max, -2: np.min}.get(ord)
    if of is None:
        raise ValueError(f"np.linalg.norm: {ord!r} is no order of a norm of matrices")
    return np.expand_dims(of(values, -1), tuple(sorted((row, column))))


METHODS[np.hypot, "reduce"] = lambda x, axis=0, keepdims=False: _norm(x, None, axis, keepdims)
COMPOSITIONS[linalg.norm] = _norm
COMPOSITIONS[linalg.matrix_norm] = lambda x, /, *, keepdims=False, ord="fro": _norm(x, ord, (-2, -1), keepdims)


@composes(linalg.vector_norm)
def _norm_of_vectors(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    axes = tuple(range(x.ndim)) if axis is None else tuple(int(a) % x.ndim for a in np.atleast_1d(axis))
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = np.reshape(np.transpose(x, [*rest, *axes]), [x.shape[i] for i in rest] + [-1])
    norm = _norm(flat, ord, -1)
    return np.expand_dims(norm, axes) if keepdims else norm


@composes(linalg.slogdet)
def _slogdet(a: Array) -> Any:
    sign, _ = plain = np.linalg.slogdet(value_of(a))
    return type(plain)(sign, d.log_determinant(a))


@composes(linalg.eigh)
def _eigh(a: Array, UPLO: str = "L") -> Any:
    packed = d.eigh_packed(a, UPLO)
    return type(linalg.eigh(np.eye(1)))(packed[..., 0, :], packed[..., 1:, :])


COMPOSITIONS[linalg.eigvalsh] = lambda a, UPLO="L": _eigh(a, UPLO)[0]


@composes(linalg.svd)
def _svd(a: Array, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    m, n = a.shape[-2:]
    if compute_uv and full_matrices and m != n:
        raise NotDifferentiable("np.linalg.svd of a traced array: with full_matrices=False")
    packed = d.svd_packed(a if m >= n else a.mT)
    tall = max(m, n)
    u, s, v = packed[..., :tall, :], packed[..., tall, :], packed[..., tall + 1 :, :]
    if not compute_uv:
        return s
    return type(linalg.svd(np.eye(1)))(*((u, s, v.mT) if m >= n else (v, s, u.mT)))


COMPOSITIONS[linalg.svdvals] = lambda x, /: _svd(x, compute_uv=False)


@composes(linalg.pinv)
def _pinv(a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Array:
    values = np.linalg.svd(value_of(a), compute_uv=False)
    if a.size and (values[..., -1] <= 1e-15 * values[..., 0] * max(a.shape[-2:])).any():
        raise NotDifferentiable(
            "np.linalg.pinv of a traced array that has not full rank: its derivative does not exist"
        )
    t = a.mT
    return np.linalg.solve(t @ a, t) if a.shape[-2] >= a.shape[-1] else np.linalg.solve(a @ t, a).mT


@composes(linalg.matrix_power)
def _matrix_power(a: Array, n: int) -> Array:
    if n < 0:
        a, n = np.linalg.inv(a), -n
    result = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    while n:
        if n & 1:
            result = np.matmul(result, a)
        a, n = np.matmul(a, a) if n > 1 else a, n >> 1
    return result


@composes(linalg.cond)
def _cond(x: Array, p: Any = None) -> Array:
    if p in (None, 2, -2):
        s = linalg.svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return _norm(x, p, (-2, -1)) * _norm(np.linalg.inv(x), p, (-2, -1))


@composes(linalg.multi_dot)
def _multi_dot(arrays: Any, *, out: Any = None) -> Array:
    refuse_output(out)
    total = arrays[0]
    for a in arrays[1:]:
        total = np.matmul(total, a)
    return total


@composes(linalg.tensorinv)
def _tensorinv(a: Array, ind: int = 2) -> Array:
    n = int(np.prod(a.shape[ind:]))
    return np.reshape(np.linalg.inv(np.reshape(a, (-1, n))), a.shape[ind:] + a.shape[:ind])


@composes(linalg.tensorsolve)
def _tensorsolve(a: Array, b: Array, axes: Any = None) -> Array:
    if axes is not None:
        raise NotDifferentiable("np.linalg.tensorsolve of a traced array: without axes")
    n = int(np.prod(np.shape(b), dtype=int))
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.reshape(b, -1)), np.shape(a)[np.ndim(b) :])
