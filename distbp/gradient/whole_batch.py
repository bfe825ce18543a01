"""Exact mode where a batch is small beside the network: products of all rows, cell by cell.

Activations and deltas of all rows are few then, beside the parameters. So it is them that come together, not
gradients: the ranks of a host keep them in memory that they share, hosts send them to each other. A *cell* is some
units of a layer, whose number does not depend on the ranks. In each layer each cell has one product,

    z[:, cell] = a W[:, cell]                      delta[:, cell] = delta_above W_above[cell]^T

over all rows of the batch, whatever rank or host has them, and so has each stretch of the gradient,

    dW[:, units] = a^T delta[:, units]

Only the last layer, whose loss wants all units of a row, goes by rows: in *leaves* of 16 rows at least, no more than
those that `exact` would have. Ranks share out cells, leaves and stretches; nothing is added up afterwards. Each rank
reads its share of the weights only, as by units in `tape`; and since products are as large as without leaves, it
matters little how many there are.

What hosts send is rows times units, layer by layer, and then their stretches of the gradient.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.gradient.exact import ExactReducer, Message, Operation, Part, Round, square_of
from distbp.gradient.reducer import row_numbers, stretches, unit_edges
from distbp.gradient.transport import Transport
from distbp.network.dense import Layer, Network, ones
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape, span

__all__ = ["CELLS", "WholeBatchReducer", "exact_reducer", "suits"]

Array = NDArray[Any]

_CELLS = 16
"""Into how many cells a layer is cut, and the gradient into stretches, at most; else one for each leaf."""
_CELL_UNITS = 64
"""Units of a cell at least: narrower products are slow."""
_STRETCH_BYTES = 1 << 16
"""Bytes of gradient that one product gives at least."""
_LEAF_ROWS = 16
"""Rows of a leaf of the last layer at least."""
_MOST = 1.5
"""Activations and deltas of a batch, as a part of the parameters, up to which this way is taken."""
CELLS = (
    f"{_CELLS} cells of {_CELL_UNITS} units at least, leaves of {_LEAF_ROWS} rows, stretches of {_STRETCH_BYTES} bytes,"
    f" up to {_MOST} n"
)
"""What the bits depend on in this module; a checkpoint remembers it."""


def exact_reducer(
    comm: Communicator,
    network: Network | FunctionModel,
    reduction: str,
    *,
    leaves: int,
    rows: int,
    apart: bool,
    bucket_bytes: int,
) -> ExactReducer:
    """The exact reducer that suits a network, and leaves of at most so many rows; whatever the ranks."""
    kind = WholeBatchReducer if not apart and suits(network, leaves, rows) else ExactReducer
    return kind(comm, network, reduction, leaves=leaves, rows=rows, apart=apart, bucket_bytes=bucket_bytes)


def suits(network: Network | FunctionModel, leaves: int, rows: int) -> bool:
    """Whether activations and deltas are what comes together, of leaves of at most so many rows."""
    return network.dense and leaves * rows * row_numbers(network) <= _MOST * network.n_parameters


class WholeBatchReducer(ExactReducer):
    """An `ExactReducer` whose products have all rows of a batch."""

    def _describe_messages(self, peers: int) -> str:
        mib, rows = 2.0**20 / self.network.dtype.itemsize, self.leaves * self._rows
        numbers, own = rows * row_numbers(self.network) / mib, (self.own.stop - self.own.start) / mib
        both = f"{numbers:.2f} MiB of activations and deltas and {own:.2f} MiB of gradient"
        return f"for {rows} rows at a time {both} of {peers} ranks"

    def _cut_layers(self, network: Network | FunctionModel) -> tuple[list[list[Part]], list[Part]]:
        count = min(_CELLS, self.leaves)
        while count > 1 and network.theta.nbytes < count * _STRETCH_BYTES:
            count //= 2
        edges = {stretch.start for stretch in stretches(unit_edges(network), count)}
        parts = [_cut(layer, edges) for layer in network.layers]
        return parts, list(chain.from_iterable(parts))

    def _what_to_share(self, rows: int) -> str:
        return "units"

    def _plan(self, rows: int) -> None:
        self._deal()
        self._rows = rows

        def allocate(n: int) -> Array:
            return np.empty(n, self.network.dtype) if self.group is None else self._allocate(n).array

        self._tapes = self.network.tapes(rows * self.leaves, allocate=allocate, by_cells=(self._own_cells, self._meet))

    def _cells(self, units: int) -> list[slice]:
        """Those of a layer of so many units."""
        width = max(_CELL_UNITS, -(-units // (4 * min(_CELLS, self.leaves))) * 4)
        return [slice(lo, min(lo + width, units)) for lo in range(0, units, width)]

    def _own_cells(self, units: int) -> list[slice]:
        cells = self._cells(units)
        return cells[self._dealt(cells, self._place)]

    def _count_vectors(self, comm: Communicator) -> int:
        return 1

    def _count_shared(self, network: Network | FunctionModel, rows: int) -> Callable[[int], int]:
        return lambda ranks: 2 * network.n_parameters + self.leaves * rows * row_numbers(network)

    def _to_send(self) -> list[Array]:
        return [self.network.grad]

    def _transport(self, peers: Communicator, compress: str) -> Transport:
        return Transport(peers, compress)  # which only gathers

    def _prepare(self, tiles: list[tuple[int, slice]]) -> None:
        """Share out the stretches of gradient that this rank owns among its peers, who own the same."""
        own, peers = self.own, self.transport.comm
        self._several_memories = len(self._leaves_of_host) > 1
        self._leads = self.group is None or self.group.rank == 0
        self._hosts: list[int] = peers.allgather_obj(self._host)
        edges = np.array([tile.start for _, tile in tiles] + [own.stop]) - own.start
        self._pieces = [slice(p.start + own.start, p.stop + own.start) for p in stretches(edges, peers.size)]
        piece = self._pieces[peers.rank]
        self._tiles = {tile.start: (k, tile) for k, tile in tiles if piece.start <= tile.start < piece.stop}
        longest = max(p.stop - p.start for p in self._pieces) if peers.size > 1 else 0
        self._given = np.zeros(longest, self.network.dtype)
        self._received = np.empty((peers.size, longest), self.network.dtype)
        self._buffer = np.zeros(0, self.network.dtype)
        sizes, total = self.network.sizes, self.leaves * self._rows
        mine = [span(self._own_cells(units)) for units in sizes[1:-1]]
        leaves = self._cut_rows(total)
        rows = span(leaves[self._dealt(leaves, self._place)])
        part_of_last = sizes[-1] * (rows.stop - rows.start) / max(1, total)
        computed = _passes(sizes, [*(units.stop - units.start for units in mine), part_of_last])
        computed += sum(tile.stop - tile.start for _, tile in self._tiles.values())
        self._part = computed / (_passes(sizes, sizes[1:]) + self.network.n_parameters)

    # --- one step -------------------------------------------------------------------------------------

    def share(self, batch_size: int) -> tuple[int, int]:
        """All rows of a batch: `parts` says which of them this rank passes."""
        return 0, batch_size

    def work(self, batch_size: int) -> float:
        """As the contract of `GradientReducer` says; less than half of an even share is too little."""
        return batch_size * self._part if 2 * self._part * self.comm.size >= 1 else 0.0

    def _make_round(self, batch_size: int, number: int, most: int) -> Round:
        """Round `number`: a stretch of the batch, cut in leaves."""
        start = number * most * self.leaves
        total = min(batch_size - start, most * self.leaves)
        leaves = self._cut_rows(total)
        mine = self._dealt(leaves, self._place)
        rows = span(leaves[mine])
        tape = self._tapes.of_leaves(tuple(leaf.stop - rows.start for leaf in leaves[mine]), 0, rows.start, total)
        messages = {}
        if self._several_memories and self._leads:
            messages = {id(matrix): self._message(of_hosts) for matrix, of_hosts in self._blocks(tape, leaves)}
        counted = mine if leaves[mine] else slice(self.leaves, self.leaves + 1)
        part = counted, slice(start + rows.start, start + rows.stop), tape
        return Round([part], [self._stretches(tape)], slice(start, start + total), messages)

    def _cut_rows(self, total: int) -> list[slice]:
        """The leaves of so many rows; none has a single row beside others, which is another matter for NumPy."""
        count = min(self.leaves, max(1, total // _LEAF_ROWS))
        return [slice(*block_bounds(total, leaf, count)) for leaf in range(count)]

    def _dealt(self, things: Sequence[object], first: int, last: int | None = None) -> slice:
        """Which of these the rank in place `first` has, or those up to place `last` - 1."""
        places = first, first if last is None else last - 1
        bounds = [block_bounds(len(things), place, self.comm.size) for place in places]
        return slice(bounds[0][0], bounds[1][1])

    def _blocks(self, tape: Tape, leaves: list[slice]) -> Iterator[tuple[Array, list[Array]]]:
        """The matrices of a tape, each with what the hosts write of it: leaves, or cells."""
        places = [self._places_of_host[host] for host in self._hosts]
        for matrix in tape.inputs[0], tape.deltas[-1]:
            yield matrix, [matrix[span(leaves[self._dealt(leaves, *of_host)])] for of_host in places]
        for matrix in *tape.inputs[1:], *tape.deltas[:-1]:
            cells = self._cells(matrix.shape[1])
            yield matrix, [matrix[:, span(cells[self._dealt(cells, *of_host)])] for of_host in places]

    def _message(self, blocks: list[Array]) -> Message:
        """What brings the block of each host to all of them."""
        hosts, length, me = len(blocks), max(block.size for block in blocks), self._hosts.index(self._host)
        if len(self._buffer) < (1 + hosts) * length:  # one message after the other uses it
            self._buffer = np.zeros((1 + hosts) * length, self.network.dtype)
        buffer = self._buffer[: (1 + hosts) * length].reshape(1 + hosts, length)
        send, receive = buffer[0], buffer[1:]
        others = [(block, _stored_as(block, receive[k])) for k, block in enumerate(blocks) if k != me]
        return send, receive, [(blocks[me], _stored_as(blocks[me], send))], others

    def _meet(self, matrix: Array) -> None:
        """For the tape: all ranks have come here, and see what the others have written of `matrix`."""
        self.barrier()
        if not self._several_memories:
            return
        if self._leads:
            send, receive, mine, others = self._round.messages[id(matrix)]
            for block, there in mine:
                np.copyto(there, block)
            self.transport.gather(send, receive)
            for block, there in others:
                np.copyto(block, there)
        self.barrier()

    def _stretches(self, tape: Tape) -> list[tuple[list[Operation], int]]:
        """One product over all rows for each stretch of the gradient that this rank computes, and its beginning."""

        def product(a: Array, delta: Array, units: slice | None, out: Array) -> Operation:
            if units is None:
                return np.matmul, (ones(len(delta), delta.dtype), delta, out)
            return np.matmul, (a.T, delta[:, units], out.reshape(-1, a.shape[1]).T)

        grad = self.network.grad
        return [
            ([product(a, delta, units, grad[lo:hi])], lo)
            for a, delta, parts in zip(tape.inputs, tape.deltas, self._products, strict=True)
            for units, lo, hi in parts
            if lo in self._tiles
        ]

    def gradient(self, layer: Layer, a: Array, delta: Array) -> None:
        """For `Network.backward`: the gradient of all layers, once all deltas are there."""
        if layer is not self.network.layers[0]:
            return
        for [(product, arguments)], lo in self._round.operations[0]:
            product(*arguments)
            if self._squares_at_once:
                k, tile = self._tiles[lo]
                self._squares[k] = square_of(self.network.grad[tile])
        if self._several_memories:
            self._gather_stretches()

    def _gather_stretches(self) -> None:
        """What the peers have computed of what this rank owns."""
        peers, grad = self.transport.comm, self.network.grad
        piece = self._pieces[peers.rank]
        self._given[: piece.stop - piece.start] = grad[piece]
        self.transport.gather(self._given, self._received)
        for k, piece in enumerate(self._pieces):
            if k != peers.rank:
                grad[piece] = self._received[k, : piece.stop - piece.start]


def _passes(sizes: Sequence[int], units: Sequence[float]) -> float:
    """Weights that so many units of each layer are multiplied with, forward and back."""
    forward = sum(n * mine for n, mine in zip(sizes, units, strict=False))
    return forward + sum(n * mine for n, mine in zip(sizes[2:], units, strict=False))


def _cut(layer: Layer, edges: Iterable[int]) -> list[Part]:
    """A layer, cut where some of its units begin, from the last to the first; its biases are not cut."""
    n, start, biases = layer.fan_in, layer.weights.start, layer.bias
    cuts = [start, *sorted(edge for edge in edges if start < edge < layer.weights.stop), layer.weights.stop]
    parts: list[Part] = [(None, biases.start, biases.stop)] if biases.start < biases.stop else []
    for lo, hi in reversed(list(pairwise(cuts))):
        parts.append((slice((lo - start) // n, (hi - start) // n), lo, hi))
    return parts


def _stored_as(block: Array, message: Array) -> Array:
    """A part of a message, in the shape of a block and in the order in which its numbers are stored."""
    flat = message[: block.size]
    by_unit = block.strides[0] < block.strides[1]
    return flat.reshape(block.shape[::-1]).T if by_unit else flat.reshape(block.shape)
