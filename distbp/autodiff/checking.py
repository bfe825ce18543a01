"""Derivatives against differences, in random directions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.autodiff.reverse import vjp
from distbp.trees import Tree, leaves_of, like

__all__ = ["check_grads"]


def check_grads(
    f: Callable[..., Tree], *args: Tree, order: int = 2, eps: float = 1e-5, tol: float = 1e-5, seed: int = 0
) -> None:
    """Compare derivatives up to `order` with central differences in random directions.

    Parameters
    ----------
    f : callable
        Of trees of float64 arrays, to an array or a tree of arrays.
    *args
        Where.
    order : int
        1 checks derivatives, 2 derivatives of derivatives, ...
    eps : float
        Step of the differences.
    tol : float
        Largest relative error that passes.
    seed : int
        Of the directions.

    Raises
    ------
    AssertionError
        With the order, both numbers, and the argument and element that differ most.
    """
    rng = np.random.default_rng(seed)

    def direction(tree: Tree) -> Tree:
        return like(tree, (np.asarray(rng.standard_normal(np.shape(x)))[()] for _, x in leaves_of(tree)))

    def dot(a: Tree, b: Tree) -> float:
        return float(sum(np.sum(np.asarray(x) * y) for (_, x), (_, y) in zip(leaves_of(a), leaves_of(b), strict=True)))

    def moved(v: Tree, step: float) -> Tree:
        shifted = (np.asarray(x) + step * y for (_, x), (_, y) in zip(leaves_of(args), leaves_of(v), strict=True))
        return like(args, shifted)

    value, pull = vjp(f, *args)
    u, v = direction(value), direction(args)
    ours = dot(pull(u), v)
    numeric = (dot(f(*moved(v, eps)), u) - dot(f(*moved(v, -eps)), u)) / (2.0 * eps)
    error = abs(ours - numeric) / max(1.0, abs(ours), abs(numeric))
    if not error <= tol:
        raise AssertionError(
            f"a derivative of {getattr(f, '__name__', f)} is {ours:.10g} along a random direction, by differences"
            f" {numeric:.10g}: relative error {error:.1e}; {_worst(f, args, pull(u), u, eps, dot)}"
        )
    if order > 1:

        def slopes(*inner: Tree) -> Tree:
            return vjp(f, *inner)[1](u)

        slopes.__name__ = f"the derivative of {getattr(f, '__name__', f)}"
        check_grads(slopes, *args, order=order - 1, eps=eps, tol=tol, seed=seed + 1)


def _worst(f: Any, args: Any, grads: Any, u: Any, eps: float, dot: Any) -> str:
    """Describe where the gradient is farthest from differences by single elements, up to 1,000 of them."""
    worst, where, numbers = -1.0, "", (0.0, 0.0)
    leaves, count = leaves_of(args, "argument "), 0
    for i, ((path, x), (_, g)) in enumerate(zip(leaves, leaves_of(grads), strict=True)):
        for index in np.ndindex(np.shape(x)):
            count += 1
            if count > 1000:
                break
            values = []
            for step in (eps, -eps):
                shifted = [np.array(leaf) for _, leaf in leaves]
                shifted[i][index] += step
                values.append(dot(f(*like(args, iter([s[()] for s in shifted]))), u))
            numeric, ours = (values[0] - values[1]) / (2.0 * eps), float(np.asarray(g)[index])
            if abs(numeric - ours) > worst:
                worst, where, numbers = abs(numeric - ours), f"{path}{list(index) if index else ''}", (ours, numeric)
    return f"most at {where}: {numbers[0]:.10g}, by differences {numbers[1]:.10g}"
