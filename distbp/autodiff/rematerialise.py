"""Less memory for more time: what a function computed on the way is computed again on the way back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.autodiff.reverse import vjp
from distbp.autodiff.shapes import taken_apart
from distbp.autodiff.tables import Array, NotDifferentiable, defvjp, keep
from distbp.autodiff.tracing import Traced, record
from distbp.trees import Tree, leaves_of, like


def checkpoint(f: Callable[..., Tree]) -> Callable[..., Tree]:
    """Return a function like `f` that keeps its arguments and its value, and nothing in between, for the way back.

    There it is called again. A chain of n steps in about sqrt(n) such pieces keeps about 2 sqrt(n) values in place of
    n, for one more evaluation (Griewank & Walther 2008, chapter 12; Chen et al. 2016).

    Parameters
    ----------
    f : callable
        Of trees; derivatives are taken by what is among its positional arguments, not by what it uses beside them.

    Examples
    --------
    >>> import numpy as np
    >>> from distbp.autodiff import grad
    >>> float(grad(checkpoint(lambda x: np.exp(np.sin(x))))(0.0))
    1.0
    """

    def piece(*args: Tree, **kwargs: Any) -> Tree:
        places = [k for k, (_, a) in enumerate(leaves_of(args)) if type(a) is Traced]
        if not places:
            return f(*args, **kwargs)
        leaves = [a for _, a in leaves_of(args)]
        traced = [leaves[k] for k in places]
        shapes = [np.shape(a) for a in traced]
        form: list[Tree] = []
        """A value of `f`: a tree of arrays."""

        def of_flat(flat: Array) -> Array:
            """Return the values of `f`, one after the other, from those of its traced arguments."""
            parts = list(leaves)
            for k, part in zip(places, taken_apart(flat, shapes), strict=True):
                parts[k] = part
            value = f(*like(args, iter(parts)), **kwargs)
            if type(flat) is not Traced and any(type(x) is Traced for _, x in leaves_of(value)):
                raise NotDifferentiable(
                    "checkpoint: the function uses a traced array that is no positional argument of it"
                )
            form[:] = [value]
            return np.concatenate([np.reshape(x, -1) for _, x in leaves_of(value)])

        flat = record(evaluated, (of_flat, np.concatenate([np.reshape(a, -1) for a in traced])))
        return like(form[0], iter(taken_apart(flat, [np.shape(x) for _, x in leaves_of(form[0])])))

    return piece


def evaluated(f: Callable[[Array], Array], flat: Array) -> Array:
    """Return ``f(flat)``."""
    return f(flat)


defvjp(evaluated, None, lambda g, ans, f, flat: vjp(f, flat)[1](g)[0])
keep("arguments", evaluated)
