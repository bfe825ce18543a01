"""Moments of columns, by all ranks together and with the same bits on any number of them.

The rows are cut in blocks that depend on the data alone. Each rank summarises some blocks; a sum over
ranks (zeros elsewhere, so it is exact) brings all summaries to all ranks, which merge them in the order
of the blocks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.splitting import Subset

Array = NDArray[Any]

BLOCK_ELEMENTS = 1 << 19
_PIECE = 64


def moments(X: Array, room: Array | None = None) -> Array:
    """Return (5, d) of X (n, d): count, mean, sum of squared deviations, least and greatest of the finite values.

    `room` (n d,) of float64 is used as scratch, where it is given.
    """
    copy = np.empty(X.shape) if room is None else room[: X.size].reshape(X.shape)
    np.copyto(copy, X)
    total = copy.sum(axis=0)
    if np.isfinite(total).all():  # then every value is
        count = np.full(X.shape[1], float(len(X)))
        mean = total / max(len(X), 1)
        below = above = X if X.dtype.kind == "f" else copy
    else:
        there = np.isfinite(copy)
        count = there.sum(axis=0).astype(np.float64)
        mean = np.where(there, copy, 0.0).sum(axis=0) / np.maximum(count, 1.0)
        below, above = np.where(there, copy, np.inf), np.where(there, copy, -np.inf)
        copy[...] = np.where(there, copy, mean)
    low, high = _extremes(np.minimum, below, np.inf), _extremes(np.maximum, above, -np.inf)
    copy -= mean
    return np.stack([count, mean, np.einsum("nd,nd->d", copy, copy), low, high])


def _extremes(of: np.ufunc, X: Array, nothing: float) -> Array:
    """Return the least or greatest value of each column, by first comparing pieces of many rows, which is faster."""
    n, d = X.shape
    if not d:
        return np.zeros(0)
    whole = n // _PIECE * _PIECE
    pieces = np.ascontiguousarray(X[:whole]).reshape(-1, _PIECE * d)
    ends = of.reduce(pieces, axis=0, initial=nothing).reshape(_PIECE, d), X[whole:]
    return np.asarray(of(*(of.reduce(part, axis=0, initial=nothing) for part in ends)))


def merge(table: Array) -> dict[str, Array]:
    """Merge moments of blocks (n_blocks, 5, d) into one (Chan, Golub & LeVeque 1983, equation 2.1)."""
    count, mean, square = (np.zeros(table.shape[2]) for _ in range(3))
    for n, m, s, _, _ in table:
        total = np.maximum(count + n, 1.0)
        gap = m - mean
        mean = mean + gap * (n / total)
        square = square + s + gap * gap * (count * n / total)
        count = count + n
    there = table[:, 0] > 0  # a block that no rank has summarised is zeros
    low = np.where(there, table[:, 3], np.inf).min(axis=0, initial=np.inf)
    high = np.where(there, table[:, 4], -np.inf).max(axis=0, initial=-np.inf)
    return {"count": count, "mean": mean, "square": square, "low": low, "high": high}


def summarise(train: Subset, comm: Communicator) -> dict[str, Any]:
    """Summarise the training rows: all that preprocessing wants to know of them.

    ``inputs`` and ``targets`` are moments as `merge` gives them, ``categories`` how often each one of a column occurs;
    ``class count`` and ``class weight`` rows and sum of weights of each class, of one class without classes.
    """
    data = train.dataset
    kind, n_outputs = (data.target.kind, data.target.n_outputs) if data.target else ("", 0)
    d, k = len(data.columns), n_outputs if kind == "values" else 0
    block = max(256, BLOCK_ELEMENTS // max(1, d))
    n_blocks = -(-data.n_rows // block)
    table = np.zeros((n_blocks, 5, d + k))
    class_table = np.zeros((2, n_blocks, n_outputs if kind == "classes" else 1))
    texts = {i: column.categories for i, column in enumerate(data.columns) if column.categories is not None}
    categories = {i: np.zeros(len(names), np.int64) for i, names in texts.items()}
    room = np.empty(min(block, data.n_rows) * max(d, k))
    for b in range(*block_bounds(n_blocks, comm.rank, comm.size)):
        rows = train.rows_between(b * block, min((b + 1) * block, data.n_rows))
        X, y, w = data.take(rows)
        table[b, :, :d] = moments(X, room)
        if k and y is not None:
            table[b, :, d:] = moments(y, room)
        labels = y if kind == "classes" and y is not None else np.zeros(len(rows), np.int64)
        for counts, weights in zip(class_table[:, b], (None, w), strict=True):
            counts[:] = np.bincount(labels, weights, minlength=len(counts))
        for i, seen in categories.items():
            codes = X[:, i]
            seen += np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(seen))
    for array in (table, class_table, *categories.values()):
        comm.allreduce(array)
    class_count, class_weight = class_table.sum(axis=1)
    return {
        "inputs": merge(table[:, :, :d]),
        "targets": merge(table[:, :, d:]),
        "categories": categories,
        "class count": class_count,
        "class weight": class_weight,
    }
