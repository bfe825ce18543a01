"""Statistics of a step: numbers of a batch whose sums over the ranks travel with the gradient.

Losses are kept by leaf, and squares of the gradient by *norm block*, a fixed part of the parameters that one rank
measures; all ranks add them up in the same order. Where the number of ranks may show in the last bit, one row and one
block are enough.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.optim.norms import squared_norm

Array = NDArray[Any]


class Statistics(NamedTuple):
    """Sums over all rows of a batch, the same on all ranks."""

    loss: float
    rows: float
    hits: float
    """Rows whose greatest output is the right class."""
    stop: float
    """Ranks that want to stop."""
    nonfinite: float
    """Rows whose loss is not finite."""
    squares: float
    """Of ``n |g|^2`` over groups of rows; see `distbp.trainer.noise_scale`."""
    groups: float
    square: float
    """Squared norm of the gradient of the batch."""

    @property
    def finite(self) -> bool:
        """Return whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.square)

    @property
    def norm(self) -> float:
        """Return the norm of the gradient of the batch."""
        return math.sqrt(self.square) if self.square >= 0.0 else math.nan


STATISTICS = Statistics._fields[:-1]
_STOP = STATISTICS.index("stop")


class Table:
    """Holds what a rank counts, and then the sums over all ranks.

    Parameters
    ----------
    leaves : int
        Rows of the table, beside one for ranks without leaves; 0: all rows of a batch are added up in one row, and
        squares have the same bits with any number of BLAS threads.
    blocks : int
        Norm blocks.
    message : ndarray of shape (7,), optional
        The end of a message that brings the sums: then one row is counted there.
    """

    def __init__(self, leaves: int, blocks: int, message: Array | None = None) -> None:
        n, rows = len(STATISTICS), leaves + 1
        self.rides, self._square = message is not None, square_of if leaves else squared_norm
        self._numbers = np.zeros(rows * n + blocks)
        self.by_leaf = self._numbers[: rows * n].reshape(rows, n) if message is None else message.reshape(1, n)
        self._squares = self._numbers[rows * n :]

    def of_leaves(self, lo: int, hi: int) -> Array:
        """Return the rows in which leaves `lo` to `hi` - 1 are counted: (leaves, 7)."""
        last = len(self.by_leaf) - 1
        return self.by_leaf[lo:hi] if lo < hi <= last else self.by_leaf[last:]

    def clear(self, *, stop: bool = False) -> None:
        """Begin a batch; `stop` is whether this rank wants to stop."""
        self._numbers[:] = 0.0
        if self.rides:
            self.by_leaf[:] = 0.0
        self.by_leaf[-1, _STOP] = stop

    def measure(self, block: int, gradient: Array) -> None:
        """Add the square of a part of the gradient to norm block number `block`."""
        self._squares[block] += self._square(gradient)

    def reduce(self, comm: Communicator) -> Statistics:
        """Return the sums over all ranks."""
        if not self.rides:
            comm.allreduce(self._numbers)
        return Statistics._make([*np.add.reduce(self.by_leaf).tolist(), float(np.add.reduce(self._squares))])


def square_of(x: Array) -> float:
    """Return the sum of squares: one product, whose bits are those of one BLAS thread."""
    square = float(np.dot(x, x))
    return square if math.isfinite(square) else squared_norm(x)
