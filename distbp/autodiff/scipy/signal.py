"""scipy.signal: convolutions and correlations, in any number of dimensions."""

from functools import partial
from typing import Any

import numpy as np

from distbp.autodiff.scipy import front
from distbp.autodiff.tables import Array, NotDifferentiable, defvjp
from distbp.autodiff.tracing import Traced, primitive

m: Any = None
"""The module scipy.signal."""


def load(module: Any) -> None:
    """Give fronts to the functions of the module."""
    global m
    m = module
    front(m.convolve, lambda in1, in2, mode="full", method="auto": _convolved(in1, in2, mode))
    front(m.correlate, lambda in1, in2, mode="full", method="auto": _correlated(in1, in2, mode))
    for function in (m.fftconvolve, m.oaconvolve):
        front(function, partial(_by_axes, function.__name__))
    front(m.convolve2d, partial(_in_two, _convolved))
    front(m.correlate2d, partial(_in_two, _correlated_in_two))


@primitive
def full_convolution(a: Array, b: Array) -> Array:
    """Return all places at which `a` and `b` meet."""
    return m.convolve(a, b)


def _of_first(g: Array, ans: Array, a: Array, b: Array) -> Array:
    """Return what lies within when the gradient is convolved with the other one, turned round."""
    whole = full_convolution(g, b[(slice(None, None, -1),) * b.ndim])
    return whole[tuple(slice(n - 1, n - 1 + k) for n, k in zip(b.shape, a.shape, strict=True))]


defvjp(full_convolution, _of_first, lambda g, ans, a, b: _of_first(g, ans, b, a))


def _convolved(a: Array, b: Array, mode: str) -> Array:
    a, b = (x if type(x) is Traced else np.asarray(x) for x in (a, b))
    if a.ndim != b.ndim:
        raise ValueError(f"what is convolved has as many dimensions as the other: {a.ndim}, {b.ndim}")
    if a.ndim == 0:
        return a * b
    whole = full_convolution(a, b)
    if mode == "full":
        return whole
    if mode == "same":
        size = a.shape
    elif mode == "valid":
        size = tuple(max(n, k) - min(n, k) + 1 for n, k in zip(a.shape, b.shape, strict=True))
        if len({n >= k for n, k in zip(a.shape, b.shape, strict=True) if n != k}) > 1:
            raise ValueError("mode 'valid': one of both is at least as large as the other in every dimension")
    else:
        raise ValueError(f"mode is 'full', 'same' or 'valid', not {mode!r}")
    starts = ((n - k) // 2 for n, k in zip(whole.shape, size, strict=True))
    return whole[tuple(slice(start, start + k) for start, k in zip(starts, size, strict=True))]


def _correlated_in_two(a: Array, b: Array, mode: str) -> Array:
    if mode != "same":
        return _correlated(a, b, mode)
    whole = _correlated(a, b, "full")  # its middle is another one
    return whole[tuple(slice(k // 2, k // 2 + n) for n, k in zip(np.shape(a), np.shape(b), strict=True))]


def _correlated(a: Array, b: Array, mode: str) -> Array:
    b = b if type(b) is Traced else np.asarray(b)
    if mode == "valid" and all(n <= k for n, k in zip(np.shape(a), b.shape, strict=False)) and np.shape(a) != b.shape:
        turned = _correlated(b, a, mode)
        return turned[(slice(None, None, -1),) * turned.ndim]
    return _convolved(a, b[(slice(None, None, -1),) * b.ndim], mode)


def _by_axes(name: str, in1: Array, in2: Array, mode: str = "full", axes: Any = None) -> Array:
    if axes is not None and len(np.atleast_1d(axes)) < np.ndim(in1):
        raise NotDifferentiable(f"scipy.signal.{name} of a traced array: over all axes")
    return _convolved(in1, in2, mode)


def _in_two(of: Any, in1: Array, in2: Array, mode: str = "full", boundary: str = "fill", fillvalue: float = 0) -> Array:
    if boundary != "fill" or fillvalue:
        raise NotDifferentiable("scipy.signal of a traced array: with boundary='fill' and zeros; np.pad does others")
    return of(in1, in2, mode)
