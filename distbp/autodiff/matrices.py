"""Jacobian matrices, and products with Hessian matrices, from the derivatives of `reverse`."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff.reverse import grad, vjp
from distbp.autodiff.tables import Array, NotDifferentiable
from distbp.trees import Tree, leaves_of


def jacobian(f: Callable[..., Array], argnum: int = 0) -> Callable[..., Array]:
    """Return all derivatives of an array by an array, as a function: a pull for each row.

    The shape is that of the value, then that of the argument.
    """

    def matrix(*args: Any, **kwargs: Any) -> Any:
        k = range(len(args))[argnum]
        value, pull = vjp(lambda x: f(*args[:k], x, *args[k + 1 :], **kwargs), args[k])
        if any(isinstance(tree, (tuple, list, dict)) for tree in (value, args[k])):
            raise NotDifferentiable("jacobian wants a function of one array whose value is one array: vjp, grad")
        shape, inner = np.shape(value), np.shape(args[k])
        n = prod(shape)
        rows = [pull(row)[0] for row in np.eye(n, dtype=value.dtype).reshape(n, *shape)]
        return np.reshape(np.stack(rows), shape + inner) if rows else np.zeros(shape + inner)

    return matrix


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
