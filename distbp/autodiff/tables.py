"""Tables of what is known of NumPy's functions. The modules beside this one fill them, a family of functions each.

    RULES         primitives: one rule for each argument gives its part of the gradient; KEEPS says of what
    COMPOSITIONS  written here in terms of others, and differentiated through them
    CONSTANT      piecewise constant or about shapes: what they give has no derivative, and is not traced
    UNSUPPORTED   the rest, each with what to do instead

A rule says how the gradient of a result becomes that of an argument: ``rule(g, ans, *args)``, where `g` has the shape
of the result `ans`. Rules are written in functions that have rules themselves, so that gradients have gradients.
What an argument was broadcast over is summed by whoever calls the rule.

Conventions, where a function has no derivative:

    equal maxima, minima    share the gradient, in `maximum` as in `max` (HIPS autograd, PyTorch's amax)
    |x|, norms at 0         0
    clip at its bounds      1 (PyTorch)
    x**y                    by x at y = 0: 0; by y at x = 0: 0

Numbers between may be complex, as those of Fourier transforms are: the gradient of z = a + ib is then dC/da + i dC/db.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
"""Of NumPy, or traced."""
Function = Callable[..., Any]
Rule = Function
"""``rule(g, ans, *args, **kwargs)``: the gradient of one argument, from that of the result `ans`."""

RULES: dict[Any, tuple[Rule | None, ...] | Rule] = {}
"""A rule for each argument, None where it has no derivative; or for functions of any number of arguments one
``rule(k, g, ans, *args, **kwargs)`` for argument number k."""
KEEPS: dict[Any, str] = {}
"""The values that the rules of a function ask for, all where it is not named here: ``shapes`` (none; they see nodes in
their place, which have shape and dtype), ``result``, ``arguments``, ``others`` (each rule the other arguments), or
``divisor`` (the second argument; its own rule the result, too)."""
COMPLEX: set[Any] = set()
"""Primitives whose results may be complex."""
COMPOSITIONS: dict[Any, Function] = {}
CONSTANT: set[Any] = set()
UNSUPPORTED: dict[Any, str] = {}
METHODS: dict[tuple[Any, str], Any] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}
"""Methods of ufuncs, as functions; others are added where they are written."""


class NotDifferentiable(TypeError):
    """A derivative was asked for where there is none, or none that is known; the text says what to do."""


def defvjp(function: Any, *rules: Rule | None) -> None:
    """Give a function its rules, one for each argument; None for one that has no derivative."""
    RULES[function] = rules
    KEEPS.pop(function, None)  # other rules may ask for other values


def keep(what: str, *functions: Any) -> None:
    """Name the values that the rules of these functions ask for, as `KEEPS` says."""
    KEEPS.update(dict.fromkeys(functions, what))


def linear(*functions: Any) -> None:
    """Mark primitives as linear: their rules ask for shapes alone, and hold for complex numbers."""
    keep("shapes", *functions)
    COMPLEX.update(functions)


def composes(*functions: Any) -> Function:
    """Register what is decorated as the composition of these functions of NumPy."""

    def register(composition: Function) -> Function:
        COMPOSITIONS.update(dict.fromkeys(functions, composition))
        return composition

    return register


def refusal(function: Any) -> NotDifferentiable:
    """Return the error of a call of `function`, which says what to do instead."""
    known_to_numpy = getattr(np, function.__name__, None) is function
    name = getattr(function, "__module__", None) or ("numpy" if known_to_numpy else "ufunc")
    name = f"{name}.{function.__name__}".replace("numpy.", "np.").removeprefix("ufunc.")
    what = UNSUPPORTED.get(function, "no rule is known; write it with other functions, or give one: autodiff.defvjp")
    return NotDifferentiable(f"{name} of a traced array: {what}")


def refuse_out(out: Any) -> None:
    """Raise `NotDifferentiable` where a composition is given an array `out`."""
    if out is not None:
        raise NotDifferentiable("out= writes into an array, and a traced value is involved: leave it out")


def ufunc_options(ufunc: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a call of a ufunc that change its result; refuse those that write into an array."""
    if any(array is not None for array in kwargs.get("out") or ()):
        raise NotDifferentiable(
            f"np.{ufunc.__name__} writes into an array (out=, or a += b), and a traced value is involved: make a new"
            " one, a = a + b"
        )
    if kwargs.get("where", True) is not True and (ufunc.nin == 1 or "axis" not in kwargs):
        raise NotDifferentiable(f"np.{ufunc.__name__} with where=: use np.where(condition, ..., ...)")
    return {
        k: v for k, v in kwargs.items() if k not in ("out", "order", "subok", "casting") and (k, v) != ("where", True)
    }
