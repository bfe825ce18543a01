"""Plans: who computes what of a batch, and how the parts become one gradient.

    DataParallel    rows: the batch is cut in leaves, each with products of its own; gradients are added up
    UnitParallel    units: layers are cut in cells; activations and deltas are exchanged in a team, in place of sums

A plan with a fixed number of parts gives the same bits on any number of ranks: that is the exact mode. Otherwise there
is one leaf, or one cell of a layer, for each rank.

| `--reduction` | plan | sum over hosts |
|---|---|---|
| `allreduce` | DataParallel | one message |
| `overlap` | DataParallel | buckets, while others are computed |
| `shared` | DataParallel, or UnitParallel where a batch is small beside the network | buckets; none on a host |

Glossary.

    leaf          rows of a batch that have products of their own
    node          leaves that are added up, below one another in one binary tree; see `tree`
    cell          units of a layer that have one product, for the rows of all
    shard         the parameters that one rank updates
    bucket        what travels at a time
    micro-batch   rows that a rank passes at a time, where memory is short
    norm block    parameters whose squares are added up by one rank
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.gradient.memory import Memory
from distbp.gradient.statistics import STATISTICS, Table
from distbp.gradient.tree import Operations
from distbp.network.tape import Tape
from distbp.network.work import Work, leaf_sums

__all__ = ["Batch", "Layout", "Part", "Parts", "Plan", "Seats"]

Array = NDArray[Any]
Positions = NDArray[np.int64]

_LOSS, _SQUARES = STATISTICS.index("loss"), STATISTICS.index("squares")


class Batch(Protocol):
    """A mini-batch, as `distbp.data.sampling` has it."""

    step: int
    size: int

    def between(self, lo: int, hi: int) -> NDArray[np.int64]:
        """Return the numbers of rows `lo` to `hi` - 1 of the batch."""
        ...


@dataclass
class Part:
    """Rows of a batch on their way through the passes, and how their gradient is computed.

    A plan makes the parts of a batch once for each batch size; what is of one batch alone, `step`, `positions` and
    `masked`, is filled in by the reducer.

    Attributes
    ----------
    tape, work : Tape and Work
        Where the passes write, and what this rank computes.
    rows, seen : slice
        Of the rows that this rank takes of a batch, those that it passes, and those whose units it computes.
    operations : list of Operations
        For each layer what is done when its delta is there; what is left at the end comes with the first one.
    counted : slice
        Rows of the table of statistics where its leaves are counted.
    counts : ndarray of shape (leaves, 7)
        These rows.
    step : int
        Of the run, for dropout masks.
    positions, masked : ndarray of int64
        Numbers of the rows that are passed, and of those whose units are computed.
    """

    tape: Tape
    work: Work
    rows: slice
    seen: slice
    operations: list[Operations]
    counted: slice = field(default_factory=lambda: slice(0, 1))
    counts: Array = field(default_factory=lambda: np.zeros((1, len(STATISTICS))))
    step: int | None = None
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    masked: Positions = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def X(self) -> Array:
        """Return where this rank's rows go: (n, n_inputs)."""
        return self.tape.X

    @property
    def delta(self) -> Array:
        """Return where the derivative of the cost by the outputs goes: (n, n_outputs)."""
        return self.tape.delta[-1]

    def scale(self, losses: Array, weights: Array | None, batch_size: int) -> None:
        """Multiply losses and delta by the rows' weights, and divide delta by the *global* batch size."""
        delta = self.delta
        if weights is not None:
            losses *= weights
            delta *= weights.reshape(-1, *(1,) * (delta.ndim - 1))
        delta /= batch_size

    def count(self, losses: Array, hits: int = 0, squares: Array | float = 0.0, groups: int = 0) -> None:
        """Add up the statistics of the rows: losses (n,), `hits` among them, and squared norms of `groups` of rows."""
        sums, n = leaf_sums(self.work, losses), len(losses)
        bad = 0 if math.isfinite(sums.sum()) else n - np.count_nonzero(np.isfinite(losses))
        self.counts[0] += (0.0, n, hits, 0, bad, 0.0, groups)
        self.counts[:, _LOSS] += sums
        self.counts[:, _SQUARES] += squares


@dataclass
class Parts:
    """The parts of a batch of one size: the rows of the batch that this rank takes, and the parts that it passes."""

    rows: tuple[int, int]
    parts: list[Part]


class Plan(Protocol):
    """Decides who computes what; see above."""

    exact: bool
    leaves: int
    shard: slice
    """The parameters that this rank updates, the same on all its peers."""
    vectors: Sequence[Array]
    """What travels between the peers; the first one is to hold the sum."""
    common: Array
    """A vector that all ranks of the memory see, between two steps."""
    norm_blocks: Sequence[slice]
    """Of weights, where it matters in which order their squares are added up."""
    table: Table
    """Where this rank counts."""
    measured: Sequence[tuple[int, slice]]
    """Norm blocks that this rank measures when the gradient is there: their numbers and places."""

    def parts(self, batch_size: int) -> Parts:
        """Return the parts of a batch of so many rows; at least one, and the same number on all ranks of a team."""
        ...

    def work(self, batch_size: int) -> float:
        """Return what this rank computes in a step, in rows; 0 where that is too little to judge its pace by."""
        ...

    def describe(self) -> str:
        """Say in a few words what the ranks of a host share, or ""."""
        ...

    def travels(self) -> int:
        """Return how many activations and deltas are sent in a step, beside the vectors."""
        ...


class Seats:
    """The order of the ranks in which leaves and cells are assigned: those of a host side by side.

    Attributes
    ----------
    place : int
        Of this rank in that order.
    size : int
        Of all ranks.
    host : int
        Number of this rank's memory: ranks that share one have the same.
    places : dict of int to (int, int)
        First place, and last + 1, of each memory.
    """

    def __init__(self, comm: Communicator, memory: Memory) -> None:
        hosts: list[int] = comm.allgather_obj(memory.number)
        order = sorted(range(comm.size), key=lambda rank: (hosts[rank], rank))
        self.place, self.size, self.host = order.index(comm.rank), comm.size, memory.number
        self.places: dict[int, tuple[int, int]] = {}
        for place, rank in enumerate(order):
            first, _ = self.places.get(hosts[rank], (place, place))
            self.places[hosts[rank]] = first, place + 1
        self.here = range(*self.places[self.host])

    def assigned(self, n: int, place: int) -> tuple[int, int]:
        """Return which of n things the rank in `place` has."""
        return block_bounds(n, place, self.size)

    def of_host(self, n: int, host: int) -> tuple[int, int]:
        """Return which of n things the ranks of a host have together."""
        first, stop = self.places[host]
        return self.assigned(n, first)[0], self.assigned(n, stop - 1)[1]


class Layout:
    """Parts by batch size: made once, and kept."""

    def __init__(self, make: Callable[[int], Parts]) -> None:
        self._make, self._kept = make, dict[int, Parts]()

    def __call__(self, batch_size: int) -> Parts:
        """Return the parts of a batch of so many rows."""
        if batch_size not in self._kept:
            if len(self._kept) >= 64:
                self._kept.clear()
            self._kept[batch_size] = self._make(batch_size)
        return self._kept[batch_size]
