"""Linear algebra: inverses, decompositions, norms (Giles 2008; Murray 2016 for Cholesky; Townsend 2016 for the SVD)."""

from functools import reduce
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff.elementwise import nonzero_or_one
from distbp.autodiff.reductions import axes_of, root_sum_squares
from distbp.autodiff.tables import COMPOSITIONS, METHODS, Array, NotDifferentiable, composes, defvjp, keep, refuse_out
from distbp.autodiff.tracing import Traced, primitive, value_of


def _solve_a(g: Array, ans: Array, a: Array, b: Array) -> Array:
    gb = _solve_b(g, ans, a, b)
    return -gb[..., None] * ans[..., None, :] if b.ndim == 1 else -np.matmul(gb, ans.mT)


def _solve_b(g: Array, ans: Array, a: Array, b: Array) -> Array:
    return np.linalg.solve(a.mT, g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a.mT, g)


def _cofactors(det: Array, a: Array) -> Array:
    """Return ``det a^-T``, which also singular matrices have: by their singular values (Giles 2008, 2.2.3)."""
    if (value_of(det) != 0).all():
        return det[..., None, None] * np.linalg.inv(a).mT
    u, s, vt = np.linalg.svd(a)
    others = np.prod(np.where(np.eye(s.shape[-1], dtype=bool), 1.0, s[..., None, :]), -1)
    sign = np.linalg.det(value_of(u)) * np.linalg.det(value_of(vt))
    return sign[..., None, None] * np.matmul(u * others[..., None, :], vt)


def _symmetrized(x: Array) -> Array:
    return 0.5 * (x + x.mT)


def _cholesky_vjp(g: Array, ans: Array, a: Array, *, upper: bool = False) -> Array:
    if upper:
        return _cholesky_vjp(g.mT, ans.mT, a)
    inner = np.matmul(ans.mT, g)
    inner = np.tril(inner) * (1.0 - 0.5 * np.eye(a.shape[-1], dtype=a.dtype))
    half = np.linalg.solve(ans.mT, inner)
    return _symmetrized(np.linalg.solve(ans.mT, half.mT).mT)


defvjp(np.linalg.inv, lambda g, ans, a: -np.matmul(np.matmul(ans.mT, g), ans.mT))
defvjp(np.linalg.det, lambda g, ans, a: g[..., None, None] * _cofactors(ans, a))
defvjp(np.linalg.solve, _solve_a, _solve_b)
defvjp(np.linalg.cholesky, _cholesky_vjp)


@primitive
def log_determinant(a: Array) -> Array:
    """Return log |det a|."""
    return np.linalg.slogdet(a)[1]


defvjp(log_determinant, lambda g, ans, a: g[..., None, None] * np.linalg.inv(a).mT)


def symmetric(a: Array, lower: bool = True) -> Array:
    """Return the symmetric matrix that is meant by one of its triangles."""
    half = np.tril(a) if lower else np.triu(a).mT
    return half + np.tril(half, -1).mT


@primitive
def eigh_packed(a: Array, part: Any = "L") -> Array:
    """Return the eigenvalues of symmetric matrices, as the first row, above their eigenvectors."""
    w, v = np.linalg.eigh(a, part)
    return np.concatenate([w[..., None, :], v], -2)


def _eigh_vjp(g: Array, ans: Array, a: Array, part: str = "L") -> Array:
    w, v, gw, gv = ans[..., 0, :], ans[..., 1:, :], g[..., :1, :], g[..., 1:, :]
    eye = np.eye(a.shape[-1], dtype=a.dtype)
    inner = gw * eye
    if type(gv) is Traced or gv.any():
        inner = inner + np.matmul(v.mT, gv) * _reciprocal_off_diagonal(w[..., None, :] - w[..., :, None], eye)
    return _symmetrized(np.matmul(np.matmul(v, inner), v.mT))


def _reciprocal_off_diagonal(x: Array, eye: Array) -> Array:
    """Return 1 / x, and 0 on the diagonal."""
    return (1.0 - eye) / (x + eye)


defvjp(eigh_packed, _eigh_vjp, None)


