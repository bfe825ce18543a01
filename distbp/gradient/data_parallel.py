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
from distbp.gradient.plan import Layout, Part, Parts, Seats
from distbp.gradient.shards import Section, sections_of_size, sections_within, shards, unit_edges
from distbp.gradient.statistics import Table
from distbp.gradient.tree import Node, Operation, Operations, add_up, additions, nodes
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape
from distbp.network.work import Leaves

__all__ = ["LEAF_SUMS", "DataParallel", "vectors_of"]

Array = NDArray[Any]
_PRODUCT_BYTES = 1 << 20
"""Bytes of gradient that one product gives: narrow ones are slow, and the sum of two should stay in the cache."""
_BLOCK_BYTES = 1 << 17
"""Bytes that one rank adds up and squares at a time, which stay in the cache."""
LEAF_SUMS = f"products of {_PRODUCT_BYTES} bytes, blocks of {_BLOCK_BYTES}, micro-batches by leaf, biases by np.add"
"""What the bits of exact mode depend on in this module; a checkpoint remembers it."""


def vectors_of(leaves: int, ranks: int, *, by_leaf: bool) -> int:
    """Return how many gradients a rank computes at most: one for each leaf, or node of the tree within its leaves."""
    shares = [block_bounds(leaves, place, ranks) for place in range(ranks)]
    return max(1, *(hi - lo if by_leaf else len(nodes((lo, hi), (0, leaves))) for lo, hi in shares))


