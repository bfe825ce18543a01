"""Exact mode where a batch is small beside the network: its gradient in one product.

Activations and deltas of all rows are fewer than the parameters then. So it is them that come together, not
gradients: the ranks of a host keep them in memory that they share, hosts send them to each other, and

    dW[:, cell] = a^T delta[:, cell]        over all rows of the batch, whatever rank or host passed them

is one product whose shape does not depend on the ranks, since a *cell* is a fixed number of units. Ranks share
out the cells; nothing is added up afterwards. In the passes leaves have products of their own, as `exact` has it.

What hosts send is rows times units, and then their cells of the gradient; up to 4 hosts that is about an Allreduce
of it, or less. With more, which have few cells each or none, messages are as long as those of the one with most.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.communicator import Communicator
from distbp.exact import ExactReducer, Operation, Part, Passed, in_parts, square_of
from distbp.function_model import FunctionModel
from distbp.network import Layer, Network, ones
from distbp.reducer import row_numbers, stretches
from distbp.tape import Tape
from distbp.transport import Transport

__all__ = ["CELLS", "WholeBatchReducer", "exact_reducer", "suits"]

Array = NDArray[Any]

_CELLS = 16
"""In how many products the gradient is computed, or less: few are fast, many share out well."""
_CELL_BYTES = 1 << 18
"""Bytes of gradient that one product gives at least."""
_LEAVES = 4
"""From how many leaves on this way is taken as soon as it moves less; below only where it moves less by far."""
CELLS = f"{_CELLS} cells of {_CELL_BYTES} bytes at least, from {_LEAVES} leaves on"
"""What the bits depend on in this module; a checkpoint remembers it."""


def exact_reducer(
    comm: Communicator, network: Network | FunctionModel, reduction: str, *, leaves: int, rows: int, **options: Any
) -> ExactReducer:
    """The exact reducer that suits a network, and leaves of at most so many rows; whatever the ranks."""
    kind = WholeBatchReducer if suits(network, leaves, rows) else ExactReducer
    return kind(comm, network, reduction, leaves=leaves, rows=rows, **options)


def suits(network: Network | FunctionModel, leaves: int, rows: int) -> bool:
    """Whether activations and deltas are what comes together, of leaves of at most so many rows.

    They do where they are fewer than the parameters; with few leaves, which have few gradients to save, by far fewer.
    """
    few = min(1.0, leaves / _LEAVES) * network.n_parameters
    return network.dense and leaves * rows * row_numbers(network) <= few


class WholeBatchReducer(ExactReducer):
    """An `ExactReducer` that computes the gradient of all leaves in one product, cell by cell."""

    def _describe_messages(self, peers: int) -> str:
        mib = 2.0**20 / self.network.dtype.itemsize
        rows, cells = self.leaves * self._rows * row_numbers(self.network), self.own.stop - self.own.start
        return f"{rows / mib:.2f} MiB of activations and deltas and {cells / mib:.2f} MiB of gradient of {peers} ranks"

    def _cut_layers(self, network: Network | FunctionModel) -> tuple[list[list[Part]], list[Part]]:
        most = max(network.n_parameters // _CELLS, _CELL_BYTES // network.dtype.itemsize)
        cells = [in_parts(layer, most) for layer in network.layers]
        return cells, [cell for of_layer in cells for cell in of_layer]

    def _what_to_share(self, rows: int) -> str:
        return "rows"

    def _plan(self, rows: int) -> None:
        self._deal()
        self._rows = rows

        def allocate(n: int) -> Array:
            return np.empty(n, self.network.dtype) if self.group is None else self._allocate(n).array

        mine = self._mine[1] - self._mine[0]
        self._tapes = self.network.tapes(rows * mine, host_rows=rows * self.leaves, allocate=allocate)

    def _count_vectors(self, comm: Communicator) -> int:
        return 1

    def _count_shared(self, network: Network | FunctionModel, rows: int) -> Callable[[int], int]:
        return lambda ranks: 2 * network.n_parameters + self.leaves * rows * row_numbers(network)

    def _to_send(self) -> list[Array]:
        return [self.network.grad]

    def _transport(self, peers: Communicator, compress: str) -> Transport:
        return Transport(peers, compress)  # which only gathers

    def _prepare(self, tiles: list[tuple[int, slice]]) -> None:
        """Share out the cells of this rank's stretch among its peers, who own the same."""
        own, peers = self.own, self.transport.comm
        self._leads = self.group is None or self.group.rank == 0
        self._leaves_of_peers: list[list[int]] = peers.allgather_obj(list(self._leaves_of_host[self._host]))
        edges = np.array([cell.start for _, cell in tiles] + [own.stop]) - own.start
        self._pieces = [slice(p.start + own.start, p.stop + own.start) for p in stretches(edges, peers.size)]
        piece = self._pieces[peers.rank]
        self._cells = {cell.start: (k, cell) for k, cell in tiles if piece.start <= cell.start < piece.stop}
        longest = max(p.stop - p.start for p in self._pieces) if peers.size > 1 else 0
        self._given = np.zeros(longest, self.network.dtype)
        self._received = np.empty((peers.size, longest), self.network.dtype)
        most = max(hi - lo for lo, hi in self._leaves_of_peers) * self._rows * row_numbers(self.network)
        self._messages = np.zeros((1 + peers.size, most if self._leads and peers.size > 1 else 0), self.network.dtype)

    # --- one step -------------------------------------------------------------------------------------

    def _tape_of(self, leaves: range, sizes: Sequence[int], at_once: bool) -> Tape:
        """Their rows of the memory that holds those of all leaves."""
        ends = tuple(accumulate(sizes[leaf] for leaf in leaves)) or (0,)
        return self._tapes.of_leaves(ends, min(sizes), sum(sizes[: leaves.start]), sum(sizes))

    def _messages_of(self, tape: Tape, sizes: Sequence[int]) -> tuple[Any, ...]:
        """What is sent and received, with the rows that go into the one and come out of the other."""
        if self.transport.comm.size == 1 or not self._leads:
            return ()
        starts = [0, *accumulate(sizes)]
        rows = [slice(starts[lo], starts[hi]) for lo, hi in self._leaves_of_peers]
        matrices = [*tape.inputs, *tape.deltas]
        length = max(r.stop - r.start for r in rows) * row_numbers(self.network)
        send, receive = self._messages[0, :length], self._messages[1:].reshape(-1)[: len(rows) * length]
        receive = receive.reshape(len(rows), length)
        me = self.transport.comm.rank
        others = [pair for k, r in enumerate(rows) if k != me for pair in _blocks(matrices, r, receive[k])]
        return send, receive, _blocks(matrices, rows[me], send), others

    def _operations(self, tape: Tape, passed: Passed) -> list[list[tuple[list[Operation], int]]]:
        """One product over all rows for each cell of this rank."""

        def product(a: Array, delta: Array, units: slice | None, out: Array) -> Operation:
            if units is None:
                return np.matmul, (ones(len(delta), delta.dtype), delta, out)
            return np.matmul, (a.T, delta[:, units], out.reshape(-1, a.shape[1]).T)

        grad = self.network.grad
        return [
            [([product(a, delta, units, grad[lo:hi])], lo) for units, lo, hi in cells if lo in self._cells]
            for a, delta, cells in zip(tape.inputs, tape.deltas, self._products, strict=True)
        ]

    def gradient(self, layer: Layer, a: Array, delta: Array) -> None:
        """For `Network.backward`: the gradient of all layers, once all rows have been passed."""
        if not self._complete or layer is not self.network.layers[0]:
            return
        self.barrier()
        several_hosts = len(self._leaves_of_host) > 1  # of which not all have peers of this rank
        if several_hosts:
            self._gather_rows()
        for [(product, arguments)], lo in chain.from_iterable(self._round.operations):
            product(*arguments)
            if self._squares_at_once:
                k, cell = self._cells[lo]
                self._squares[k] = square_of(self.network.grad[cell])
        if several_hosts:
            self._gather_cells()

    def _gather_rows(self) -> None:
        """Activations and deltas of the rows of all hosts; one rank of each sees to it."""
        if self._leads:
            send, receive, mine, others = self._round.messages
            for block, there in mine:
                np.copyto(there, block)
            self.transport.gather(send, receive)
            for block, there in others:
                np.copyto(block, there)
        self.barrier()

    def _gather_cells(self) -> None:
        """What the peers have computed of this rank's stretch."""
        peers, grad = self.transport.comm, self.network.grad
        piece = self._pieces[peers.rank]
        self._given[: piece.stop - piece.start] = grad[piece]
        self.transport.gather(self._given, self._received)
        for k, piece in enumerate(self._pieces):
            if k != peers.rank:
                grad[piece] = self._received[k, : piece.stop - piece.start]


def _blocks(matrices: Sequence[Array], rows: slice, message: Array) -> list[tuple[Array, Array]]:
    """Some rows of each matrix, and where they lie in a message: in the order in which they are stored."""
    pairs, at = [], 0
    for matrix in matrices:
        block = matrix[rows]
        flat = message[at : at + block.size]
        by_unit = matrix.strides[0] < matrix.strides[1]
        pairs.append((block, flat.reshape(block.shape[::-1]).T if by_unit else flat.reshape(block.shape)))
        at += block.size
    return pairs
