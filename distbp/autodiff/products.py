"""Products: of matrices, along labelled axes, outer ones, convolutions, polynomials."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import stride_tricks

from distbp.autodiff.indexing import pad_constant
from distbp.autodiff.tables import COMPOSITIONS, RULES, Array, NotDifferentiable, composes, defvjp, keep, refuse_out
from distbp.autodiff.tracing import Traced, primitive

__all__ = ["contract"]

linalg: Any = np.linalg
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
def _matmul_plan(a: str, b: str, out: str) -> tuple[Any, ...]:
    """Return how to compute a product of two operands with these labels as a batch of products of matrices."""
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
    """Compute ``np.einsum`` with explicit subscripts, by products of matrices where two operands allow it."""
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    if len(operands) == 2:
        (a, b), (x, y) = labels, operands
        kept = set(out)
        one_way = all(c in b or c in kept for c in a) and all(c in a or c in kept for c in b)
        sizes = dict(zip(a, x.shape, strict=True))
        same = all(sizes.get(c, n) == n for c, n in zip(b, y.shape, strict=True))
        if one_way and same and len(set(a)) == len(a) and len(set(b)) == len(b) and set(a) & set(b):
            n_batch, n_left, n_summed, order_x, order_y, order = _matmul_plan(a, b, out)
            x, y = x.transpose(order_x), y.transpose(order_y)
            batch, left = x.shape[:n_batch], x.shape[n_batch : n_batch + n_left]
            summed, right = y.shape[n_batch : n_batch + n_summed], y.shape[n_batch + n_summed :]
            k = int(np.prod(summed, dtype=int))
            if n_summed:
                x = x.reshape(*batch, int(np.prod(left, dtype=int)), k)
                y = y.reshape(*batch, k, int(np.prod(right, dtype=int)))
                return np.matmul(x, y).reshape(batch + left + right).transpose(order)
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


def _contract_vjp(k: int, g: Array, ans: Array, subscripts: str, *operands: Array) -> Array:
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


RULES[contract] = _contract_vjp
keep("others", np.matmul, contract)

# --- in terms of others -------------------------------------------------------------------------------


@composes(np.dot)
def _dot(a: Array, b: Array, out: Any = None) -> Array:
    refuse_out(out)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) <= 2 and np.ndim(a) <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, max(0, np.ndim(b) - 2)))


COMPOSITIONS[np.inner] = lambda a, b: a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else np.tensordot(a, b, (-1, -1))
COMPOSITIONS[np.vdot] = lambda a, b: np.sum(np.conj(np.reshape(a, -1)) * np.reshape(b, -1))
COMPOSITIONS[np.vecdot] = COMPOSITIONS[linalg.vecdot] = lambda a, b, /, *, axis=-1: np.sum(np.conj(a) * b, axis)
COMPOSITIONS[np.matvec] = lambda a, b: np.matmul(a, b[..., None])[..., 0]
COMPOSITIONS[np.vecmat] = lambda a, b: np.matmul(np.conj(a)[..., None, :], b)[..., 0, :]
COMPOSITIONS[linalg.matmul] = lambda a, b, /: np.matmul(a, b)


@composes(np.outer, linalg.outer)
def _outer(a: Array, b: Array, out: Any = None) -> Array:
    refuse_out(out)
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


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
    return contract(f"{''.join(labels_a)},{''.join(labels_b)}->{''.join(out)}", a, b)


@composes(np.kron)
def _kron(a: Array, b: Array) -> Array:
    n = max(np.ndim(a), np.ndim(b))
    a, b = (np.reshape(x, (1,) * (n - np.ndim(x)) + np.shape(x)) for x in (a, b))
    pairs = np.reshape(a, [k for m in a.shape for k in (m, 1)]) * np.reshape(b, [k for m in b.shape for k in (1, m)])
    return np.reshape(pairs, [m * k for m, k in zip(a.shape, b.shape, strict=True)])


@composes(np.cross, linalg.cross)
def _cross(a: Array, b: Array, *how: Any, axis: int | None = None, **kw: Any) -> Array:
    axis = -1 if axis is None else axis
    if how or kw or np.shape(a)[axis] != 3 or np.shape(b)[axis] != 3:
        raise NotDifferentiable("np.cross of a traced array: of vectors of 3, with axis= only")
    (a0, a1, a2), (b0, b1, b2) = ([np.take(x, i, axis) for i in range(3)] for x in (a, b))
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis)


@composes(np.einsum)
def _einsum(*operands: Any, out: Any = None, optimize: Any = False, **kw: Any) -> Array:
    refuse_out(out)
    subscripts, arrays = _explicit(operands)
    if len(arrays) > 2:  # from left to right, two at a time
        inputs, result = subscripts.split("->")
        labels, total, of = inputs.split(","), arrays[0], inputs.split(",")[0]
        for i, (theirs, array) in enumerate(zip(labels[1:], arrays[1:], strict=True), 1):
            later = set(result).union(*labels[i + 1 :])
            kept = result if i == len(arrays) - 1 else "".join(dict.fromkeys(c for c in of + theirs if c in later))
            total, of = contract(f"{of},{theirs}->{kept}", total, array), kept
        return total
    return contract(subscripts, *arrays)


def _explicit(operands: Any) -> tuple[str, list[Any]]:
    """Return the subscripts with an arrow, without dots and spaces, and the operands."""
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


@composes(np.convolve)
def _convolve(a: Array, v: Array, mode: str = "full") -> Array:
    return _sliding_products(v, a[::-1], mode) if len(v) > len(a) else _sliding_products(a, v[::-1], mode)


def _sliding_products(a: Array, v: Array, mode: str) -> Array:
    """Return the sum of the products of `v` with each window of `a`, which is no shorter."""
    n = len(v)
    full = np.sum(stride_tricks.sliding_window_view(pad_constant(a, n - 1), n) * v, -1)
    if mode == "full":
        return full
    cut = (n - 1) // 2 if mode == "same" else n - 1
    return full[cut : cut + (len(a) if mode == "same" else len(a) - n + 1)]


@composes(np.correlate)
def _correlate(a: Array, v: Array, mode: str = "valid") -> Array:
    if len(v) > len(a):
        return np.flip(np.conj(_correlate(v, a, mode)))
    return _sliding_products(a, np.conj(v), mode)


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
