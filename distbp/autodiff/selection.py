"""Functions that choose between values: maxima of two arrays, conditions, functions in pieces."""

from typing import Any

import numpy as np

from distbp.autodiff.tables import Array, NotDifferentiable, composes, defvjp, keep, linear, refuse_out
from distbp.autodiff.tracing import Node, Traced, record, value_of


def _maximum_x(g: Array, x: Array, y: Array, ignores_nan: bool = False) -> Array:
    """Return what x gets of the gradient of a maximum: half of it where x = y, all where either (or only y) is NaN."""
    wins, tie = (x > y) | (y != y) if ignores_nan else ~(y >= x), x == y
    return np.where(tie, 0.5 * g, g * wins) if tie.any() else g * wins


defvjp(np.maximum, lambda g, ans, x, y: _maximum_x(g, x, y), lambda g, ans, x, y: _maximum_x(g, y, x))
defvjp(np.minimum, lambda g, ans, x, y: _maximum_x(g, y, x), lambda g, ans, x, y: _maximum_x(g, x, y))
defvjp(np.fmax, lambda g, ans, x, y: _maximum_x(g, x, y, True), lambda g, ans, x, y: _maximum_x(g, y, x, True))
defvjp(np.fmin, lambda g, ans, x, y: _maximum_x(g, -x, -y, True), lambda g, ans, x, y: _maximum_x(g, -y, -x, True))
defvjp(np.where, None, lambda g, ans, c, x, y: np.where(c, g, 0.0), lambda g, ans, c, x, y: np.where(c, 0.0, g))
linear(np.where)
keep("arguments", np.maximum, np.minimum, np.fmax, np.fmin)


def without_left_out(node: Node, k: int, part: Array, left_out: dict[int, Array], below: Node) -> Array:
    """Return the part of argument k without the numbers that a selection after it has left out; keep which these are.

    A number is left out if it is in all that was computed of it, number by number.
    """
    mine, function = left_out.get(node.serial), node.function
    if function is np.where:
        chosen = np.broadcast_to(node.args[0], node.shape)
        other = ~chosen if k == 1 else chosen
        mine = other if mine is None else other | mine
    elif mine is None or not isinstance(function, np.ufunc) or function.signature is not None:
        left_out[below.serial] = np.zeros(below.shape, bool)
        return part
    lead = len(node.shape) - len(below.shape)
    copied = tuple(i for i, n in enumerate(node.shape) if i < lead or below.shape[i - lead] != n)
    of_below = np.reshape(np.all(mine, copied), below.shape)
    left_out[below.serial] = of_below & left_out.get(below.serial, True)
    return part if function is np.where else np.where(mine, 0.0, part)


# --- in terms of others -------------------------------------------------------------------------------


@composes(np.where)
def _where(condition: Array, *xy: Array) -> Array:
    condition = value_of(condition)
    return record(np.where, (condition, *xy)) if any(type(a) is Traced for a in xy) else np.where(condition, *xy)


@composes(np.clip)
def _clip(a: Array, a_min: Array = None, a_max: Array = None, out: Any = None, *, min: Array = None, max: Array = None
          ) -> Array:  # fmt: skip
    refuse_out(out)
    lo, hi = a_min if min is None else min, a_max if max is None else max
    if type(lo) is Traced or type(hi) is Traced:
        a = a if lo is None else np.maximum(a, lo)
        return a if hi is None else np.minimum(a, hi)
    x = value_of(a)
    clipped = np.clip(x, lo, hi)
    return np.where((clipped == x) | (x != x), a, clipped)


@composes(np.select)
def _select(condlist: Any, choicelist: Any, default: Array = 0) -> Array:
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        default = np.where(condition, choice, default)
    return default


@composes(np.choose)
def _choose(a: Array, choices: Any, out: Any = None, mode: str = "raise") -> Array:
    refuse_out(out)
    index, dtype = value_of(a), np.result_type(*map(value_of, choices))
    choices = [(c if type(c) is Traced else np.asarray(c)).astype(dtype) for c in choices]
    stacked = np.stack(np.broadcast_arrays(*choices))
    if mode != "raise":
        raise NotDifferentiable("np.choose of a traced array: mode='raise' only")
    return np.take_along_axis(stacked, np.broadcast_to(index, stacked.shape[1:])[None], 0)[0]


@composes(np.piecewise)
def _piecewise(x: Array, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Array:
    conditions = [np.asarray(value_of(c)) for c in condlist]
    if len(funclist) == len(conditions) + 1:
        conditions = [*conditions, ~np.any(conditions, axis=0)]
    out = np.zeros_like(value_of(x))
    for condition, f in zip(conditions, funclist, strict=True):
        safe = np.where(condition, x, value_of(x).reshape(-1)[int(np.argmax(condition))] if condition.any() else 0.0)
        out = np.where(condition, f(safe, *args, **kw) if callable(f) else f, out)
    return out


@composes(np.interp)
def _interp(x: Array, xp: Array, fp: Array, left: Any = None, right: Any = None, period: Any = None) -> Array:
    if period is not None:
        raise NotDifferentiable("np.interp of a traced array: without period")
    x, xp, fp = (a if type(a) is Traced else np.asarray(a, float) for a in (x, xp, fp))
    inside = np.clip(x, value_of(xp)[0], value_of(xp)[-1])
    i = np.clip(np.searchsorted(value_of(xp), value_of(inside), "right") - 1, 0, len(xp) - 2)
    x0, x1, f0, f1 = xp[i], xp[i + 1], fp[i], fp[i + 1]
    y = f0 + (f1 - f0) * (inside - x0) / (x1 - x0)
    y = y if left is None else np.where(x < xp[0], left, y)
    return y if right is None else np.where(x > xp[-1], right, y)
