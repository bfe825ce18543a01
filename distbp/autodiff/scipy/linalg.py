"""scipy.linalg: systems, factors, and functions of matrices.

Functions that read one triangle of a matrix, as `cholesky` does, have the derivative of what they compute: by the other
triangle it is 0. The derivative of a function of a matrix is the upper right block of the function of a block matrix
(Mathias 1996; Higham 2008, theorem 3.6),

    f([[A, E], [0, A]]) = [[f(A), L(A, E)], [0, f(A)]]

and the gradient is ``L(A^T, g)``.
"""

from functools import partial
from typing import Any

import numpy as np

from distbp.autodiff.linear_algebra import symmetric
from distbp.autodiff.scipy import front
from distbp.autodiff.scipy.special import double
from distbp.autodiff.shapes import array
from distbp.autodiff.tables import RULES, Array, NotDifferentiable, Rule
from distbp.autodiff.tracing import Traced, call

m: Any = None
"""The module scipy.linalg."""


def load(module: Any) -> None:
    """Give rules and fronts to the functions of the module."""
    global m
    m = module
    primitives: dict[Any, tuple[Rule | None, ...]] = {
        m.solve_triangular: (_triangular_a, _triangular_b),
        m.solve_banded: (None, _banded_ab, _banded_b),
        m.solve_sylvester: (_sylvester_a, _sylvester_b, _sylvester_q),
        m.sqrtm: (lambda g, ans, a, *how, **kw: m.solve_sylvester(ans.T, ans.T, g),),
    } | {f: (_by_block(f),) for f in (m.expm, m.logm, m.cosm, m.sinm, m.tanm, m.coshm, m.sinhm, m.tanhm)}
    for function, rules in primitives.items():
        RULES[function] = rules
        front(function, partial(_of_real, function))
    for function, traced in (
        (m.solve, solve), (m.cholesky, cholesky), (m.cho_factor, cho_factor), (m.cho_solve, cho_solve),
        (m.block_diag, block_diag), (m.toeplitz, toeplitz), (m.inv, inv), (m.det, det), (m.norm, norm), (m.pinv, pinv),
        (m.eigh, eigh), (m.eigvalsh, eigvalsh), (m.svd, svd), (m.svdvals, svdvals),
    ):  # fmt: skip
        front(function, traced)


def _of_real(function: Any, *args: Any, **kwargs: Any) -> Any:
    args = tuple(array(a) if type(a) is list else a for a in args)
    if any(np.ndim(a) > 2 for a in args if type(a) in (Traced, np.ndarray)):
        raise NotDifferentiable(f"scipy.linalg.{function.__name__} of a traced array: of one matrix at a time")
    found = call(function, args, kwargs)
    if type(found) is tuple:
        raise NotDifferentiable(f"scipy.linalg.{function.__name__} of a traced array: without the error")
    if found.dtype.kind == "c":
        raise NotDifferentiable(f"scipy.linalg.{function.__name__} of a traced array: the result is complex")
    return found


def _by_block(function: Any) -> Rule:
    def rule(g: Array, ans: Array, a: Array, *how: Any, **kw: Any) -> Array:
        if a.ndim > 2:
            raise NotDifferentiable(f"scipy.linalg.{function.__name__} of a traced array: of one matrix at a time")
        n, t = len(a), a.T
        return function(np.block([[t, g], [np.zeros((n, n), a.dtype), t]]))[:n, n:]

    return rule


# --- primitives: rules ----------------------------------------------------------------------------------


def _triangular_b(g: Array, ans: Array, a: Array, b: Array, trans: Any = 0, lower: bool = False,
                  unit_diagonal: bool = False, *how: Any, **kw: Any) -> Array:  # fmt: skip
    other = 1 if trans in (0, "N") else 0
    return m.solve_triangular(a, g, trans=other, lower=lower, unit_diagonal=unit_diagonal)


def _triangular_a(g: Array, ans: Array, a: Array, b: Array, trans: Any = 0, lower: bool = False,
                  unit_diagonal: bool = False, *how: Any, **kw: Any) -> Array:  # fmt: skip
    by_b, x = (z if z.ndim > 1 else z[:, None] for z in (_triangular_b(g, ans, a, b, trans, lower, unit_diagonal), ans))
    whole = -(np.matmul(by_b, x.T) if trans in (0, "N") else np.matmul(x, by_b.T))
    return np.tril(whole, -unit_diagonal) if lower else np.triu(whole, +unit_diagonal)


def _banded_b(g: Array, ans: Array, l_and_u: Any, ab: Array, b: Array, *how: Any, **kw: Any) -> Array:
    below, above = l_and_u
    # row `above - d` of the storage is diagonal d, A[j - d, j] in column j; of the transposed matrix it is A[j, j - d]
    back = np.stack([np.roll(ab[above - d], -d) for d in range(-below, above + 1)])  # what comes around is not read
    return m.solve_banded((above, below), back, g)


def _banded_ab(g: Array, ans: Array, l_and_u: Any, ab: Array, b: Array, *how: Any, **kw: Any) -> Array:
    below, above = l_and_u
    by_b, n = _banded_b(g, ans, l_and_u, ab, b), np.shape(ab)[1]
    rows = []
    for d in range(above, -below - 1, -1):  # of the diagonal A[j - d, j]
        i = np.arange(n) - d
        product = by_b[np.clip(i, 0, n - 1)] * ans
        product = np.sum(product, -1) if product.ndim > 1 else product
        rows.append(-product * ((i >= 0) & (i < n)))
    return np.stack(rows)


def _sylvester_q(g: Array, ans: Array, a: Array, b: Array, q: Array) -> Array:
    return m.solve_sylvester(a.T, b.T, g)


