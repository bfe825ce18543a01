"""Rows in leaves: each rank computes the gradient of its leaves, and gradients are added up.

A batch is cut in *leaves*, and every rank takes some in a row. Each leaf has products of its own; leaves are added up
along one binary tree (see `tree`). A rank adds up the nodes that lie within its leaves, section by section while they
are in the cache; where ranks share memory each adds up its shard of the nodes of all; the rest of the tree is climbed
where nodes of several memories arrive.

With as many leaves as ranks this is plain data-parallel training. With a fixed number the shapes of all products and
the order of all sums are those of the leaves, whoever has them: the same bits on any number of ranks (exact mode; then
the sections that one product gives, and the norm blocks, are of fixed length, too).

Where a rank never passes more than so many rows at once, a leaf goes through the passes in micro-batches, whose
gradients are added up in its own vector first.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds, part_bounds
from distbp.gradient.memory import Memory
from distbp.gradient.node_products import NodeProducts
from distbp.gradient.plan import Cut, Part, Parts, Plan, Seats
from distbp.gradient.shards import sections_of_size, sections_within
from distbp.gradient.tree import Node, Operation, Operations, add_up, additions, nodes
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape
from distbp.network.work import Leaves

Array = NDArray[Any]
_PRODUCT_BYTES = 1 << 20
"""Bytes of gradient that one product gives: narrow ones are slow, and the sum of two should stay in the cache."""
_BLOCK_BYTES = 1 << 17
"""Bytes that one rank adds up and squares at a time, which stay in the cache."""
LEAF_SUMS = f"products of {_PRODUCT_BYTES} bytes, blocks of {_BLOCK_BYTES}, micro-batches by leaf, biases by np.add"
"""What the bits of exact mode depend on in this module; a checkpoint remembers it."""


def vectors_of(leaves: int, ranks: int, *, by_leaf: bool) -> int:
    """Return how many gradients a rank computes at most."""
    return max(1, *(len(_nodes_of(place, ranks, leaves, by_leaf)) for place in range(ranks)))


def _nodes_of(place: int, ranks: int, leaves: int, by_leaf: bool) -> list[Node]:
    """Return those of which a rank computes a gradient: each of its leaves, or the nodes of the tree within them."""
    lo, hi = block_bounds(leaves, place, ranks)
    return [(leaf, leaf + 1) for leaf in range(lo, hi)] if by_leaf else nodes((lo, hi), (0, leaves))


class DataParallel(Plan):
    """A plan of leaves.

    Parameters
    ----------
    network, memory, seats, cut, message
        See `Plan`.
    apart : bool
        Whether a leaf goes through the passes by itself. Otherwise all leaves of a rank do it at once, but for their
        products, as long as what is computed of a row does not depend on the rows beside it.
    """

    shares = "gradients"

    def __init__(
        self,
        network: Network | FunctionModel,
        memory: Memory,
        seats: Seats,
        cut: Cut,
        *,
        apart: bool = False,
        message: Array | None = None,
    ) -> None:
        item, n = network.dtype.itemsize, network.n_parameters
        fixed = sections_of_size(network, _BLOCK_BYTES // item) if cut.leaves else []
        blocks = [section for of_layer in fixed for section in reversed(of_layer)]
        super().__init__(network, memory, seats, cut, blocks, message)
        if self.exact:
            sections = sections_of_size(network, _PRODUCT_BYTES // item)
            self._blocks = [slice(s.lo, s.hi) for s in blocks]
        else:
            sections = sections_within(network, slice(0, n), cut.bucket)
            step = _BLOCK_BYTES // item
            self._blocks = [slice(lo, min(lo + step, n)) for lo in range(0, n, step)]
        by_leaf = cut.passed < cut.rows
        self.leaves = cut.leaves or seats.size
        self._mine = range(*block_bounds(self.leaves, seats.place, seats.size))
        self._adds = memory.shared or by_leaf
        self.vectors = self._allocate(vectors_of(self.leaves, seats.size, by_leaf=by_leaf), message)
        # what is complete once the ranks of a host have added it up is squared there, while it is in the cache
        measures_at_once = self._adds and memory.peers.size == 1
        self.measured = [] if measures_at_once else self._measured(message)
        self._additions = self._make_additions(by_leaf, measures_at_once) if self._adds else []
        self._apart, passed = apart or not network.dense, len(self._mine)
        together = 0 if self._apart or by_leaf or passed < 2 else self._most * passed
        mine = _nodes_of(seats.place, seats.size, self.leaves, by_leaf)
        gradients = list(zip(mine, self._gradients[memory.rank], strict=False))
        self._products = NodeProducts(sections, gradients, exact=self.exact)
        self._tapes = network.tapes(together)
        self._leaf_tapes = [network.tapes(self._most) for _ in range(max(1, passed))]

    def nodes_of_host(self, host: int) -> list[Node]:
        """Return the nodes that the ranks of a memory have together, and send; without exact mode all in one sum."""
        leaves = self._seats.of_host(self.leaves, host)
        return nodes(leaves, (0, self.leaves) if self.exact else leaves)

    def add_received(self, received: Array, out: Array) -> None:
        """Climb the rest of the tree: from what the peers sent (peers, vectors, n) to the sum (n,) in `out`."""
        theirs = enumerate(map(self.nodes_of_host, self._memory.peer_numbers))
        given = {node: received[i, k] for i, of_peer in theirs for k, node in enumerate(of_peer)}
        add_up(given, (0, self.leaves), out)

    def work(self, batch_size: int) -> float:
        """Return the rows that this rank passes."""
        lo, hi = self.parts(batch_size).rows
        return hi - lo

    # --- memory ---------------------------------------------------------------------------------------

    def _allocate(self, each: int, message: Array | None) -> list[Array]:
        """Return what travels; `_gradients` (ranks, each, n) are those of all that share the memory."""
        network, memory = self._network, self._memory
        n = network.n_parameters
        if message is not None:
            self._gradients = message[None, None, :n]
        else:
            line = 64 // network.dtype.itemsize  # where a vector begins may settle the bits of its dot products
            apart = -(-n // line) * line
            numbers = memory.allocate(memory.size * each * apart)
            self._gradients = numbers.reshape(memory.size, each, apart)[:, :, :n]
        self.common, mine = self._gradients[0, 0], list(self._gradients[memory.rank])
        for vector in mine:
            vector[:] = 0.0
        network.bind_gradient(mine[0])
        if not self._adds:
            return mine
        more = max(len(self.nodes_of_host(host)) for host in self._seats.places) - 1
        return [network.grad, *(np.zeros_like(network.grad) for _ in range(more))]

    def _measured(self, message: Array | None) -> list[tuple[int, slice]]:
        """Return the norm blocks that this rank measures; what rides in a message is not summed afterwards."""
        peers, own = self._memory.peers, range(self.shard.start, self.shard.stop)
        if not self.exact:
            return [(0, self.shard)] if message is not None or peers.rank == 0 else []
        mine = [(k, block) for k, block in enumerate(self._blocks) if block.start in own]
        return [(k, block) for k, block in mine if k % peers.size == peers.rank]  # each by one of them

    # --- the parts of a batch ---------------------------------------------------------------------------

    def _make_parts(self, batch_size: int) -> Parts:
        bounds = [block_bounds(batch_size, leaf, self.leaves) for leaf in self._mine] or [(0, 0)]
        rows = bounds[0][0], bounds[-1][1]
        rounds = max(1, -(-batch_size // (self.leaves * self._most)))
        made: list[Part] = []
        for number in range(rounds):
            sends = number == rounds - 1 and not self._adds
            made += self._round(batch_size, number, rows[0], sends=sends)
        if self._adds:  # once all nodes of the ranks that share the memory are there
            made[-1].operations[0] += [([(self._memory.barrier, ())], None), *self._additions]
        return Parts(rows, made)

    def _round(self, batch_size: int, number: int, start: int, *, sends: bool) -> Iterator[Part]:
        """Yield the parts of one micro-batch of each leaf; with the last one comes the gradient of all."""
        bounds = [part_bounds(batch_size, leaf, self.leaves, number, self._most) for leaf in range(self.leaves)]
        sizes, mine = [hi - lo for lo, hi in bounds], self._mine
        # a single row is another matter for NumPy and BLAS: where some leaf, or its last micro-batch, may have no more
        # than one, all are passed apart
        fits = self._most * self.leaves >= batch_size >= 2 * self.leaves
        together = self._tapes.capacity > 0 and fits
        groups = [mine] if together or not mine else [range(leaf, leaf + 1) for leaf in mine]
        passed: dict[int, tuple[Tape, slice]] = {}
        for leaves in groups:
            tape, rows_of = self._tape_of(leaves, sizes, together)
            lo, hi = (bounds[leaves[0]][0], bounds[leaves[-1]][1]) if leaves else (start, start)
            passed |= {leaf: (tape, mine_of) for leaf, mine_of in zip(leaves, rows_of, strict=True)}
            operations: list[Operations] = [[] for _ in self._network.layers]
            if leaves is groups[-1]:
                operations = self._products(passed, accumulates=number > 0, sends=sends)
            rows = slice(lo - start, hi - start)
            work = Leaves(len(self._network.layers), rows_of or (slice(0, 0),))
            yield Part(tape, work, rows, rows, operations, self.table.of_leaves(leaves.start, leaves.stop))

    def _tape_of(self, leaves: range, sizes: Sequence[int], together: bool) -> tuple[Tape, list[slice]]:
        """Return where leaves, of so many rows each, are passed together, and their rows of the tape."""
        if not leaves:
            return self._leaf_tapes[0](0), []
        if not together:
            n = sizes[leaves[0]]
            return self._leaf_tapes[leaves[0] - self._mine[0]](n), [slice(0, n)]
        ends = list(accumulate(sizes[leaf] for leaf in leaves))
        rows = [slice(end - sizes[leaf], end) for leaf, end in zip(leaves, ends, strict=True)]
        return self._tapes(ends[-1], narrow=min(sizes)), rows

    # --- sums -------------------------------------------------------------------------------------------

    def _make_additions(self, by_leaf: bool, measures: bool) -> Operations:
        """Return what adds up, block by block of the shard, the nodes of all ranks that share the memory."""
        room = max(block.stop - block.start for block in self._blocks)
        dtype, levels = self._network.dtype, self.leaves.bit_length()
        scratch = [(np.empty(room, dtype), np.empty(room, dtype)) for _ in range(levels)]
        wanted = list(zip(self.nodes_of_host(self._seats.host), self.vectors, strict=False))
        theirs = [_nodes_of(place, self._seats.size, self.leaves, by_leaf) for place in self._seats.here]
        made: Operations = []
        for k, whole in reversed(list(enumerate(self._blocks))):
            block = slice(max(whole.start, self.shard.start), min(whole.stop, self.shard.stop))
            if block.start >= block.stop:
                continue
            given = {
                node: self._gradients[rank, i, block]
                for rank, of_rank in enumerate(theirs)
                for i, node in enumerate(of_rank)
            }
            operations: list[Operation] = []
            for node, vector in reversed(wanted):  # the first vector last: it is one of those that are added up
                if node not in given:
                    operations += additions(given, node, vector[block], scratch)
                elif not np.shares_memory(given[node], vector[block]):
                    operations.append((np.copyto, (vector[block], given[node])))
            if measures:
                operations.append((self.table.measure, (k if self.exact else 0, self._network.grad[block])))
            made.append((operations, block.start))
        return made
