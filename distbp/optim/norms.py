"""The norm of a gradient, and clipping by it.

A norm whose last bits depend on the ranks or the BLAS threads would make the step depend on them: squares are added up
in fixed parts.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_DOT = 8192
"""Elements of a product that BLAS computes in one thread, whatever threads it has."""


def squared_norm(x: Array) -> float:
    """Return the sum of squares of a flat array: the same bits whatever the BLAS threads of a rank.

    Sums of short parts, each a product that BLAS computes in one thread, are added in float64.
    """
    even = len(x) // _DOT * _DOT
    rest = x[even:]
    square = float(rest.dot(rest))
    if even:
        parts = x[:even].reshape(-1, _DOT)
        square = float(np.add.reduce(np.vecdot(parts, parts), dtype=np.float64) + square)
    if not math.isfinite(square):  # too large for the dtype, or really not finite
        square = float(np.square(x, dtype=np.float64).sum())
    return square


def clip_by_global_norm(grad: Array, limit: float, norm: float) -> None:
    """Scale `grad`, whose norm is `norm`, to a norm of at most `limit` (Pascanu et al. 2013)."""
    if norm > limit:
        grad *= limit / norm
