"""Exact mode: the same bits on any number of ranks.

Sums of rounded numbers depend on their order, and products on their shapes. So neither may depend on the
ranks. A batch is cut in V *leaves*, and every rank takes some in a row. Each leaf has products of its own,
with the shapes of a leaf, in one BLAS thread; its part of the gradient is computed a fixed number of units at
a time. Leaves are added up along one binary tree: the left child of a *node* has the largest power of two of
its leaves. For V = 5,

    (((l0 + l1) + (l2 + l3)) + l4)

A rank adds up the nodes that lie within its leaves, some units at a time while they are in the cache; the rest of
the tree is climbed where nodes of several ranks meet (Villa et al. 2009 name the trouble; a fixed tree is
the reproducible reduction of Demmel & Nguyen 2015, section 2, without their wider sums).

Where a batch is small beside the network there is another way to the gradient, without sums: `whole_batch`.

Losses are kept by leaf, and norms by *tile*, a fixed stretch of the parameters that one rank looks after; they are
added up in the order of leaves and of tiles.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds, part_bounds
from distbp.comm.communicator import Communicator
from distbp.gradient.reducer import BUCKET_BYTES, STATUS, GradientReducer
from distbp.gradient.transport import Transport
from distbp.network.dense import Layer, Network
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape, compact
from distbp.optim.norms import squared_norm

__all__ = ["SUMS", "ExactReducer", "add_up", "children", "nodes"]

Array = NDArray[Any]
Node = tuple[int, int]
"""Leaves lo to hi - 1."""
Part = tuple[slice | None, int, int]
"""Some units of a layer, with their first parameter and last + 1; None are the biases of all."""
Passed = Mapping[int, tuple[Tape, slice]]
"""Where the passes of each leaf write: tape, and rows of it."""
Operation = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of arrays and its arguments, the last of which is where the result goes."""
Message = tuple[Array, Array, list[tuple[Array, Array]], list[tuple[Array, Array]]]
"""What is sent and received, with the blocks that go into the one and come out of the other."""


class Round(NamedTuple):
    """What some rows of each leaf take; made once, and used in every batch of that size."""

    parts: list[tuple[slice, slice, Tape]]
    """Leaves that are passed at once, their rows, as the rank counts its own, and their tape."""
    operations: list[list[tuple[list[Operation], int]]]
    """What computes the gradient of each layer, part by part, with its first parameter."""
    seen: slice | None = None
    """Rows of the batch whose units are computed, where they are more than those that are passed; see `whole_batch`."""
    messages: Mapping[int, Message] = {}
    """What travels between hosts, by the `id` of the matrix; see `whole_batch`."""


_LEAF_PRODUCT_BYTES = 1 << 20
"""Bytes of gradient that one product gives: narrow ones are slow, and the sum of two should stay in the cache."""
_TILE_BYTES = 1 << 17
"""Bytes that one rank adds up and squares at a time, which stay in the cache."""
SUMS = f"products of {_LEAF_PRODUCT_BYTES} bytes, tiles of {_TILE_BYTES}, squared in one, biases and losses by np.add"
"""What the bits depend on in this module; a checkpoint remembers it."""


def children(node: Node) -> tuple[Node, Node]:
    """Left and right half of a node of at least two leaves."""
    lo, hi = node
    middle = lo + (1 << ((hi - lo - 1).bit_length() - 1))
    return (lo, middle), (middle, hi)


def nodes(leaves: Node, within: Node) -> list[Node]:
    """The fewest nodes below `within` that are the leaves `leaves` together, in their order."""
    lo, hi = max(leaves[0], within[0]), min(leaves[1], within[1])
    if lo >= hi:
        return []
    if (lo, hi) == within:
        return [within]
    return [node for child in children(within) for node in nodes((lo, hi), child)]


def add_up(given: Mapping[Node, Array], node: Node, out: Array | None = None) -> Array:
    """The sum of the leaves of `node` from nodes that are `given`: in `out`, else one of these or a new array.

    `out` is written last, and may be one of them.
    """
    if node not in given:
        left, right = (add_up(given, child) for child in children(node))
        return np.add(left, right, out=out)
    if out is None:
        return given[node]
    out[...] = given[node]
    return out


