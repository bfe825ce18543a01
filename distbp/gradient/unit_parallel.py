"""Units in cells: each rank computes some units of every layer for the rows of a team, and some of the gradient.

Where a batch is small beside the network, activations and deltas are few beside the parameters. So it is them that are
exchanged, not gradients: the ranks of a host keep them in memory that they share, hosts send them to each other. A
*cell* is some units of a layer. In each layer each cell has one product,

    z[:, cell] = a W[:, cell]                      delta[:, cell] = delta_above W_above[cell]^T

over all rows of the team, whatever rank or host has them, and so has each section of the gradient,

    dW[:, units] = a^T delta[:, units]

Only the last layer, whose loss wants all units of a row, goes by rows, in *leaves*. Nothing is added up in a team, and
each rank reads its share of the weights only.

The team of the plain mode are the ranks of a host, with one cell of a layer and one leaf for each; what the hosts have
is added up between them. The team of the exact mode are all ranks: the number of cells and sections is fixed, whoever
has them, and hosts send rows times units, layer by layer, and then their sections of the gradient.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.gradient.exchange import Exchange, Gather
from distbp.gradient.memory import Memory
from distbp.gradient.pace import row_numbers, share_of_work
from distbp.gradient.plan import Cut, Part, Parts, Plan, Seats
from distbp.gradient.shards import Section, sections_at, sections_within, shards, unit_edges
from distbp.gradient.tree import Operation, Operations
from distbp.network.dense import Network
from distbp.network.tape import Tape
from distbp.network.work import Cells, ones, span

Array = NDArray[Any]

_CELLS = 16
"""Into how many cells a layer is cut in exact mode, and the gradient into sections, at most; else one for each leaf."""
_CELL_UNITS = 64
"""Units of a cell at least: narrower products are slow."""
_SECTION_BYTES = 1 << 16
"""Bytes of gradient that one product of exact mode gives at least."""
_LEAF_ROWS = 16
"""Rows of a leaf of the last layer at least, in exact mode."""
_MEASURED = 1 << 16
"""Numbers of a gradient of the plain mode that are squared at once: they are in the cache still, and calls are few."""
CELL_PRODUCTS = (
    f"{_CELLS} cells of {_CELL_UNITS} units at least, leaves of {_LEAF_ROWS} rows, sections of {_SECTION_BYTES} bytes"
)
"""What the bits of exact mode depend on in this module; a checkpoint remembers it."""


class UnitParallel(Plan):
    """A plan of cells.

    In exact mode all ranks are one team. Otherwise it is the ranks of a host, with a leaf and a cell for each.

    Parameters
    ----------
    network, memory, seats, cut
        See `Plan`.
    gather : callable
        What brings together what several hosts of a team have computed.
    """

    shares = "the rows of a batch and the units of the network"
    _network: Network

    def __init__(self, network: Network, memory: Memory, seats: Seats, cut: Cut, gather: Gather) -> None:
        fixed = _fixed_sections(network, cut.leaves) if cut.leaves else []
        super().__init__(network, memory, seats, cut, [section for _, section in fixed])
        self._team = range(seats.size) if self.exact else seats.here
        self.leaves = cut.leaves or len(self._team)
        self._gather = gather if self.exact and len(seats.places) > 1 else None
        self._exchange = Exchange(memory, self._gather, network.dtype)
        self.common = memory.allocate(network.n_parameters)
        network.bind_gradient(self.common)
        self.vectors = [self.common]
        # what is not added up between hosts is squared when it is computed, while it is in the cache
        self._measures_at_once = self._gather is not None or memory.peers.size == 1
        self.measured = [] if self._measures_at_once or memory.peers.rank else [(0, self.shard)]
        if self.exact:
            self._sections = self._share_of_sections(fixed)
        else:
            layers = reversed(list(enumerate(sections_within(network, self.shard, cut.bucket))))
            self._sections = [(0, i, s) for i, of_layer in layers for s in of_layer]
        total = self._most * self.leaves
        self._tapes = network.tapes(
            total, own_rows=total if self.exact else self._most, allocate=memory.allocate,
            own=lambda units: _length(span(self._own_cells(units))),
        )  # fmt: skip
        leaves_of = self._cut_rows(total)
        rows_of = _length(span(leaves_of[self._assigned(len(leaves_of))])) / max(1, total)
        units = [_length(span(self._own_cells(n))) for n in network.sizes[1:-1]]
        part = share_of_work(network, units, rows_of, sum(s.hi - s.lo for _, _, s in self._sections))
        self._part_of_work = part * (len(self._team) / seats.size)

    def travels(self) -> int:
        """Return how many activations and deltas the hosts of a team send each other."""
        return self.leaves * self._most * row_numbers(self._network) if self._gather else 0

    def work(self, batch_size: int) -> float:
        """Return what this rank computes in a step, in rows; less than half of an even share is too little."""
        return batch_size * self._part_of_work if 2 * self._part_of_work * self._seats.size >= 1 else 0.0

    # --- who has which leaves, cells and sections -------------------------------------------------------

    def _assigned(self, n: int) -> slice:
        """Return which of n things of the team this rank has."""
        return slice(*block_bounds(n, self._seats.place - self._team.start, len(self._team)))

    def _cells(self, units: int) -> list[slice]:
        """Return the cells of a layer of so many units."""
        count, least = (min(_CELLS, self.leaves), _CELL_UNITS) if self.exact else (self.leaves, 1)
        width = max(least, -(-units // (4 * count)) * 4)  # a multiple of the width of the products' kernels
        return [slice(lo, min(lo + width, units)) for lo in range(0, units, width)]

    def _own_cells(self, units: int) -> list[slice]:
        cells = self._cells(units)
        return cells[self._assigned(len(cells))]

    def _cut_rows(self, total: int) -> list[slice]:
        """Return the leaves of some rows; in exact mode none has a single row beside others (see `data_parallel`)."""
        count = min(self.leaves, max(1, total // _LEAF_ROWS)) if self.exact else self.leaves
        return [slice(*block_bounds(total, leaf, count)) for leaf in range(count)]

    def _share_of_sections(self, fixed: list[tuple[int, Section]]) -> list[tuple[int, int, Section]]:
        """Return the sections of the shard that this rank computes, as its peers do others; each with its number."""
        own, peers = range(self.shard.start, self.shard.stop), self._memory.peers
        mine = [(k, i, s) for k, (i, s) in enumerate(fixed) if s.lo in own]
        edges = np.array([s.lo for _, _, s in mine] + [own.stop]) - own.start
        cut = shards(edges, peers.size) if mine else [slice(0, 0)] * peers.size
        self._pieces = [slice(piece.start + own.start, piece.stop + own.start) for piece in cut]
        longest = max(_length(piece) for piece in self._pieces) if peers.size > 1 else 0
        self._given = np.zeros(longest, self._network.dtype)
        self._received = np.empty((peers.size, longest), self._network.dtype)
        piece = self._pieces[peers.rank]
        return [(k, i, s) for k, i, s in mine if piece.start <= s.lo < piece.stop]

    # --- the parts of a batch ---------------------------------------------------------------------------

    def _make_parts(self, batch_size: int) -> Parts:
        seats = self._seats
        rows = (0, batch_size) if self.exact else seats.of_host(batch_size, seats.host)
        largest = batch_size if self.exact else -(-batch_size // seats.size) * self.leaves
        step = self._most * self.leaves
        starts = range(0, max(1, largest), step)
        total = rows[1] - rows[0]
        made = [
            self._make_part(min(start, total), min(start + step, total), first=start == 0, last=start == starts[-1])
            for start in starts
        ]
        return Parts(rows, made)

    def _make_part(self, start: int, stop: int, *, first: bool, last: bool) -> Part:
        """Return the part of rows `start` to `stop` - 1 of those of the team."""
        leaves = self._cut_rows(stop - start)
        counted = self._assigned(len(leaves))
        mine = span(leaves[counted])
        cells = [self._own_cells(units) for units in self._network.sizes[1:-1]]
        tape = self._tapes(
            _length(mine), first=mine.start, total=stop - start, units=[span(own) for own in cells],
            narrow=0 if self.exact else (stop - start) // self.leaves,
        )  # fmt: skip
        messages = self._exchange.messages(self._blocks(tape, leaves))
        of_rank = [slice(leaf.start - mine.start, leaf.stop - mine.start) for leaf in leaves[counted]]
        work = Cells(tape, cells, of_rank or [slice(0, 0)], lambda k: self._exchange(messages, k))
        operations: list[Operations] = [[] for _ in self._network.layers]
        operations[0] = self._operations(tape, accumulates=not first, last=last)
        rows, counts = slice(start + mine.start, start + mine.stop), self.table.of_leaves(counted.start, counted.stop)
        return Part(tape, work, rows, slice(start, stop), operations, counts, waits=not first)

    def _blocks(self, tape: Tape, leaves: list[slice]) -> Iterator[list[Array]]:
        """Yield the matrices of a tape as what the hosts write of each: leaves, or cells; inputs, and then deltas."""

        def of_hosts(things: list[slice]) -> list[slice]:
            return [span(things[slice(*self._seats.of_host(len(things), host))]) for host in self._exchange.hosts]

        def by_rows(matrix: Array) -> list[Array]:
            return [matrix[rows] for rows in of_hosts(leaves)]

        def by_units(matrix: Array) -> list[Array]:
            return [matrix[:, units] for units in of_hosts(self._cells(matrix.shape[1]))]

        yield by_rows(tape.inputs[0])
        yield from map(by_units, tape.inputs[1:])
        yield from map(by_units, tape.deltas[:-1])
        yield by_rows(tape.deltas[-1])

    def _operations(self, tape: Tape, *, accumulates: bool, last: bool) -> Operations:
        """Return what computes each section of this rank, in one product over all rows, and what is then left to do."""
        made: Operations = []
        top = 0  # of sections of one norm block, which lie in a row from the end towards 0
        for (block, i, section), below in zip_longest(self._sections, [other for other, *_ in self._sections[1:]]):
            a, delta = tape.inputs[i], tape.deltas[i][:, section.units]
            place = self._network.grad[section.lo : section.hi]
            out = self._scratch[: len(place)] if accumulates else place
            if section.biases:
                operations: list[Operation] = [(np.matmul, (ones(len(delta), delta.dtype), delta, out))]
            else:
                operations = [(np.matmul, (a.T, delta, out.reshape(-1, a.shape[1]).T))]
            if accumulates:
                operations.append((np.add, (place, out, place)))
            top = top or section.hi
            if last and self._measures_at_once and (below != block or top - section.lo >= _MEASURED):
                operations.append((self.table.measure, (block, self._network.grad[section.lo : top])))
                top = 0
            made.append((operations, section.lo if last and self._gather is None else None))
        if last and self._gather is not None:
            made.append(([(self._gather_sections, (self._gather,))], None))
        return made

    @cached_property
    def _scratch(self) -> Array:
        """Where a section is computed before it is added."""
        return np.empty(max(s.hi - s.lo for _, _, s in self._sections), self._network.dtype)

    def _gather_sections(self, gather: Gather) -> None:
        """Bring together what the peers have computed of the shard."""
        grad, me = self._network.grad, self._memory.peers.rank
        piece = self._pieces[me]
        self._given[: _length(piece)] = grad[piece]
        gather(self._given, self._received)
        for k, piece in enumerate(self._pieces):
            if k != me:
                grad[piece] = self._received[k, : _length(piece)]


def _length(s: slice) -> int:
    return int(s.stop - s.start)


def _fixed_sections(network: Network, leaves: int) -> list[tuple[int, Section]]:
    """Return the sections of exact mode, in order, with the number of their layer."""
    count = min(_CELLS, leaves)
    while count > 1 and network.theta.nbytes < count * _SECTION_BYTES:
        count //= 2
    edges = {shard.start for shard in shards(unit_edges(network), count)}
    return [(i, s) for i, of_layer in enumerate(sections_at(network, edges)) for s in reversed(of_layer)]