@primitive
def svd_packed(a: Array) -> Array:
    """Return U above the singular values, as a row, above V."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return np.concatenate([u, s[..., None, :], np.swapaxes(vt, -1, -2)], -2)


def _svd_vjp(g: Array, ans: Array, a: Array) -> Array:
    m, n = a.shape[-2:]
    u, s, v = ans[..., :m, :], ans[..., m, :], ans[..., m + 1 :, :]
    gu, gs, gv = g[..., :m, :], g[..., m : m + 1, :], g[..., m + 1 :, :]
    eye = np.eye(min(m, n), dtype=a.dtype)
    inner, rest = gs * eye, 0.0
    if type(g) is Traced or gu.any() or gv.any():
        square = s[..., None, :] ** 2 - s[..., :, None] ** 2
        over, row = _reciprocal_off_diagonal(square, eye), s[..., None, :]
        u_part, v_part = np.matmul(u.mT, gu), np.matmul(v.mT, gv)
        inner = inner + over * (u_part - u_part.mT) * row + s[..., :, None] * (over * (v_part - v_part.mT))
        if m > n:
            rest = np.matmul((gu - np.matmul(u, u_part)) / row, v.mT)
        elif m < n:
            rest = np.matmul(u, ((gv - np.matmul(v, v_part)) / row).mT)
    return np.matmul(np.matmul(u, inner), v.mT) + rest


defvjp(svd_packed, _svd_vjp)
keep("result", np.linalg.inv, np.linalg.cholesky, eigh_packed, svd_packed)
keep("arguments", log_determinant)

# --- in terms of others -------------------------------------------------------------------------------


@composes(np.linalg.norm)
def _norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    x = np.abs(x) if x.dtype.kind == "c" and ord not in (2, -2, "nuc") else x
    axes = axes_of(x, axis)
    if len(axes) == 1 or (axis is None and ord is None):
        return _vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    norm = _matrix_norm(x, ord, *axes)
    return norm if keepdims else np.squeeze(norm, axes)


@composes(np.linalg.vector_norm)
def _vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    axes, size = axes_of(x, axis), x if ord in (None, 2) and x.dtype.kind != "c" else np.abs(x)
    if ord is None or ord == 2:
        norm = root_sum_squares(size, axes)
    elif ord == 0:
        norm = np.sum(size != 0, axes, keepdims=True).astype(size.dtype)
    elif ord == 1:
        norm = np.sum(size, axes, keepdims=True)
    elif abs(ord) == np.inf:
        norm = (np.max if ord > 0 else np.min)(size, axes, keepdims=True)
    else:
        total = np.sum(size**ord, axes, keepdims=True)
        norm = np.where(total == 0, 0.0, nonzero_or_one(total) ** (1.0 / ord))
    return norm if keepdims else np.squeeze(norm, axes)


def _matrix_norm(x: Array, ord: Any, row: int, column: int) -> Array:
    if ord in (None, "fro"):
        return root_sum_squares(x, (row, column))
    if ord in (1, -1, np.inf, -np.inf):
        along, across = (row, column) if abs(ord) == 1 else (column, row)
        return (np.max if ord > 0 else np.min)(np.sum(np.abs(x), along, keepdims=True), across, keepdims=True)
    values = np.linalg.svdvals(np.moveaxis(x, (row, column), (-2, -1)))
    of: Any = {"nuc": np.sum, 2: np.max, -2: np.min}.get(ord)
    if of is None:
        raise ValueError(f"np.linalg.norm: {ord!r} is no order of a norm of matrices")
    return np.expand_dims(of(values, -1), tuple(sorted((row, column))))


@composes(np.linalg.eigh)
def _eigh(a: Array, UPLO: str = "L") -> Any:
    packed = eigh_packed(symmetric(a, UPLO in "lL"), UPLO)
    return type(np.linalg.eigh(np.eye(1)))(packed[..., 0, :], packed[..., 1:, :])


@composes(np.linalg.svd)
def _svd(a: Array, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    m, n = a.shape[-2:]
    if compute_uv and full_matrices and m != n:
        raise NotDifferentiable("np.linalg.svd of a traced array: with full_matrices=False")
    packed = svd_packed(a)
    s = packed[..., m, :]
    return type(np.linalg.svd(np.eye(1)))(packed[..., :m, :], s, packed[..., m + 1 :, :].mT) if compute_uv else s


@composes(np.linalg.pinv)
def _pinv(a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Array:
    values = np.linalg.svd(value_of(a), compute_uv=False)
    if a.size and (values[..., -1] <= 1e-15 * values[..., 0] * max(a.shape[-2:])).any():
        raise NotDifferentiable(
            "np.linalg.pinv of a traced array that has not full rank: its derivative does not exist"
        )
    t = a.mT
    return np.linalg.solve(t @ a, t) if a.shape[-2] >= a.shape[-1] else np.linalg.solve(a @ t, a).mT


@composes(np.linalg.matrix_power)
def _matrix_power(a: Array, n: int) -> Array:
    if n < 0:
        return _matrix_power(np.linalg.inv(a), -n)
    if n < 2:
        return a if n else np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    square = _matrix_power(np.matmul(a, a), n // 2)
    return np.matmul(square, a) if n % 2 else square


@composes(np.linalg.cond)
def _cond(x: Array, p: Any = None) -> Array:
    if p in (None, 2, -2):
        s = np.linalg.svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return _norm(x, p, (-2, -1)) * _norm(np.linalg.inv(x), p, (-2, -1))


@composes(np.linalg.multi_dot)
def _multi_dot(arrays: Any, *, out: Any = None) -> Array:
    refuse_out(out)
    return reduce(np.matmul, arrays)


@composes(np.linalg.tensorsolve)
def _tensorsolve(a: Array, b: Array, axes: Any = None) -> Array:
    if axes is not None:
        raise NotDifferentiable("np.linalg.tensorsolve of a traced array: without axes")
    n = np.size(b)
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.reshape(b, -1)), np.shape(a)[np.ndim(b) :])


COMPOSITIONS[np.linalg.trace] = lambda a, /, *, offset=0, dtype=None: np.sum(np.diagonal(a, offset, -2, -1), -1, dtype)
COMPOSITIONS[np.linalg.matrix_norm] = lambda x, /, *, keepdims=False, ord="fro": _norm(x, ord, (-2, -1), keepdims)
METHODS[np.hypot, "reduce"] = lambda x, axis=0, keepdims=False: _vector_norm(x, axis=axis, keepdims=keepdims)
COMPOSITIONS |= {
    np.trace: lambda a, offset=0, axis1=0, axis2=1, dtype=None, out=None: np.sum(
        np.diagonal(a, offset, axis1, axis2), -1, dtype, out=out
    ),
    np.linalg.slogdet: lambda a: np.linalg.slogdet(value_of(a))._replace(logabsdet=log_determinant(a)),
    np.linalg.eigvalsh: lambda a, UPLO="L": _eigh(a, UPLO)[0],
    np.linalg.svdvals: lambda x: _svd(x, compute_uv=False),
    np.linalg.tensorinv: lambda a, ind=2: np.reshape(
        np.linalg.inv(np.reshape(a, (-1, prod(a.shape[ind:])))), a.shape[ind:] + a.shape[:ind]
    ),
}
