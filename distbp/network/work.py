"""Who computes which part of a layer: all units of some rows, or some units of all rows.

Alone, a rank computes all units of its rows. Rows that belong together whatever the number of ranks are a *leaf*; each
leaf has products of its own, since the bits of a product depend on its shape.

The ranks of a team may share the units instead: each computes its *cells*, some units of each hidden layer, for the
rows of all. It reads its share of the weights only, which is less where a batch has few rows. Before each product the
ranks exchange what they have computed (Shoeybi et al. 2019, section 3, split products likewise). The last layer, whose
loss wants all units of a row, goes by leaves.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.network.tape import Tape, Tapes

Array = NDArray[Any]

_KEPT = 64
"""Numbers of rows whose tapes are kept."""


class Leaves:
    """All units of a rank's rows, with a product for each leaf.

    Parameters
    ----------
    layers : int
        Their number.
    leaves : sequence of slice
        Rows, counted from this rank's first, that belong together, in order; by default all rows are one leaf.

    Attributes
    ----------
    starts : list of int
        Where the leaves begin.
    units : list of slice
        The units of each layer that this rank computes.
    """

    def __init__(self, layers: int, leaves: Sequence[slice] = (slice(None),)) -> None:
        self.leaves, self.starts = leaves, [rows.start or 0 for rows in leaves]
        self.units = [slice(None)] * layers

    def product(self, i: int, a: Array, W: Array, out: Array) -> Array:
        """Write ``a W`` to `out`, the units of layer `i` that this rank computes, leaf by leaf."""
        if len(self.leaves) == 1:
            return np.matmul(a, W, out=out)
        return _leaf_products(self.leaves, a, W, out)

    def input(self, i: int, a: Array) -> Array:
        """Return what the product of layer `i` reads, once this rank has computed its part `a`: here that is all."""
        return a

    def delta(self, i: int, delta: Array) -> Array:
        """Return the delta of layer `i` for the layer below, once this rank has computed its part: here that is all."""
        return delta


class Cells:
    """Some units of each hidden layer, for the rows of a team; of the last layer all units of this rank's leaves.

    Parameters
    ----------
    tape : Tape
        Of all rows of the team.
    cells : sequence of sequence of slice
        Of each hidden layer the units that have one product, in a row.
    leaves : sequence of slice
        Of this rank's rows, as in `Leaves`.
    exchange : callable
        After ``exchange(k)`` this rank sees matrix k of the team, the inputs of all layers and then their deltas.
    """

    def __init__(
        self, tape: Tape, cells: Sequence[Sequence[slice]], leaves: Sequence[slice], exchange: Callable[[int], None]
    ) -> None:
        spans = [span(mine) for mine in cells]
        self.leaves, self.starts = leaves, [rows.start or 0 for rows in leaves]
        self.units = [*spans, slice(None)]
        self._cells = [
            [slice(cell.start - s.start, cell.stop - s.start) for cell in mine]
            for mine, s in zip(cells, spans, strict=True)
        ]
        self._tape, self._last, self._exchange = tape, len(cells), exchange

    def product(self, i: int, a: Array, W: Array, out: Array) -> Array:
        """Write ``a W`` to `out` cell by cell, in the last layer leaf by leaf."""
        if i == self._last:
            return _leaf_products(self.leaves, a, W, out)
        cells = self._cells[i]
        if len(cells) == 1:
            return np.matmul(a, W, out=out)
        for cell in cells:
            np.matmul(a, W[:, cell], out=out[:, cell])
        return out

    def input(self, i: int, a: Array) -> Array:
        """Return the input of the whole team, after an exchange; in the last layer of this rank's rows."""
        self._exchange(i)
        whole = self._tape.inputs[i]
        return whole if i < self._last else whole[self._tape.rows]

    def delta(self, i: int, delta: Array) -> Array:
        """Return the delta of the whole team, after an exchange."""
        self._exchange(self._last + 1 + i)
        return self._tape.deltas[i]


Work = Leaves | Cells
"""Answers what the passes ask before and in each product."""


class Pass(Protocol):
    """Holds what one pass through a network takes, beside the rows."""

    tape: Tape
    """Where activations and deltas are kept."""
    work: Work
    """What this rank computes."""
    step: int | None
    """Of the run, for dropout masks; None outside of training."""
    masked: Array
    """Numbers of the rows whose units are computed, for dropout masks."""


@dataclass
class OwnPass:
    """A pass of a network on its own: all units of all rows, no masks."""

    tape: Tape
    work: Work
    step: int | None = None
    masked: Array = field(default_factory=lambda: np.zeros(0, np.int64))


class OwnPasses(threading.local):
    """Memory for passes of a network of some `layers` on its own; ``tapes(n)`` gives that of up to n rows.

    Each thread has its own: a server predicts in many at once.
    """

    def __init__(self, tapes: Callable[[int], Tapes], layers: int) -> None:
        self._make, self._layers, self._tapes = tapes, layers, tapes(0)
        self._passes: dict[int, OwnPass] = {}

    def __call__(self, X: Array, *, step: int | None = None, masked: Array | None = None) -> OwnPass:
        """Return a pass of the rows of X (n, n_inputs), which stay where they are.

        `step` and `masked` (n,), the numbers of the step and of each row, are given in training: they fix the dropout
        masks. Memory is allocated anew where there are more rows than ever before.
        """
        if X.ndim != 2:
            raise ValueError(f"an array of shape {X.shape}: rows (n, n_inputs) are needed")
        n = len(X)
        if n > self._tapes.capacity:
            self._tapes, self._passes = self._make(n), {}
        if n not in self._passes:
            if len(self._passes) >= _KEPT:
                self._passes.clear()
            self._passes[n] = OwnPass(self._tapes(n), Leaves(self._layers))
        own = self._passes[n]
        own.tape.take(X)
        own.step = step
        if masked is not None:
            own.masked = masked
        return own


def leaf_sums(work: Work, numbers: Array) -> Array:
    """Return the sum of one number for each row (n,) over each leaf: (leaves,) in float64."""
    if not len(numbers):
        return np.zeros(1)
    return np.add.reduceat(numbers, work.starts).astype(np.float64)


def span(cells: Sequence[slice]) -> slice:
    """Return all units of cells that lie in a row."""
    return slice(cells[0].start, cells[-1].stop) if cells else slice(0, 0)


@lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype[Any]) -> Array:
    """Return what sums the rows of a matrix in a product."""
    return np.ones(n, dtype)


def compact(rows: Array) -> Array:
    """Return a copy of some rows of a matrix, without the gaps where the others lie.

    The bits of a product of a matrix and a vector depend on these gaps; those of two matrices do not.
    """
    return np.array(rows, order="K")


def _leaf_products(leaves: Sequence[slice], a: Array, W: Array, out: Array) -> Array:
    for rows in leaves:
        np.matmul(a[rows] if W.shape[1] > 1 else compact(a[rows]), W, out=out[rows])
    return out
