"""Squared norms of the gradients of single rows, from what the passes of a batch kept.

The gradient of a row is an outer product in each layer, ``dW = a delta^T``, so its squared norm is ``|a|^2 |delta|^2``
(Goodfellow 2015, "Efficient per-example gradient computations"); the bias adds ``|delta|^2``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.network.tape import Tape

__all__ = ["row_squares"]


def row_squares(tape: Tape) -> NDArray[Any]:
    """Return the squared norm of the gradient of each row (n,), after a backward pass of a dense network.

    For deltas that were divided by the batch size B: those of the rows' own losses are B^2 times as large.
    """
    total = 0.0
    for a, delta in zip(tape.inputs, tape.deltas, strict=True):
        a, delta = a[tape.rows], delta[tape.rows]
        total = total + np.einsum("nk,nk->n", delta, delta) * (np.einsum("nk,nk->n", a, a) + 1.0)
    return np.asarray(total)
