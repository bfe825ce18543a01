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


def _sgd(theta: Array, g: Array, lr: Any) -> None:
    for i in range(theta.size):
        theta[i] -= g[i] * lr


def _momentum(theta: Array, g: Array, v: Array, mu: Any, lr: Any) -> None:
    for i in range(theta.size):
        v[i] = v[i] * mu + g[i]
        theta[i] -= v[i] * lr


def _nesterov(theta: Array, g: Array, v: Array, mu: Any, lr: Any) -> None:
    for i in range(theta.size):
        v[i] = v[i] * mu + g[i]
        theta[i] -= (g[i] + mu * v[i]) * lr


def _rmsprop(theta: Array, g: Array, square: Array, decay: Any, rest: Any, epsilon: Any, lr: Any) -> None:
    for i in range(theta.size):
        square[i] = square[i] * decay + rest * g[i] * g[i]
        theta[i] -= g[i] / (np.sqrt(square[i]) + epsilon) * lr


def _adam(theta: Array, g: Array, m: Array, v: Array, beta1: Any, beta2: Any, epsilon: Any, factor: Any) -> None:
    for i in range(theta.size):
        m[i] = m[i] * beta1 + g[i]
        v[i] = v[i] * beta2 + g[i] * g[i]
        theta[i] -= m[i] / (np.sqrt(v[i]) + epsilon) * factor


_LOOPS: tuple[Callable[..., None], ...] = (_sgd, _momentum, _nesterov, _rmsprop, _adam)
_UPDATES = {loop.__name__[1:]: loop for loop in _LOOPS}


@lru_cache
def compiled_update(name: str, dtype: np.dtype[Any]) -> Callable[..., None] | None:
    """Return the update ``f(theta, g, *state, *numbers)`` in place, all of `dtype`; None without Numba."""
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
        update(*(np.empty(0, dtype) if kind is Array else dtype.type() for kind in kinds))
        return update

    try:
        return compile_(cache=True)
    except (OSError, RuntimeError):  # nowhere to keep what is compiled: every process compiles
        return compile_(cache=False)
