"""Products: of matrices, along labelled axes, outer ones, convolutions, polynomials."""

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff.tables import COMPLEX, COMPOSITIONS, RULES, Array, NotDifferentiable, composes, keep, refuse_out
from distbp.autodiff.tracing import Traced, primitive, record

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


@lru_cache(maxsize=1024)
def _matmul_plan(a: str, b: str, out: str) -> tuple[Any, ...] | None:
    """Return how a product of operands with these labels is a batch of products of matrices; None where it is not."""
    summed = [c for c in a if c in b and c not in out]
    if not summed or (set(a) ^ set(b)) - set(out) or len(set(a)) < len(a) or len(set(b)) < len(b):
        return None
    batch = [c for c in out if c in a and c in b]
    left, right = [c for c in a if c not in b], [c for c in b if c not in a]
    orders = ((a, batch + left + summed), (b, batch + summed + right), (batch + left + right, out))
    return len(batch), len(left), *([labels.index(c) for c in order] for labels, order in orders)


@primitive
def contract(subscripts: str, *operands: Array) -> Array:
    """Compute ``np.einsum`` of one or two operands, with explicit subscripts, by products of matrices if it is one."""
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    if len(operands) == 2 and (plan := _matmul_plan(*labels, out)):
        (a, b), (x, y) = labels, operands
        sizes = dict(zip(a, x.shape, strict=True))
        if all(sizes.get(c, n) == n for c, n in zip(b, y.shape, strict=True)):
            n_batch, n_left, order_x, order_y, order = plan
            x, y = x.transpose(order_x), y.transpose(order_y)
            batch, left, summed = x.shape[:n_batch], x.shape[n_batch : n_batch + n_left], x.shape[n_batch + n_left :]
            right = y.shape[n_batch + len(summed) :]
            x, y = x.reshape(*batch, prod(left), prod(summed)), y.reshape(*batch, prod(summed), prod(right))
            return np.matmul(x, y).reshape(batch + left + right).transpose(order)
    return np.einsum(subscripts, *operands)


def _contract_vjp(k: int, g: Array, ans: Array, subscripts: str, *operands: Array) -> Array:
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    mine, x, others = labels.pop(k - 1), operands[k - 1], operands[: k - 1] + operands[k:]
    known = set(out).union(*labels)
    wanted = "".join(c for i, c in enumerate(mine) if c in known and c not in mine[:i])
    part = contract(",".join([out, *labels]) + "->" + wanted, g, *others)
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


RULES[np.matmul] = _matmul_x, _matmul_y
RULES[contract] = _contract_vjp
RULES[np.convolve] = (
    lambda g, ans, a, v: np.correlate(g, v, "valid"),
    lambda g, ans, a, v: np.correlate(g, a, "valid"),
)
keep("others", np.matmul, contract, np.convolve)
COMPLEX.add(np.convolve)

# --- in terms of others -------------------------------------------------------------------------------


@composes(np.dot)
def _dot(a: Array, b: Array, out: Any = None) -> Array:
    refuse_out(out)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) <= 2 and np.ndim(a) <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, max(0, np.ndim(b) - 2)))


COMPOSITIONS |= {
    np.inner: lambda a, b: a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else np.tensordot(a, b, (-1, -1)),
    np.vdot: lambda a, b: np.sum(np.conj(np.reshape(a, -1)) * np.reshape(b, -1)),
    np.matvec: lambda a, b: np.matmul(a, b[..., None])[..., 0],
    np.vecmat: lambda a, b: np.matmul(np.conj(a)[..., None, :], b)[..., 0, :],
    np.linalg.matmul: lambda a, b: np.matmul(a, b),
}
COMPOSITIONS[np.vecdot] = COMPOSITIONS[np.linalg.vecdot] = lambda a, b, /, *, axis=-1: np.sum(np.conj(a) * b, axis)


@composes(np.outer, np.linalg.outer)
def _outer(a: Array, b: Array, out: Any = None) -> Array:
    refuse_out(out)
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@composes(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    if isinstance(axes, int):
        axes = list(range(np.ndim(a) - axes, np.ndim(a))), list(range(axes))
    of_a, of_b = ([int(i) % x.ndim for i in np.atleast_1d(which)] for x, which in zip((a, b), axes, strict=True))
    labels_a, labels_b = _LETTERS[: a.ndim], list(_LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(of_a, of_b, strict=True):
        labels_b[j] = labels_a[i]
    out = [c for c in labels_a if c not in labels_b] + [c for c in labels_b if c not in labels_a]
    return contract(f"{labels_a},{''.join(labels_b)}->{''.join(out)}", a, b)


@composes(np.kron)
def _kron(a: Array, b: Array) -> Array:
    n = max(np.ndim(a), np.ndim(b))
    a, b = (np.reshape(x, (1,) * (n - np.ndim(x)) + np.shape(x)) for x in (a, b))
    pairs = np.reshape(a, [k for m in a.shape for k in (m, 1)]) * np.reshape(b, [k for m in b.shape for k in (1, m)])
    return np.reshape(pairs, [m * k for m, k in zip(a.shape, b.shape, strict=True)])


@composes(np.cross, np.linalg.cross)
def _cross(a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Array:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    if np.shape(a)[axisa] != 3 or np.shape(b)[axisb] != 3:
        raise NotDifferentiable("np.cross of a traced array: of vectors of 3")
    (a0, a1, a2), (b0, b1, b2) = ([np.take(x, i, k) for i in range(3)] for x, k in ((a, axisa), (b, axisb)))
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axisc)


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
    if isinstance(operands[0], str):
        subscripts, *arrays = operands
    else:  # operand, labels, operand, labels, ..., labels of the result

        def text(labels: Any) -> str:
            return "".join("..." if c is Ellipsis else _LETTERS[c] for c in labels)

        subscripts = ",".join(map(text, operands[1::2])) + ("->" + text(operands[-1]) if len(operands) % 2 else "")
        arrays = list(operands[:-1:2])
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    labels = inputs.split(",")
    if len(labels) != len(arrays):
        raise ValueError(f"np.einsum: {len(labels)} subscripts for {len(arrays)} operands")
    free = [c for c in reversed(_LETTERS) if c not in inputs]
    hidden = [np.ndim(x) - len(of) + 3 if "..." in of else 0 for of, x in zip(labels, arrays, strict=True)]
    dots = "".join(free[: max(hidden)])
    labels = [of.replace("...", dots[len(dots) - n :]) for of, n in zip(labels, hidden, strict=True)]
    if not arrow:
        result = "..." + "".join(c for c in sorted(set(inputs) - set(",.")) if inputs.count(c) == 1)
    return ",".join(labels) + "->" + result.replace("...", dots), arrays


@composes(np.convolve)
def _convolve(a: Array, v: Array, mode: str = "full") -> Array:
    full = record(np.convolve, (a, v))
    less, more = sorted((len(a), len(v)))
    if mode == "full":
        return full
    return full[less - 1 : more] if mode == "valid" else full[(less - 1) // 2 :][:more]


@composes(np.correlate)
def _correlate(a: Array, v: Array, mode: str = "valid") -> Array:
    if len(v) > len(a):
        return np.flip(np.conj(_correlate(v, a, mode)))
    return _convolve(a, np.conj(v)[::-1], mode)


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