def _sylvester_a(g: Array, ans: Array, a: Array, b: Array, q: Array) -> Array:
    return -np.matmul(_sylvester_q(g, ans, a, b, q), ans.T)


def _sylvester_b(g: Array, ans: Array, a: Array, b: Array, q: Array) -> Array:
    return -np.matmul(ans.T, _sylvester_q(g, ans, a, b, q))


# --- in terms of others ---------------------------------------------------------------------------------


def solve(a: Array, b: Array, lower: bool = False, overwrite_a: bool = False, overwrite_b: bool = False,
          check_finite: bool = True, assume_a: str | None = None, transposed: bool = False) -> Array:  # fmt: skip
    """Solve ``a x = b``; of a matrix that is assumed to be symmetric one triangle is read."""
    a, b = (x if type(x) is Traced else array(x) for x in (a, b))
    if assume_a in ("sym", "symmetric", "her", "hermitian", "pos", "positive definite"):
        a = symmetric(a, lower)
    elif assume_a in ("lower triangular", "upper triangular"):
        return m.solve_triangular(a, b, trans=int(transposed), lower=assume_a == "lower triangular")
    elif assume_a == "diagonal":
        a = a * np.eye(a.shape[-1], dtype=a.dtype)
    elif assume_a not in (None, "gen", "general"):
        raise NotDifferentiable(
            f"scipy.linalg.solve of a traced array: assume_a={assume_a!r} is not known; leave it out"
        )
    return np.linalg.solve(a.mT if transposed else a, b)


def cholesky(a: Array, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """Return the Cholesky factor of the matrix that is meant by a triangle of `a`."""
    factor = np.linalg.cholesky(symmetric(a, lower))
    return factor if lower else factor.mT


def cho_factor(a: Array, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
               ) -> tuple[Array, bool]:  # fmt: skip
    """Return the factor, with zeros in the other triangle, for `cho_solve`."""
    return cholesky(a, lower), lower


def cho_solve(c_and_lower: tuple[Array, bool], b: Array, overwrite_b: bool = False, check_finite: bool = True) -> Array:
    """Solve by a Cholesky factor."""
    c, lower = c_and_lower
    half = m.solve_triangular(c, b, trans=int(not lower), lower=lower)
    return m.solve_triangular(c, half, trans=int(lower), lower=lower)


def block_diag(*arrays: Array) -> Array:
    """Return the matrix with these on its diagonal."""
    blocks = [np.atleast_2d(a) for a in arrays]
    if any(block.ndim > 2 for block in blocks):
        raise NotDifferentiable("scipy.linalg.block_diag of a traced array: of matrices, not of stacks of them")
    width, at, rows = sum(block.shape[1] for block in blocks), 0, []
    for block in blocks:
        rows.append(np.pad(block, ((0, 0), (at, width - at - block.shape[1]))))
        at += block.shape[1]
    return np.concatenate(rows)


def toeplitz(c: Array, r: Array = None) -> Array:
    """Return the matrix whose diagonals are constant: `c` down the first column, `r` along the first row."""
    r = c if r is None else r
    if np.ndim(c) > 1 or np.ndim(r) > 1:
        raise NotDifferentiable("scipy.linalg.toeplitz of a traced array: of one column and one row")
    c, r = np.atleast_1d(c), np.atleast_1d(r)
    values = np.concatenate([c[::-1], r[1:]])
    return values[np.size(c) - 1 - np.arange(np.size(c))[:, None] + np.arange(np.size(r))]


def inv(a: Array, overwrite_a: bool = False, check_finite: bool = True, *, assume_a: str | None = None,
        lower: bool = False) -> Array:  # fmt: skip
    """Return the inverse."""
    if assume_a is not None and a.ndim > 2:
        raise NotDifferentiable("scipy.linalg.inv of a traced array: assume_a= of one matrix at a time")
    return np.linalg.inv(a) if assume_a is None else solve(a, np.eye(len(a), dtype=a.dtype), lower, assume_a=assume_a)


def det(a: Array, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """Return the determinant."""
    return double(np.linalg.det(a))


def norm(a: Array, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True) -> Array:
    """Return a norm."""
    return np.linalg.norm(a, ord, axis, keepdims)


def pinv(
    a: Array, *, atol: Any = None, rtol: Any = None, return_rank: bool = False, check_finite: bool = True
) -> Array:
    """Return the pseudo-inverse of a matrix of full rank."""
    if atol is not None or rtol is not None or return_rank:
        raise NotDifferentiable("scipy.linalg.pinv of a traced array: without options")
    return np.linalg.pinv(a)


def eigh(a: Array, b: Any = None, *, lower: bool = True, eigvals_only: bool = False, overwrite_a: bool = False,
         overwrite_b: bool = False, type: int = 1, check_finite: bool = True, subset_by_index: Any = None,
         subset_by_value: Any = None, driver: Any = None) -> Any:  # fmt: skip
    """Return eigenvalues and eigenvectors."""
    if b is not None or subset_by_index is not None or subset_by_value is not None:
        raise NotDifferentiable("scipy.linalg.eigh of a traced array: of one matrix, all eigenvalues")
    w, v = np.linalg.eigh(a, UPLO="L" if lower else "U")
    return w if eigvals_only else (w, v)


def eigvalsh(a: Array, b: Any = None, *, lower: bool = True, **how: Any) -> Array:
    """Return eigenvalues."""
    return eigh(a, b, lower=lower, eigvals_only=True, **how)


def svd(a: Array, full_matrices: bool = True, compute_uv: Any = True, overwrite_a: bool = False,
        check_finite: bool = True, lapack_driver: str = "gesdd") -> Any:  # fmt: skip
    """Return singular values and vectors."""
    found = np.linalg.svd(a, full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


def svdvals(a: Array, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """Return singular values."""
    return np.linalg.svdvals(a)