class ExactReducer(GradientReducer):
    """A `GradientReducer` whose sums do not depend on the number of ranks, their hosts, or the reduction.

    Parameters
    ----------
    leaves : int
        V, into which every batch is cut; more ranks have nothing to compute.
    rows : int
        Most rows of a leaf that are passed at once.
    apart : bool
        Whether a leaf goes through the passes by itself. Otherwise all leaves of a rank do it at once, but for their
        products, as long as what is computed of a row does not depend on the rows beside it.
    """

    def __init__(
        self,
        comm: Communicator,
        network: Network | FunctionModel,
        reduction: str = "auto",
        *,
        leaves: int,
        rows: int = 0,
        apart: bool = True,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        if leaves < 1:
            raise ValueError(f"a batch has at least 1 leaf, not {leaves}")
        self.leaves, self.root = leaves, (0, leaves)
        self._apart = apart
        self._products, tiles = self._cut_layers(network)
        self.tiles = [slice(lo, hi) for units, lo, hi in tiles if units is not None]
        self._all_tiles = sorted((lo, hi) for _, lo, hi in tiles)
        self.vectors = self._count_vectors(comm)
        super().__init__(comm, network, reduction, rows=rows, bucket_bytes=bucket_bytes)
        own, peers = range(self.own.start, self.own.stop), self.transport.comm
        mine = [(k, slice(lo, hi)) for k, (lo, hi) in enumerate(self._all_tiles) if lo in own]
        self._measured = [(k, tile) for k, tile in mine if k % peers.size == peers.rank]  # each tile by one of them
        self._prepare(mine)
        numbers = np.zeros((leaves + 1) * len(STATUS) + len(self._all_tiles))
        self._numbers, self._squares = numbers, numbers[(leaves + 1) * len(STATUS) :]
        self._by_leaf = numbers[: (leaves + 1) * len(STATUS)].reshape(leaves + 1, len(STATUS))
        self._accumulated: Array | None = None
        self._complete = self._squares_at_once = False

    def describe(self) -> str:
        """What travels in a step, for people."""
        idle = max(0, self.comm.size - self.leaves)
        return f"{super().describe()}, exact over {self.leaves} leaves" + f" ({idle} ranks have none)" * (idle > 0)

    def _count_vectors(self, comm: Communicator) -> int:
        shares = [block_bounds(self.leaves, place, comm.size) for place in range(comm.size)]
        return max(len(nodes(share, self.root)) for share in shares)

    def _cut_layers(self, network: Network | FunctionModel) -> tuple[list[list[Part]], list[Part]]:
        """What one product gives, of each layer, and the tiles of all."""
        item = network.dtype.itemsize
        products = [in_parts(layer, _LEAF_PRODUCT_BYTES // item) for layer in network.layers]
        widest = max(hi - lo for parts in products for _, lo, hi in parts)
        self._scratch = [np.empty(widest, network.dtype) for _ in range(self.leaves.bit_length())]
        return products, [tile for layer in network.layers for tile in in_parts(layer, _TILE_BYTES // item)]

    def _count_shared(self, network: Network | FunctionModel, rows: int) -> Callable[[int], int]:
        return lambda ranks: (1 + ranks * (self.vectors or 1)) * network.n_parameters

    def _what_to_share(self, rows: int) -> str:
        return "gradients"

    def _plan(self, rows: int) -> None:
        hosts, shares = self._deal()
        first = 0 if self.group is None else self.group.rank * (self.vectors or 1)
        self._vectors = list(self._gradients[first : first + (self.vectors or 1)])
        self._nodes = nodes(self._mine, self.root)
        here = [rank for rank in range(self.comm.size) if hosts[rank] == self._host]
        self._nodes_here = [nodes(shares[rank], self.root) for rank in here]
        self._nodes_of_host = {host: nodes(leaves, self.root) for host, leaves in self._leaves_of_host.items()}
        self._tapes = self.network.tapes(0 if self._apart else rows * (self._mine[1] - self._mine[0]))
        self._leaf_tapes = {leaf: self.network.tapes(rows) for leaf in range(*self._mine)}

    def _deal(self) -> tuple[list[int], dict[int, Node]]:
        """Deal out the leaves; the host of each rank, and its leaves."""
        comm, host = self.comm, self.comm.rank
        if self.group is not None:
            host = self.group.bcast_obj(comm.across_hosts().rank)
        hosts: list[int] = comm.allgather_obj(host)
        order = sorted(range(comm.size), key=lambda rank: (hosts[rank], rank))  # the leaves of a host lie in a row
        shares = {rank: block_bounds(self.leaves, place, comm.size) for place, rank in enumerate(order)}
        self._place, self._mine, self._host = order.index(comm.rank), shares[comm.rank], host
        self._leaves_of_host, self._places_of_host = {}, {}
        for h in hosts:
            places = [place for place, rank in enumerate(order) if hosts[rank] == h]
            first, last = places[0], places[-1]
            self._places_of_host[h] = first, last + 1
            self._leaves_of_host[h] = shares[order[first]][0], shares[order[last]][1]
        self._rounds: dict[tuple[int, int, int], Round] = {}
        return hosts, shares

    def _to_send(self) -> list[Array]:
        if self.group is None:
            return self._vectors
        more = max(map(len, self._nodes_of_host.values())) - 1
        return [self.network.grad, *(np.zeros_like(self.network.grad) for _ in range(more))]

    def _edges(self) -> Array:
        return np.array([lo for lo, _ in self._all_tiles] + [self.network.n_parameters])

    def _transport(self, peers: Communicator, compress: str) -> Transport:
        theirs = [self._nodes_of_host[host] for host in peers.allgather_obj(self._host)]

        def climb(received: Array, out: Array) -> None:
            given = {node: received[i, k] for i, of_peer in enumerate(theirs) for k, node in enumerate(of_peer)}
            add_up(given, self.root, out)

        return Transport(peers, compress, climb)

    # --- one step -------------------------------------------------------------------------------------

    def share(self, batch_size: int) -> tuple[int, int]:
        """Rows of a batch that this rank passes: first, and last + 1."""
        lo, hi = self._mine
        if lo == hi:
            return 0, 0
        return block_bounds(batch_size, lo, self.leaves)[0], block_bounds(batch_size, hi - 1, self.leaves)[1]

    def parts(self, batch_size: int, most: int, *, stop: bool = False) -> Iterator[tuple[slice, slice, Tape]]:
        """All leaves at once, or leaf by leaf; in rounds, where leaves have more than `most` rows."""
        self._refuse_if_closed()
        self._numbers[:] = 0.0
        self._by_leaf[-1, STATUS.index("stop")] = stop
        self._accumulated = None
        rounds = max(1, -(-batch_size // (self.leaves * most)))
        # a tile that is final when its ranks have added it up is squared there, while it is in the cache
        self._squares_at_once = self.group is not None and not self.sends and rounds == 1
        for number in range(rounds):
            key = batch_size, number, most
            if key not in self._rounds:
                if len(self._rounds) >= max(64, rounds):
                    self._rounds.clear()
                self._rounds[key] = self._make_round(*key)
            self._round = self._rounds[key]
            for k, (leaves, rows, tape) in enumerate(self._round.parts, 1):
                self.counts, self._complete = self._by_leaf[leaves], k == len(self._round.parts)
                yield rows, self._round.seen or rows, tape
            if number < rounds - 1:
                self._accumulate()

    def _make_round(self, batch_size: int, number: int, most: int) -> Round:
        """Round `number` of a batch."""
        bounds = [part_bounds(batch_size, leaf, self.leaves, number, most) for leaf in range(self.leaves)]
        sizes, start, mine = [hi - lo for lo, hi in bounds], self.share(batch_size)[0], range(*self._mine)
        # a single row is another matter for NumPy and BLAS: where some leaf, or its last round, may have no more than
        # one, all are passed apart
        at_once = not self._apart and most * self.leaves >= batch_size >= 2 * self.leaves
        parts: list[tuple[slice, slice, Tape]] = []
        passed: dict[int, tuple[Tape, slice]] = {}
        for leaves in [mine] if at_once and mine else [range(leaf, leaf + 1) for leaf in mine]:
            tape, rows = self._tape_of(leaves, sizes, at_once), slice(bounds[leaves[0]][0], bounds[leaves[-1]][1])
            parts.append((slice(leaves.start, leaves.stop), slice(rows.start - start, rows.stop - start), tape))
            passed |= {leaf: (tape, of_leaf) for leaf, of_leaf in zip(leaves, tape.leaves, strict=True)}
        if not mine:
            parts.append((slice(self.leaves, self.leaves + 1), slice(0, 0), self._tape_of(mine, sizes, at_once)))
        return Round(parts, self._operations(passed))

    def _tape_of(self, leaves: range, sizes: Sequence[int], at_once: bool) -> Tape:
        """Where leaves, of so many rows each, are passed together."""
        if not leaves:
            return self._tapes(0)
        if not at_once:
            return self._leaf_tapes[leaves[0]](sizes[leaves[0]])
        return self._tapes.of_leaves(tuple(accumulate(sizes[leaf] for leaf in leaves)), min(sizes))

    def _operations(self, passed: Passed) -> list[list[tuple[list[Operation], int]]]:
        """What computes the gradient of each layer, part by part, with its first parameter."""

        def of(i: int, units: slice | None, lo: int, hi: int) -> Iterator[Operation]:
            for vector, node in zip(self._vectors, self._nodes, strict=False):
                yield from self._node(passed, node, i, units, vector[lo:hi])

        return [[(list(of(i, *part)), part[1]) for part in parts] for i, parts in enumerate(self._products)]

    def gradient(self, layer: Layer, a: Array, delta: Array) -> None:
        """For `Network.backward`: once all leaves of this rank are there, the gradient of a layer."""
        if not self._complete:
            return
        for operations, lo in self._round.operations[self.network.layers.index(layer)]:
            for function, arguments in operations:
                function(*arguments)
            if self.group is None:
                self.send(lo)
        if self.group is not None and layer is self.network.layers[0]:
            self._add_up()

    def _node(
        self, passed: Passed, node: Node, i: int, units: slice | None, out: Array, depth: int = 0
    ) -> Iterator[Operation]:
        """Gradient of some units, flat, over the leaves of a node: of the biases, where `units` is None."""
        if node[1] - node[0] > 1:
            left, right = children(node)
            other = self._scratch[depth][: len(out)]
            yield from self._node(passed, left, i, units, out, depth + 1)
            yield from self._node(passed, right, i, units, other, depth + 1)
            yield np.add, (out, other, out)
            return
        tape, rows = passed[node[0]]
        a, delta = tape.inputs[i][rows], tape.deltas[i][rows]
        if units is None:
            yield np.add.reduce, (delta, 0, None, out)
        else:
            dW = out.reshape(-1, a.shape[1]).T
            yield _times_vector if 1 in dW.shape else np.matmul, (a.T, delta[:, units], dW)

    def _prepare(self, tiles: list[tuple[int, slice]]) -> None:
        """Once `own` and the transport are known: how the tiles that this rank owns are added up."""
        self._additions = [self._addition(k, tile) for k, tile in reversed(tiles)] if self.group is not None else []

    def _addition(self, k: int, tile: slice) -> tuple[int, slice, Mapping[Node, Array], list[tuple[Node, Array]]]:
        """What adds up tile `k`: nodes of the ranks of this host, and those that are wanted with where they go."""
        assert self.vectors is not None
        given = {
            node: self._gradients[rank * self.vectors + i, tile]
            for rank, theirs in enumerate(self._nodes_here)
            for i, node in enumerate(theirs)
        }
        wanted = [(n, v[tile]) for n, v in zip(self._nodes_of_host[self._host], self._sent_vectors, strict=False)]
        there = [n in given and np.shares_memory(given[n], v) for n, v in wanted]
        return k, tile, given, [pair for pair, done in zip(wanted, there, strict=True) if not done][::-1]

    def _add_up(self) -> None:
        """Climb the tree as far as the leaves of this host reach, in this rank's stretch, and send that."""
        self.barrier()
        for k, tile, given, wanted in self._additions:
            for node, out in wanted:  # the first vector last: it is one of those that are added up
                add_up(given, node, out)
            if self._squares_at_once:
                self._squares[k] = square_of(self.network.grad[tile])
            self.send(tile.start)

    def _accumulate(self) -> None:
        """Add what the leaves have so far to what they had before."""
        self.transport.wait()
        self._sent = self.own.stop
        mine = self.network.grad[self.own]
        if self._accumulated is None:
            self._accumulated = np.zeros_like(mine)
        self._accumulated += mine
        self.barrier()  # others may still read what the next round writes

    def wait(self) -> None:
        """As the contract of `GradientReducer` says."""
        self.transport.wait()
        self._sent = self.own.stop
        grad = self.network.grad
        if self._accumulated is not None:
            grad[self.own] += self._accumulated
        if not self._squares_at_once:
            for k, tile in self._measured:
                self._squares[k] = square_of(grad[tile])
        self.comm.allreduce(self._numbers)
        self.status = self._by_leaf.sum(axis=0)
        self.square = float(self._squares.sum())


def _times_vector(x: Array, y: Array, out: Array) -> None:
    """A product of a matrix and a vector, the same wherever they lie."""
    np.matmul(compact(x), compact(y), out=out)


def square_of(x: Array) -> float:
    """Sum of squares of a tile: one product, whose bits are those of one BLAS thread."""
    square = float(np.dot(x, x))
    return square if math.isfinite(square) else squared_norm(x)


def in_parts(layer: Layer, most: int) -> list[Part]:
    """A layer in parts of about `most` parameters: units, first parameter and last + 1, from the last to the first.

    The units of the part that has all biases, if there are any, are None.
    """
    n, start = layer.fan_in, layer.weights.start
    count = max(1, round(n * layer.fan_out / most))
    width = -(-layer.fan_out // (4 * count)) * 4
    parts = [slice(lo, min(lo + width, layer.fan_out)) for lo in reversed(range(0, layer.fan_out, width))]
    cut: list[Part] = []
    if layer.bias.start < layer.bias.stop:
        cut.append((None, layer.bias.start, layer.bias.stop))
    return cut + [(units, start + units.start * n, start + units.stop * n) for units in parts]
