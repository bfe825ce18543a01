"""Norms of a gradient and of whole layers, where each rank may hold a shard of the parameters.

A norm whose last bits depend on the number of ranks would make the step depend on it. So squares are added up in fixed
parts: those of a vector over short products, those of a layer over its *norm blocks* (see `Optimizer.assign_shard`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["clip_by_global_norm", "layer_norms", "squared_norm"]

Array = NDArray[Any]

_DOT = 8192
"""Elements of a product that BLAS computes in one thread, whatever threads it has."""


def squared_norm(x: Array) -> float:
    """Return the sum of squares of a flat array: the same bits whatever the BLAS threads of a rank.

    Sums of short parts, each a product that BLAS computes in one thread, are added in float64.
    """
    even = len(x) // _DOT * _DOT
    parts = x[:even].reshape(-1, 1, _DOT)
    total = np.matmul(parts, parts.reshape(-1, _DOT, 1)).sum(dtype=np.float64)
    square = float(total + np.dot(x[even:], x[even:]))
    if not math.isfinite(square):  # too large for the dtype, or really not finite
        square = float(np.square(x, dtype=np.float64).sum())
    return square


def clip_by_global_norm(grad: Array, limit: float, norm: float) -> None:
    """Scale `grad`, whose norm is `norm`, to a norm of at most `limit` (Pascanu et al. 2013)."""
    if norm > limit:
        grad *= limit / norm


def layer_norms(
    theta: Array,
    grad: Array,
    layers: Sequence[slice],
    norm_blocks: Sequence[Sequence[slice]],
    total: Callable[[Array], None],
) -> list[list[float]]:
    """Return the norms of weights and gradient of each layer, whichever ranks hold them.

    Parameters
    ----------
    theta, grad : ndarray of shape (n,)
        The shard of this rank.
    layers : sequence of slice
        Its part of each layer.
    norm_blocks : sequence of sequences of slice
        The norm blocks of each layer that lie in it; where there are none, its part of the layer is one.
    total : callable
        ``total(numbers)`` replaces numbers by their sums over the shards.
    """
    norm_blocks = [blocks or [layer] for blocks, layer in zip(norm_blocks or [[]] * len(layers), layers, strict=True)]
    squares = np.zeros((len(norm_blocks), max(map(len, norm_blocks)), 2))
    for i, blocks in enumerate(norm_blocks):
        for k, block in enumerate(blocks):
            squares[i, k] = squared_norm(theta[block]), squared_norm(grad[block])
    total(squares)
    norms: list[list[float]] = np.sqrt(squares.sum(axis=1)).tolist()
    return norms
