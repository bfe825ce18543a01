"""Derivatives against differences, in random directions."""

from collections.abc import Callable
from itertools import islice

import numpy as np

from distbp.autodiff.reverse import vjp
from distbp.trees import Tree, leaves_of, like


def check_grads(
    f: Callable[..., Tree], *args: Tree, order: int = 2, eps: float = 1e-5, tol: float = 1e-5, seed: int = 0
) -> None:
    """Compare derivatives up to `order` with central differences in random directions, which `seed` draws.

    `f` takes trees of float64 arrays, `args`, and gives an array or a tree of arrays. Order 2 checks the derivatives of
    derivatives, too; `eps` is the step of the differences, `tol` the largest relative error that passes.

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

    def difference(v: Tree) -> float:
        pairs = list(zip(leaves_of(args), leaves_of(v), strict=True))
        above, below = (like(args, (np.asarray(x) + h * y for (_, x), (_, y) in pairs)) for h in (eps, -eps))
        return (dot(f(*above), u) - dot(f(*below), u)) / (2.0 * eps)

    value, pull = vjp(f, *args)
    u, v = direction(value), direction(args)
    ours, numeric = dot(pull(u), v), difference(v)
    error = abs(ours - numeric) / max(1.0, abs(ours), abs(numeric))
    name = getattr(f, "__name__", f)
    if not error <= tol:
        raise AssertionError(
            f"a derivative of {name} is {ours:.10g} along a random direction, by differences"
            f" {numeric:.10g}: relative error {error:.1e}; {_worst(args, pull(u), difference)}"
        )
    if order > 1:

        def slopes(*inner: Tree) -> Tree:
            return vjp(f, *inner)[1](u)

        slopes.__name__ = f"the derivative of {name}"
        check_grads(slopes, *args, order=order - 1, eps=eps, tol=tol, seed=seed + 1)


def _worst(args: Tree, grads: Tree, difference: Callable[[Tree], float]) -> str:
    """Describe where the gradient is farthest from differences by single elements, up to 1,000 of them."""
    leaves, slopes = leaves_of(args, "argument "), [np.asarray(g) for _, g in leaves_of(grads)]
    places = ((i, index) for i, g in enumerate(slopes) for index in np.ndindex(g.shape))
    worst, text = -1.0, ""
    for i, index in islice(places, 1000):
        unit = [np.zeros(g.shape) for g in slopes]
        unit[i][index] = 1.0
        numeric, ours = difference(like(args, iter(unit))), float(slopes[i][index])
        if abs(numeric - ours) > worst:
            worst = abs(numeric - ours)
            text = f"most at {leaves[i][0]}{list(index) or ''}: {ours:.10g}, by differences {numeric:.10g}"
    return text
