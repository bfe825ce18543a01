"""Encodings of numbers: what a network sees of a column beside its scaled value.

Piecewise-linear (Gorishniy, Rubachev & Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep Learning",
equation 1). With the edges b_0 < b_1 < ... < b_T of a column, its quantiles in the training rows, x has T components

    e_t(x) = 2 clip((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1) - 1        t = 1 ... T

so that bins below x are 1, bins above it -1, and the one that holds it says where in it x lies. (The paper lets the
first and the last bin go on beyond the edges; here the scaled x itself, which stays an input, does that: a last bin may
be narrow, and far outside it no number is to become a million.) What follows is linear in the components: with weights
w_t a unit sees sum_t w_t e_t(x), a continuous function of x with a slope of its own in each bin, which is what a forest
of trees has and a few smooth units have not. There is nothing to learn here, so there is no derivative: dW_1 sees e(x)
as its input.

Edges are the same on any number of ranks: those of all training rows, or of 32,768 of them in equal distances; each
rank sorts some of the columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.splitting import Subset

Array = NDArray[Any]

_SAMPLE = 1 << 15


def quantiles(train: Subset, numeric: Sequence[int], levels: Array, comm: Communicator) -> Array:
    """Return quantiles (columns, levels) of the finite values of some columns; 0 where a column has none.

    Parameters
    ----------
    train : Subset
        The training rows.
    numeric : sequence of int
        Numbers of the columns.
    levels : ndarray of shape (levels,)
        From 0 to 1.
    comm : Communicator
        Its ranks share out the columns.
    """
    found = np.zeros((len(numeric), len(levels)))
    lo, hi = block_bounds(len(numeric), comm.rank, comm.size)
    if lo < hi:
        n = min(train.n_rows, _SAMPLE)
        X = train.dataset.take(train.rows(np.arange(n) * train.n_rows // n))[0]
        for k in range(lo, hi):
            x = np.asarray(X[:, numeric[k]], np.float64)
            if len(x := np.sort(x[np.isfinite(x)])):
                place = levels * (len(x) - 1)  # between two neighbours as on a straight line, as NumPy has it
                below = place.astype(int)
                found[k] = x[below] + (x[np.minimum(below + 1, len(x) - 1)] - x[below]) * (place - below)
    comm.allreduce(found)
    return found


def edges_of(of_column: Array) -> list[float]:
    """Return the edges of the bins of a column, from its quantiles in order; [] where it is constant."""
    edges: list[float] = of_column[np.diff(of_column, prepend=-np.inf) > 0].tolist()
    return edges if len(edges) > 1 else []


class Bins:
    """Encode numbers piecewise linearly.

    Parameters
    ----------
    edges : sequence of sequence of float
        Of each column; an empty one has no components.
    """

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        self.n = sum(max(0, len(of_column) - 1) for of_column in edges)
        """Components of all columns."""
        arrays = [np.asarray(of_column, np.float64) for of_column in edges]
        self._column = np.repeat(np.arange(len(edges)), [max(0, len(of_column) - 1) for of_column in edges])
        self._begin = np.concatenate([np.zeros(0), *(of_column[:-1] for of_column in arrays)])
        width = np.concatenate([np.zeros(0), *(np.diff(of_column) for of_column in arrays)])
        self._factor = 2.0 / width

    def encode(self, numbers: Array, out: Array) -> None:
        """Write the components (n, `n`) of `numbers` (n, columns), which are finite, to `out`."""
        e = numbers[:, self._column] - self._begin
        e *= self._factor
        e -= 1.0
        np.clip(e, -1.0, 1.0, out=out, casting="same_kind")