class DataParallel:
    """A plan of leaves.

    Parameters
    ----------
    network : Network or FunctionModel
        Its gradient becomes a view of this plan's memory.
    memory : Memory
        Where gradients lie.
    seats : Seats
        The ranks.
    leaves : int, optional
        A fixed number of leaves: exact mode. By default one for each rank.
    rows : int
        Most rows of a leaf.
    micro_batch : int, optional
        Most rows of a leaf that are passed at once.
    apart : bool
        Whether a leaf goes through the passes by itself. Otherwise all leaves of a rank do it at once, but for their
        products, as long as what is computed of a row does not depend on the rows beside it.
    bucket : int, optional
        Parameters of a bucket, where buckets travel while others are computed.
    message : ndarray, optional
        Where the gradient lies, if it is a message.
    """

    def __init__(
        self,
        network: Network | FunctionModel,
        memory: Memory,
        seats: Seats,
        *,
        leaves: int | None = None,
        rows: int,
        micro_batch: int | None = None,
        apart: bool = False,
        bucket: int | None = None,
        message: Array | None = None,
    ) -> None:
        self._network, self._memory, self._seats = network, memory, seats
        self.exact, self.leaves = leaves is not None, seats.size if leaves is None else leaves
        self._most = rows if micro_batch is None else min(rows, micro_batch)
        self._mine = seats.assigned(self.leaves, seats.place)
        self._apart, by_leaf = apart or not network.dense, micro_batch is not None and micro_batch < rows
        self._sections, self._blocks = self._cut(bucket)
        edges = [lo for lo, _ in self._blocks] if self.exact else unit_edges(network).tolist()[:-1]
        owned = shards(np.array([*edges, network.n_parameters]), memory.owners)
        self.shard = owned[memory.rank] if memory.rank < memory.owners else slice(0, 0)
        self._nodes = self._nodes_of(seats.place, by_leaf)
        self._adds = memory.shared or by_leaf
        self.vectors: Sequence[Array] = self._allocate(vectors_of(self.leaves, seats.size, by_leaf=by_leaf), message)
        self.norm_blocks: Sequence[slice] = [slice(*b) for b in self._norm_blocks()] if self.exact else []
        tail = None if message is None else message[network.n_parameters :]
        self.table = Table(self.leaves if self.exact else 0, len(self._blocks) if self.exact else 1, tail)
        # what is complete once the ranks of a host have added it up is squared there, while it is in the cache
        self._measures_at_once = self._adds and memory.peers.size == 1
        self.measured: Sequence[tuple[int, slice]] = [] if self._measures_at_once else self._measured(message)
        self._additions = self._make_additions(by_leaf) if self._adds else []
        passed = self._mine[1] - self._mine[0]
        together = 0 if self._apart or by_leaf or passed < 2 else self._most * passed
        gradients = list(self._gradients[memory.rank * self._each :][: len(self._nodes)])
        self._products = NodeProducts(self._sections, list(zip(self._nodes, gradients, strict=True)), exact=self.exact)
        self._tapes = network.tapes(together)
        self._leaf_tapes = [network.tapes(self._most) for _ in range(max(1, passed))]
        self.parts = Layout(self._make_parts)

    def describe(self) -> str:
        """Say what the ranks of a host share."""
        return "gradients" if self._memory.shared else ""

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
        lo, hi = self._rows(batch_size)
        return hi - lo

    def travels(self) -> int:
        """Return 0: only gradients are sent."""
        return 0

    # --- memory ---------------------------------------------------------------------------------------

    def _cut(self, bucket: int | None) -> tuple[list[list[Section]], list[tuple[int, int]]]:
        """Return what one product gives, of each layer, and the blocks in which gradients are added up and squared."""
        network = self._network
        item, n = network.dtype.itemsize, network.n_parameters
        if self.exact:
            blocks = sections_of_size(network, _BLOCK_BYTES // item)
            sections = sections_of_size(network, _PRODUCT_BYTES // item)
            return sections, [(s.lo, s.hi) for of_layer in blocks for s in reversed(of_layer)]
        step = _BLOCK_BYTES // item
        blocks_of = [(lo, min(lo + step, n)) for lo in range(0, n, step)]
        return sections_within(network, slice(0, n), bucket), blocks_of

    def _norm_blocks(self) -> list[tuple[int, int]]:
        """Return the blocks of weights."""
        biases = {layer.bias.start for layer in self._network.layers if layer.bias.start < layer.bias.stop}
        return [block for block in self._blocks if block[0] not in biases]

    def _nodes_of(self, place: int, by_leaf: bool) -> list[Node]:
        lo, hi = self._seats.assigned(self.leaves, place)
        return [(leaf, leaf + 1) for leaf in range(lo, hi)] if by_leaf else nodes((lo, hi), (0, self.leaves))

    def _allocate(self, each: int, message: Array | None) -> list[Array]:
        """Return this rank's gradients; `_gradients` are those of all that share the memory."""
        network, memory = self._network, self._memory
        n = network.n_parameters
        if message is not None:
            self._gradients = message[None, :n]
        else:
            line = 64 // network.dtype.itemsize  # where a vector begins may settle the bits of its dot products
            apart = -(-n // line) * line
            copies = memory.size * each
            self._gradients = memory.allocate(copies * apart).reshape(copies, apart)[:, :n]
        self._each, self.common = each, self._gradients[0]
        mine = list(self._gradients[memory.rank * each : (memory.rank + 1) * each])
        for vector in mine:
            vector[:] = 0.0
        network.bind_gradient(mine[0])
        if not self._adds:
            return mine
        more = max(len(self.nodes_of_host(host)) for host in self._seats.places) - 1
        return [network.grad, *(np.zeros_like(network.grad) for _ in range(more))]

    def _measured(self, message: Array | None) -> list[tuple[int, slice]]:
        """Return the norm blocks that this rank measures; what rides in a message is not summed afterwards."""
        peers = self._memory.peers
        if not self.exact:
            return [(0, self.shard)] if message is not None or peers.rank == 0 else []
        own = range(self.shard.start, self.shard.stop)
        mine = [(k, slice(lo, hi)) for k, (lo, hi) in enumerate(self._blocks) if lo in own]
        return [(k, block) for k, block in mine if k % peers.size == peers.rank]  # each by one of them

    # --- the parts of a batch ---------------------------------------------------------------------------

    def _rows(self, batch_size: int) -> tuple[int, int]:
        lo, hi = self._mine
        if lo == hi:
            return 0, 0
        return block_bounds(batch_size, lo, self.leaves)[0], block_bounds(batch_size, hi - 1, self.leaves)[1]

    def _make_parts(self, batch_size: int) -> Parts:
        rounds = max(1, -(-batch_size // (self.leaves * self._most)))
        rows = self._rows(batch_size)
        made = [
            part
            for number in range(rounds)
            for part in self._round(batch_size, number, rows[0], sends=number == rounds - 1 and not self._adds)
        ]
        if self._adds:
            made[-1].operations[0] += [([(self._memory.barrier, ())], None), *self._additions]
        return Parts(rows, made)

    def _round(self, batch_size: int, number: int, start: int, *, sends: bool) -> Iterator[Part]:
        """Yield the parts of one micro-batch of each leaf; with the last one comes the gradient of all."""
        bounds = [part_bounds(batch_size, leaf, self.leaves, number, self._most) for leaf in range(self.leaves)]
        sizes, mine = [hi - lo for lo, hi in bounds], range(*self._mine)
        # a single row is another matter for NumPy and BLAS: where some leaf, or its last micro-batch, may have no more
        # than one, all are passed apart
        fits = self._most * self.leaves >= batch_size >= 2 * self.leaves
        together = self._tapes.capacity > 0 and fits
        groups = [mine] if together or not mine else [range(leaf, leaf + 1) for leaf in mine]
        passed: dict[int, tuple[Tape, slice]] = {}
        for k, leaves in enumerate(groups, 1):
            tape, rows_of = self._tape_of(leaves, sizes, together)
            lo, hi = (bounds[leaves[0]][0], bounds[leaves[-1]][1]) if leaves else (start, start)
            passed |= {leaf: (tape, mine_of) for leaf, mine_of in zip(leaves, rows_of, strict=True)}
            done = k == len(groups)
            nothing: list[Operations] = [[] for _ in self._network.layers]
            operations = self._products(passed, accumulates=number > 0, sends=sends) if done else nothing
            rows = slice(lo - start, hi - start)
            work = Leaves(len(self._network.layers), rows_of or (slice(0, 0),))
            part = Part(tape, work, rows, rows, operations)
            if self.exact:
                part.counted = slice(leaves.start, leaves.stop) if leaves else slice(self.leaves, self.leaves + 1)
            yield part

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

    def _make_additions(self, by_leaf: bool) -> Operations:
        """Return what adds up, block by block of the shard, the nodes of all ranks that share the memory."""
        room = max(hi - lo for lo, hi in self._blocks)
        dtype, levels = self._network.dtype, self.leaves.bit_length()
        scratch = [(np.empty(room, dtype), np.empty(room, dtype)) for _ in range(levels)]
        wanted = list(zip(self.nodes_of_host(self._seats.host), self.vectors, strict=False))
        theirs = [self._nodes_of(place, by_leaf) for place in self._seats.here]
        made: Operations = []
        for k, (start, stop) in reversed(list(enumerate(self._blocks))):
            block = slice(max(start, self.shard.start), min(stop, self.shard.stop))
            if block.start >= block.stop:
                continue
            given = {
                node: self._gradients[rank * self._each + i, block]
                for rank, of_rank in enumerate(theirs)
                for i, node in enumerate(of_rank)
            }
            operations: list[Operation] = []
            for node, vector in reversed(wanted):  # the first vector last: it is one of those that are added up
                if node not in given:
                    operations += additions(given, node, vector[block], scratch)
                elif not np.shares_memory(given[node], vector[block]):
                    operations.append((np.copyto, (vector[block], given[node])))
            if self._measures_at_once:
                operations.append((self.table.measure, (k if self.exact else 0, self._network.grad[block])))
            made.append((operations, block.start))
        return made
