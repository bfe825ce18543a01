"""Matrices of derivatives, and products with them, from the derivatives of `reverse`."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff.reverse import grad, vjp
from distbp.autodiff.tables import Array, NotDifferentiable
from distbp.autodiff.tracing import value_of
from distbp.trees import Tree, leaves_of, like

_TALL = 4
"""How many times as many values as arguments make columns cheaper than rows."""


def jvp(f: Callable[..., Tree], args: tuple[Tree, ...], tangents: tuple[Tree, ...]) -> tuple[Tree, Tree]:
    """Return the value of ``f(*args)``, and how it changes when the arguments move along `tangents`.

    A pull is linear in the gradient that it is given, and its own pull is the product with the Jacobian matrix: the
    forward mode as two reverse ones (Townsend 2017, "A new trick for calculating Jacobian vector products").

    Parameters
    ----------
    f : callable
        Of trees of float arrays; it gives an array or a tree of arrays.
    args, tangents : tuple of tree
        Its arguments, and a direction like them.

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = jvp(np.sin, (0.0,), (2.0,))
    >>> float(value), float(slope)
    (0.0, 2.0)
    """
    value, pull = vjp(f, *args)
    values = [np.asarray(value_of(x)) for _, x in leaves_of(value)]
    if any(x.dtype.kind != "f" for x in values):
        return value, like(value, (np.zeros(x.shape)[()] for x in values))  # whole numbers move in steps
    zeros = like(value, (np.zeros(x.shape, x.dtype)[()] for x in values))
    _, push = vjp(pull, zeros)
    return value, push(tuple(tangents))[0]


def jacobian(f: Callable[..., Array], argnum: int = 0) -> Callable[..., Array]:
    """Return all derivatives of an array by an array, as a function: row by row, or column by column where it is tall.

    The shape is that of the value, then that of the argument.
    """

    def matrix(*args: Any, **kwargs: Any) -> Any:
        k = range(len(args))[argnum]
        value, pull = vjp(lambda x: f(*args[:k], x, *args[k + 1 :], **kwargs), args[k])
        if any(isinstance(tree, (tuple, list, dict)) for tree in (value, args[k])):
            raise NotDifferentiable("jacobian wants a function of one array whose value is one array: vjp, grad")
        shape, inner = np.shape(value), np.shape(args[k])
        n, m = prod(shape), prod(inner)
        if not n * m:
            return np.zeros(shape + inner)
        if n > _TALL * m:
            _, push = vjp(pull, np.zeros(shape, value.dtype))
            columns = [push((unit,))[0] for unit in np.eye(m, dtype=value.dtype).reshape(m, *inner)]
            return np.reshape(np.stack(columns, -1), shape + inner)
        rows = [pull(row)[0] for row in np.eye(n, dtype=value.dtype).reshape(n, *shape)]
        return np.reshape(np.stack(rows), shape + inner)

    return matrix


def hessian(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Array]:
    """Return the second derivatives of a function whose value is one number by an array, as a function."""
    return jacobian(grad(f, argnum), argnum)


def hessian_vector_product(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Tree]:
    """Return a function of the arguments of `f` and, behind them, a direction v: the Hessian matrix times v.

    It needs no matrix: it is the gradient of ``<grad f(x), v>`` (Pearlmutter 1994).
    """

    def product(*args: Any, **kwargs: Any) -> Tree:
        *args_of_f, direction = args

        def along(*inner: Any) -> Any:
            slopes = leaves_of(grad(f, argnum)(*inner, **kwargs))
            return sum(np.sum(g * v) for (_, g), (_, v) in zip(slopes, leaves_of(direction), strict=True))

        return grad(along, argnum)(*args_of_f)

    return product
