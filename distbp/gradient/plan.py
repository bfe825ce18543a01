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
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.gradient.memory import Memory
from distbp.gradient.shards import Section, shards, unit_edges
from distbp.gradient.statistics import STATISTICS, Table
from distbp.gradient.tree import Operations
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape
from distbp.network.work import Work, leaf_sums

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
    counts : ndarray of shape (leaves, 7)
        Rows of the table of statistics where its leaves are counted.
    waits : bool
        Whether it begins when the ranks of the memory have done the part before, whose tape they all read.
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
    counts: Array
    waits: bool = False
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
        bad = 0 if math.isfinite(np.add.reduce(sums)) else n - np.count_nonzero(np.isfinite(losses))
        self.counts[0] += (0.0, n, hits, 0, bad, 0.0, groups)
        self.counts[:, _LOSS] += sums
        if groups:
            self.counts[:, _SQUARES] += squares


class Parts(NamedTuple):
    """The parts of a batch of one size: the rows of the batch that this rank takes, and the parts that it passes."""

    rows: tuple[int, int]
    parts: list[Part]


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
    places : dict of int to range
        Those of each memory.
    here : range
        Those of this one.
    """

    def __init__(self, comm: Communicator, memory: Memory) -> None:
        numbers: list[int] = comm.allgather_obj(memory.number)
        order = sorted(range(comm.size), key=numbers.__getitem__)
        self.place, self.size, self.host = order.index(comm.rank), comm.size, memory.number
        numbers.sort()
        self.places = {host: range(bisect_left(numbers, host), bisect_right(numbers, host)) for host in set(numbers)}
        self.here = self.places[self.host]

    def of_host(self, n: int, host: int) -> tuple[int, int]:
        """Return which of n things the ranks of a host have together."""
        places = self.places[host]
        return block_bounds(n, places[0], self.size)[0], block_bounds(n, places[-1], self.size)[1]


class Cut(NamedTuple):
    """How a batch and its gradient are cut.

    Attributes
    ----------
    leaves : int, optional
        A fixed number, whatever that of the ranks: exact mode.
    rows, passed : int
        Most rows of a leaf, and most of these that are passed at once.
    bucket : int, optional
        Parameters of a bucket, where buckets travel while others are computed.
    """

    leaves: int | None
    rows: int
    passed: int
    bucket: int | None = None


class Plan(ABC):
    """Decides who computes what; see above.

    Parameters
    ----------
    network : Network or FunctionModel
        Its gradient becomes a view of the plan's memory.
    memory : Memory
        Where the gradient lies, and what else ranks share.
    seats : Seats
        The ranks.
    cut : Cut
        How a batch and its gradient are cut.
    blocks : sequence of Section
        The norm blocks of exact mode, in order: each lies in one shard.
    message : ndarray, optional
        Where the gradient lies, and statistics behind it, if one message sums them.
    """

    leaves: int
    """Of a batch; where only the ranks of a host share units, of their rows."""
    vectors: Sequence[Array]
    """What travels between the peers; the first one is to hold the sum."""
    common: Array
    """A vector that all ranks of the memory see, between two steps."""
    measured: Sequence[tuple[int, slice]]
    """Norm blocks that this rank measures when the gradient is there: their numbers and places."""
    shares: str
    """What the ranks of a host share, in a few words."""

    def __init__(
        self,
        network: Network | FunctionModel,
        memory: Memory,
        seats: Seats,
        cut: Cut,
        blocks: Sequence[Section],
        message: Array | None = None,
    ) -> None:
        self._network, self._memory, self._seats, self._most = network, memory, seats, cut.passed
        self.exact, n = cut.leaves is not None, network.n_parameters
        edges = np.array([*(s.lo for s in blocks), n]) if self.exact else unit_edges(network)
        owned = shards(edges, memory.owners)
        self.shard = owned[memory.rank] if memory.rank < memory.owners else slice(0, 0)
        """The parameters that this rank updates, the same on all its peers."""
        self.norm_blocks = [slice(s.lo, s.hi) for s in blocks if not s.biases]
        """Of weights, where it matters in which order their squares are added up."""
        tail = None if message is None else message[n:]
        self._beside = len(blocks)
        more = len(network.embeddings) * cut.leaves if cut.leaves else 0
        self.table = Table(cut.leaves or 0, len(blocks) + more if self.exact else 1, tail)
        """Where this rank counts."""
        self._kept: dict[int, Parts] = {}

    def parts(self, batch_size: int) -> Parts:
        """Return the parts of a batch of so many rows; at least one, and the same number on all ranks of a team."""
        if batch_size not in self._kept:
            if len(self._kept) >= 64:
                self._kept.clear()
            self._kept[batch_size] = self._make_parts(batch_size)
        return self._kept[batch_size]

    @abstractmethod
    def _make_parts(self, batch_size: int) -> Parts: ...

    def measure_beside(self, block: int, gradient: Array) -> None:
        """Count the square of a part of the gradient that is not in the flat vector, in a block of its own."""
        self.table.measure(self._beside + block if self.exact else 0, gradient)

    @abstractmethod
    def work(self, batch_size: int) -> float:
        """Return what this rank computes in a step, in rows; 0 where that is too little to judge its pace by."""

    def describe(self) -> str:
        """Say in a few words what the ranks of a host share, or ""."""
        return self.shares if self._memory.shared else ""

    def travels(self) -> int:
        """Return how many activations and deltas are sent in a step, beside the vectors."""
        return 0
