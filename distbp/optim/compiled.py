"""Updates compiled to one pass over memory, where Numba is installed.

NumPy walks over parameters and state once for each operation, ten times for Adam; a compiled loop walks
once. Each loop here does the operations of its optimiser's NumPy form (`rules`) in the same order
and the same precision, without shortcuts such as fused multiply-add, so that both give the same bits.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _sgd(rows: Array, theta: Array, g: Array, lr: Any) -> None:
    for k in range(rows.size):
        t, gk = theta[rows[k]], g[k]
        for i in range(t.size):
            t[i] -= gk[i] * lr


def _momentum(rows: Array, theta: Array, g: Array, velocity: Array, mu: Any, lr: Any) -> None:
    for k in range(rows.size):
        t, gk, v = theta[rows[k]], g[k], velocity[rows[k]]
        for i in range(t.size):
            v[i] = v[i] * mu + gk[i]
            t[i] -= v[i] * lr


def _nesterov(rows: Array, theta: Array, g: Array, velocity: Array, mu: Any, lr: Any) -> None:
    for k in range(rows.size):
        t, gk, v = theta[rows[k]], g[k], velocity[rows[k]]
        for i in range(t.size):
            v[i] = v[i] * mu + gk[i]
            t[i] -= (gk[i] + mu * v[i]) * lr


def _rmsprop(rows: Array, theta: Array, g: Array, square: Array, decay: Any, rest: Any, epsilon: Any, lr: Any) -> None:
    for k in range(rows.size):
        t, gk, s = theta[rows[k]], g[k], square[rows[k]]
        for i in range(t.size):
            s[i] = s[i] * decay + rest * gk[i] * gk[i]
            t[i] -= gk[i] / (np.sqrt(s[i]) + epsilon) * lr


def _adam(
    rows: Array, theta: Array, g: Array, sums: Array, squares: Array, beta1: Any, beta2: Any, epsilon: Any, factor: Any
) -> None:
    for k in range(rows.size):
        t, gk, m, v = theta[rows[k]], g[k], sums[rows[k]], squares[rows[k]]
        for i in range(t.size):
            m[i] = m[i] * beta1 + gk[i]
            v[i] = v[i] * beta2 + gk[i] * gk[i]
            t[i] -= m[i] / (np.sqrt(v[i]) + epsilon) * factor


_LOOPS: tuple[Callable[..., None], ...] = (_sgd, _momentum, _nesterov, _rmsprop, _adam)
_UPDATES = {loop.__name__[1:]: loop for loop in _LOOPS}


@lru_cache
def compiled_update(name: str, dtype: np.dtype[Any]) -> Callable[..., None] | None:
    """Return the update ``f(rows, theta, g, *state, *numbers)`` in place; None without Numba.

    `theta` and its state are matrices (n, width) of `dtype`, whose `rows` (k,) have the gradient `g` (k, width).
    """
    if name not in _UPDATES:
        return None
    try:
        import numba
    except ImportError:
        return None

    def compile_(cache: bool) -> Callable[..., None]:
        loop = _UPDATES[name]
        update: Callable[..., None] = numba.njit(nogil=True, error_model="numpy", cache=cache)(loop)
        kinds = [parameter.annotation for parameter in inspect.signature(loop).parameters.values()]
        arrays = [np.empty((0, 1), dtype)] * (kinds.count(Array) - 1)
        update(np.empty(0, np.intp), *arrays, *[dtype.type()] * kinds.count(Any))
        return update

    try:
        return compile_(cache=True)
    except (OSError, RuntimeError):  # nowhere to keep what is compiled: every process compiles
        return compile_(cache=False)
