"""The gradient of embeddings: of the values of a batch alone, from the rows of all ranks.

Tables of embeddings are not in the flat vectors. What changes them is delta_0 of each row of the batch, so it is these
rows that the ranks bring together, codes and all: in memory that they share, and in one message between memories.
There each rank adds up, in the order of the batch, the rows of some of the values that the batch has, and updates
these. Every memory has the whole tables, and all do the same.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.gradient.exchange import Gather
from distbp.gradient.memory import Memory
from distbp.gradient.plan import Part, Plan, Seats
from distbp.network.dense import Network
from distbp.network.embedding import WIDTH, by_value, sums

Array = NDArray[Any]


class Rows(NamedTuple):
    """The gradient of some rows of a table."""

    table: int
    """Number of the table in ``network.embeddings``."""
    values: Array
    """Which rows: (k,)."""
    gradient: Array
    """(k, width)."""


class EmbeddingRows:
    """Brings together the rows of a batch, and adds up those of each value.

    Parameters
    ----------
    network, memory, seats, plan
        Those of the reducer; the plan is one of leaves.
    gather : callable
        What brings together what memories have.
    batch_size : int
        Most rows of a batch.
    """

    def __init__(
        self, network: Network, memory: Memory, seats: Seats, plan: Plan, gather: Gather, batch_size: int
    ) -> None:
        self._network, self._memory, self._seats, self._plan, self._gather = network, memory, seats, plan, gather
        tables = len(network.embeddings)
        self._delta = memory.allocate(batch_size * WIDTH * tables).reshape(tables, batch_size, WIDTH)
        self._codes = memory.allocate(batch_size * tables).reshape(tables, batch_size)
        longest = max(hi - lo for lo, hi in (self._of_host(batch_size, host) for host in seats.places))
        sends = memory.rank == 0 and len(seats.places) > 1  # who has peers in every memory
        self._sent = np.zeros((tables, longest * sends, WIDTH + 1), network.dtype)
        self._received = np.empty((len(memory.peer_numbers), *self._sent.shape), network.dtype)
        parts = plan.leaves if plan.exact else memory.size
        self._parts = range(*block_bounds(parts, memory.rank, memory.size)), parts
        self._measures = memory.number == 0 or plan.table.rides

    def take(self, part: Part, start: int) -> None:
        """Take what the rows of a part have, whose first one is row `start` of the batch."""
        n, tables = len(part.X), len(self._delta)
        self._delta[:, start : start + n] = part.tape.delta_0.reshape(n, tables, WIDTH).swapaxes(0, 1)
        self._codes[:, start : start + n] = part.X[:, self._network.plain :].T

    def wait(self, n: int) -> list[Rows]:
        """Return the gradient of this rank's part of the values of the `n` rows of a batch, and count its square."""
        if len(self._seats.places) > 1:
            self._bring_together(n)
        made, (mine, parts) = [], self._parts
        for j, (delta, codes) in enumerate(zip(self._delta[:, :n], self._codes[:, :n], strict=True)):
            found = by_value(codes)
            cuts = [block_bounds(len(found.values), part, parts) for part in mine] or [(0, 0)]
            lo, hi = cuts[0][0], cuts[-1][1]
            gradient = sums(found, delta, lo, hi)
            if self._measures:
                for part, (first, stop) in zip(mine, cuts, strict=False):
                    self._plan.measure_beside(j * parts + part, gradient[first - lo : stop - lo].reshape(-1))
            made.append(Rows(j, found.values[lo:hi], gradient))
        return made

    def _of_host(self, n: int, host: int) -> tuple[int, int]:
        """Return which of the n rows of a batch the ranks of a memory have."""
        lo, hi = self._seats.of_host(leaves := self._plan.leaves, host)
        return (block_bounds(n, lo, leaves)[0], block_bounds(n, hi - 1, leaves)[1]) if lo < hi else (0, 0)

    def _bring_together(self, n: int) -> None:
        memory = self._memory
        memory.barrier()
        if memory.rank == 0:
            lo, hi = self._of_host(n, memory.number)
            sent = self._sent[:, : hi - lo]
            sent[:, :, :WIDTH], sent[:, :, WIDTH] = self._delta[:, lo:hi], self._codes[:, lo:hi]
            self._gather(self._sent, self._received)
            for host, rows in zip(memory.peer_numbers, self._received, strict=True):
                lo, hi = self._of_host(n, host)
                self._delta[:, lo:hi], self._codes[:, lo:hi] = rows[:, : hi - lo, :WIDTH], rows[:, : hi - lo, WIDTH]
        memory.barrier()
