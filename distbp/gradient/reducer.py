"""Gradient reduction: how the ranks' parts of a batch become one gradient.

The ranks that share memory are a *group*, and each of them owns one stretch of the parameters: it adds
up the gradient there and updates them there. Ranks of other hosts that own the same stretch are its
*peers*; only they send messages.

    allreduce   every rank is a group of its own and owns everything; all ranks are peers
    overlap     the same; pieces of the gradient are on their way while those below are computed
    shared      the ranks of a host are a group. Parameters lie in memory that they share
                (Win.Allocate_shared), and optimiser work and memory are divided by its ranks (the
                division is that of Rajbhandari et al. 2020, stage 1, without its messages)

What the ranks of a group share besides depends on what is smaller, and `SHARING` says it:

    gradients   each rank adds up its stretch of the gradients of all
    rows        between hosts, whose messages then hide behind the products: the ranks share activations
                and deltas, and each computes its stretch of the gradient from the rows of all of them,
                with the sum over the ranks inside the product,

                    dW[:, mine] = [a_rank0; a_rank1; ...]^T [delta_rank0; delta_rank1; ...][:, mine]

    units       where a batch is small beside the network: as rows, and each rank computes its share of
                the units in both passes, so that it reads its share of the weights only (see `tape`)

Ranks add sums; the trainer has divided by the global batch size. With the gradient goes the *status*,
numbers whose sum every rank sees: all log, skip and stop at the same step. In a plain Allreduce it
rides behind the gradient in one message; the network writes its gradient straight into it.

Backpropagation finishes the gradient from its end, so what is on its way is a suffix, cut between units
(Li et al. 2020, section 3.2.3, have buckets of whole parameters).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds, part_bounds
from distbp.comm.communicator import Communicator, SharedMemory
from distbp.errors import UserError
from distbp.gradient.transport import Transport
from distbp.network.dense import Layer, Network
from distbp.network.function_model import FunctionModel
from distbp.network.tape import Tape
from distbp.optim.norms import squared_norm

__all__ = ["BUCKET_BYTES", "REDUCTIONS", "STATUS", "GradientReducer", "choose_reduction", "stretches"]

Array = NDArray[Any]

STATUS = ("loss", "rows", "hits", "stop", "nonfinite", "squares", "groups")
REDUCTIONS = ("auto", "allreduce", "overlap", "shared")
BUCKET_BYTES = 1 << 18
"""About the bytes of a piece of the gradient that travels while others are computed."""

SHARING = {
    "gradients": "gradients",
    "rows": "the rows of a batch",
    "units": "the rows of a batch and the units of the network",
}

_UNITS_BELOW = 0.4
"""Activations and deltas of a rank, as a part of the parameters, below which ranks share units."""

_PRODUCT_BYTES = 1 << 20
"""Bytes of gradient that one product gives at least, while others are on their way: narrow ones are slow."""

_OVERLAP_FROM = 1 << 18
"""Bytes of gradient from which sending it in pieces pays between hosts."""


def choose_reduction(
    comm: Communicator, network: Network | FunctionModel, rows: int, shared: Callable[[int], int] | None = None
) -> str:
    """What ``auto`` is: `shared` where every host has several ranks and room, else by the size of the gradient.

    Ranks that may die each keep everything. ``shared(n)`` numbers are shared for sure by n ranks of a host, if given.
    """
    if comm.size == 1:
        return "allreduce"
    if (
        not comm.elastic
        and min(comm.allgather_obj(comm.on_host().size)) > 1
        and not _lacks_room(comm, network, rows, shared)
    ):
        return "shared"
    return "overlap" if network.theta.nbytes >= _OVERLAP_FROM else "allreduce"


def row_numbers(network: Network | FunctionModel) -> int:
    """Activations and deltas of one row."""
    return network.sizes[0] + sum(network.sizes[1:-1]) + sum(network.sizes[1:])


def choose_sharing(comm: Communicator, network: Network | FunctionModel, rows: int) -> str:
    """What the ranks of a host share in `shared`; the same on all ranks."""
    if not network.dense:
        return "gradients"
    small = rows * row_numbers(network) < _UNITS_BELOW * network.n_parameters
    # a dropout mask is made by rows; and to meet often costs more than it brings where ranks take turns on a core
    if small and not network.dropout and not comm.crowded:
        return "units"
    several_hosts = max(comm.allgather_obj(comm.across_hosts().size)) > 1
    return "rows" if several_hosts else "gradients"


def _lacks_room(
    comm: Communicator, network: Network | FunctionModel, rows: int, shared: Callable[[int], int] | None
) -> str:
    """Why some host cannot share what `shared` needs, or ""; the same on all ranks."""
    n, ranks = network.n_parameters, comm.on_host().size
    if shared is not None:
        numbers = shared(ranks)
    else:
        joint = choose_sharing(comm, network, rows) != "gradients"
        numbers = n + (n + ranks * rows * row_numbers(network) if joint else ranks * n)
    needed, free = numbers * network.dtype.itemsize, comm.shared_free()
    said = f"/dev/shm of {comm.host} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed"
    lacking: list[str] = [text for text in comm.allgather_obj(said if needed > free else "") if text]
    return lacking[0] if lacking else ""


def unit_edges(network: Network | FunctionModel) -> Array:
    """Where stretches may be cut: between units, at a multiple of 4 where there are many (the products' kernels)."""
    edges = [0]
    for layer in network.layers:
        step = layer.fan_in * (4 if layer.fan_out >= 32 else 1)
        edges += [*range(layer.weights.start + step, layer.weights.stop, step), layer.bias.start, layer.bias.stop]
    return np.array(edges)


def stretches(edges: Array, parts: int) -> list[slice]:
    """The parameters in `parts` stretches of about the same length, cut at `edges`, which are in order."""
    ideal = edges[-1] * np.arange(1, parts) / parts
    above = np.searchsorted(edges, ideal)
    nearer = above - (ideal - edges[above - 1] < edges[above] - ideal)
    cuts = [0, *edges[nearer].tolist(), int(edges[-1])]
    return [slice(lo, hi) for lo, hi in zip(cuts, cuts[1:], strict=False)]


class GradientReducer:
    """Sums the gradient of `network` over the ranks of `comm`; its parameters move into shared memory.

    Parameters
    ----------
    comm : Communicator
        The ranks; all make the same calls in the same order.
    network : Network or FunctionModel
        Gradient, and for `shared` parameters, become views of this object's memory.
    reduction : {"auto", "allreduce", "overlap", "shared"}
        See above; ``auto`` is what `choose_reduction` says.
    rows : int
        Most rows that a rank passes at once, for `shared`.
    bucket_bytes : int
        About the bytes of a piece of `overlap`, and of what the hosts of `shared` exchange.
    compress : {"none", "bf16", "fp16"}
        What travels between ranks that do not share memory; see `distbp.gradient.transport`.

    Attributes
    ----------
    own : slice
        The parameters that this rank updates, the same on all its peers.
    counts : ndarray of shape (leaves, 7)
        Where the numbers named in `STATUS` are added for a part, those of its rows; one leaf, but for `exact`.
    status : ndarray of shape (7,)
        Their sums over all ranks, after `wait`.
    square : float
        Squared norm of the whole gradient, after `wait`.
    reduction : str
        What was chosen.
    sharing : str
        What the ranks of a host share in `shared`, a key of `SHARING`; "" in all else.
    sends, in_pieces : bool
        Whether gradient travels in messages at all, and while other parts of it are computed.
    """

    vectors: int | None = None
    """Gradients that a rank computes, where that does not depend on what is shared; see `exact`."""
    tiles: Sequence[slice] = ()
    """Stretches of weights whose norms are computed apart, where it matters; see `exact`."""

    def __init__(
        self,
        comm: Communicator,
        network: Network | FunctionModel,
        reduction: str = "auto",
        *,
        rows: int = 0,
        bucket_bytes: int = BUCKET_BYTES,
        compress: str = "none",
    ) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"unknown reduction {reduction!r}: one of {', '.join(REDUCTIONS)}")
        if reduction == "shared" and comm.elastic:
            raise UserError(
                "--reduction shared: each rank keeps a part of the optimizer's state, which would be lost with it;"
                " --reduction auto, or --no-elastic"
            )
        self.comm, self.network = comm, network
        shared = self._count_shared(network, rows)
        self.reduction = reduction if reduction != "auto" else choose_reduction(comm, network, rows, shared)
        self.group: Communicator | None = None
        self._memory: list[SharedMemory] = []
        n = network.n_parameters
        self._counted, self.sharing = True, ""
        self._places: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        if self.reduction == "shared":
            if problem := _lacks_room(comm, network, rows, shared):
                raise UserError(f"{problem}: make it larger (docker run --shm-size), or --reduction allreduce")
            self.message = np.zeros(0, network.dtype)
            peers = self._share(rows)
        else:
            copies = self.vectors or 1
            self.message = np.zeros(copies * n + len(STATUS), network.dtype)
            peers, self.own = comm, slice(0, n)
            self._gradients = self.message[: copies * n].reshape(copies, n)
            network.bind_gradient(self._gradients[0])
            self._plan(rows)
        rides = self.group is None and compress == "none" and self.reduction != "overlap" and self.vectors is None
        self.status = self.message[n:] if rides else np.zeros(len(STATUS), np.float64)
        self.counts = self.status.reshape(1, -1)
        self._rides, self._sums, self.square = rides, np.zeros(len(STATUS) + 1), 0.0
        self.transport = self._transport(peers, compress)
        self.sends = peers.size > 1
        self.in_pieces = self.sends and self.reduction != "allreduce"
        self._bucket_bytes = bucket_bytes
        self._bucket = max(1, bucket_bytes // network.dtype.itemsize) if self.in_pieces else network.n_parameters
        self.pieces = {layer.weights.start: self._cut(layer) for layer in network.layers}
        self._first = self._last = True
        self._closed = False
        self._sent = self.own.stop
        self._sent_vectors = self._to_send()

    def describe(self) -> str:
        """What travels in a step, for people."""
        if self.comm.size == 1:
            return "reduction: none, one rank"
        parts = [f"reduction: {self.reduction}"]
        if self.group is not None:
            parts.append(f"{self.group.size} ranks of a host share {SHARING[self.sharing]}")
        if self.sends:
            parts.append(f"each step {self._describe_messages(self.transport.comm.size)}")
        return ", ".join(parts)

    def _describe_messages(self, peers: int) -> str:
        mib = 2.0**20
        sent = (self.own.stop - self.own.start) * self.network.dtype.itemsize * len(self._sent_vectors)
        sent //= 1 if self.transport.compress == "none" else 2
        pieces = "" if not self.in_pieces else f" in pieces of {self._bucket_bytes / mib:.2f} MiB"
        kind = "" if self.transport.compress == "none" else f" as {self.transport.compress}"
        return f"a sum over {peers} ranks of {sent / mib:.2f} MiB{kind}{pieces}"

    # --- memory that the ranks of a host share --------------------------------------------------------

    def _share(self, rows: int) -> Communicator:
        """Put parameters, gradient and tapes where the group sees them; the peers of this rank."""
        comm, network = self.comm, self.network
        self.group = group = comm.on_host()
        peers = comm.across_hosts()
        hosts = comm.allgather_obj(-1 if group.rank else group.size)
        owners = min(size for size in hosts if size > 0)  # a host with more ranks has some that own nothing
        ends = stretches(self._edges(), owners)
        self.own = ends[group.rank] if group.rank < owners else slice(0, 0)
        self._counted = peers.rank == 0
        n = network.n_parameters
        theta = self._allocate(n)
        theta.array[self.own] = network.theta[self.own]
        self.sharing, each = self._what_to_share(rows), self.vectors or 1
        copies = group.size * each if self.sharing == "gradients" else 1
        line = 64 // network.dtype.itemsize  # where a vector begins may settle the bits of its dot products
        apart = -(-n // line) * line
        self._gradients = self._allocate(copies * apart).array[: copies * apart].reshape(copies, apart)[:, :n]
        network.bind_gradient(self._gradients[group.rank * each % copies])
        self._plan(rows)
        theta.barrier()
        network.bind_parameters(theta.array)
        self._theta = theta
        return peers

    def _count_shared(self, network: Network | FunctionModel, rows: int) -> Callable[[int], int] | None:
        """How many numbers so many ranks of a host share; None: it depends on `choose_sharing`."""
        return None

    def _what_to_share(self, rows: int) -> str:
        return choose_sharing(self.comm, self.network, rows)

    def _plan(self, rows: int) -> None:
        """Where this rank passes its rows."""
        group = self.group
        if group is None or self.sharing == "gradients":
            self._sharers, self._tapes = [self.comm.rank], self.network.tapes(rows)
            return
        self._sharers = group.allgather_obj(self.comm.rank)
        self._tapes = self.network.tapes(
            rows, host_rows=rows * group.size, allocate=lambda n: self._allocate(n).array,
            by_units=(group.rank, group.size, lambda: self.barrier()) if self.sharing == "units" else None,
        )  # fmt: skip

    def _to_send(self) -> list[Array]:
        return [self.network.grad]

    def _edges(self) -> Array:
        return unit_edges(self.network)

    def _transport(self, peers: Communicator, compress: str) -> Transport:
        return Transport(peers, compress)

    def _allocate(self, n: int) -> SharedMemory:
        assert self.group is not None
        self._memory.append(self.group.shared(max(1, n), self.network.dtype))
        return self._memory[-1]

    def barrier(self) -> None:
        """All ranks of this host have come here, and see what the others have written."""
        if self.group is not None:
            self._theta.barrier()

    def total(self, numbers: Array) -> None:
        """Replace numbers about `own` by their sums over all parameters."""
        if self.group is not None:
            if not self._counted:
                numbers[...] = 0.0
            self.comm.allreduce(numbers)

    def gather(self, mine: Array) -> Array:
        """The whole vector, of which each rank gives what it owns: (n_parameters,), valid until `wait`."""
        if self.group is None:
            return mine
        whole: Array = self._gradients[0]
        whole[self.own] = mine
        self.barrier()
        return whole

    def close(self) -> None:
        """The end of this object: give shared memory back; the network keeps what it needs in memory of its own."""
        self.transport.close()
        self._closed = True
        if self.group is None:
            return
        self.barrier()
        theta = self.network.theta.copy()
        self.barrier()
        self.network.bind_parameters(theta)
        self.network.bind_gradient(np.zeros_like(theta))
        self.network.tape = self.network.tapes(0)(0)
        del self._tapes, self._gradients, self._sent_vectors, self._theta
        self.group = None
        for memory in self._memory:
            memory.free()

    # --- one step -------------------------------------------------------------------------------------

    def share(self, batch_size: int) -> tuple[int, int]:
        """Rows of a batch that this rank passes: first, and last + 1."""
        return block_bounds(batch_size, self.comm.rank, self.comm.size)

    def work(self, batch_size: int) -> float:
        """What this rank computes in a step, in rows; 0 where that is too little to judge its pace by."""
        lo, hi = self.share(batch_size)
        return hi - lo

    def parts(self, batch_size: int, most: int, *, stop: bool = False) -> Iterator[tuple[slice, slice, Tape]]:
        """The parts in which this rank passes its rows, `most` to a part, and where the passes of each write.

        In between stand the rows whose dropout masks it needs: the same, but for `whole_batch`.
        All ranks have the same number of parts, at least one. `stop` is this rank's in `status`.
        """
        self._refuse_if_closed()
        self.status[:] = 0.0
        self.status[STATUS.index("stop")] = stop
        n = max(1, -(-batch_size // (self.comm.size * most)))
        for part in range(n):
            self._first, self._last = part == 0, part == n - 1
            mine = slice(part * most, (part + 1) * most)
            yield mine, mine, self._tape(batch_size, part, most)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this reducer is closed: make a new Trainer to train on")

    def _tape(self, batch_size: int, part: int, most: int) -> Tape:
        key = batch_size, part, most
        if key not in self._places:
            bounds = [part_bounds(batch_size, rank, self.comm.size, part, most) for rank in self._sharers]
            counts = [hi - lo for lo, hi in bounds]
            me = self._sharers.index(self.comm.rank)
            self._places[key] = counts[me], sum(counts[:me]), sum(counts)
        return self._tapes(*self._places[key])

    def gradient(self, layer: Layer, a: Array, delta: Array) -> None:
        """For `Network.backward`: compute the gradient of a layer and send it on its way."""
        first = layer is self.network.layers[0]  # whose gradient comes last
        if self.group is None:
            self._compute(layer, a, delta)
        elif self.sharing == "gradients":
            layer.weight_gradient(a, delta, accumulate=not self._first)
            layer.bias_gradient(a, delta, accumulate=not self._first)
            if first and self._last:
                self._add_up()
        elif first:
            if self.sharing == "rows":  # by units they have just met
                self.barrier()
            tape = self.network.tape
            for i in range(len(self.network.layers) - 1, -1, -1):
                self._compute(self.network.layers[i], tape.inputs[i], tape.deltas[i])
            if not self._last:
                self.barrier()  # the tape is in use until all have come here

    def _add_up(self) -> None:
        """Add the other ranks' gradients of this rank's stretch to its own."""
        self.barrier()
        mine = self.network.grad[self.own]
        assert self.group is not None
        for rank in range(self.group.size):
            if rank != self.group.rank:
                mine += self._gradients[rank, self.own]

    def _cut(self, layer: Layer) -> list[tuple[slice, int]]:
        """Pieces of `layer` that this rank owns, from the last to the first: units and first parameter.

        The piece of all biases comes first and is the only one that begins where the biases do.
        """
        bias, start, n = layer.bias, layer.weights.start, layer.fan_in
        lo, hi = max(bias.start, self.own.start), min(bias.stop, self.own.stop)
        pieces = [(slice(lo - bias.start, hi - bias.start), lo)] if lo < hi else []
        first, stop = max(0, (self.own.start - start) // n), min(layer.fan_out, (self.own.stop - start) // n)
        product = max(self._bucket, _PRODUCT_BYTES // self.network.dtype.itemsize) if self.in_pieces else self._bucket
        step = max(4, product // n)
        for top in range(stop, first, -max(1, step)):
            bottom = max(first, top - step)
            pieces.append((slice(bottom, top), start + bottom * n))
        return pieces

    def _compute(self, layer: Layer, a: Array, delta: Array) -> None:
        """The gradient of what this rank owns of `layer`; what is final goes on its way."""
        for units, lo in self.pieces[layer.weights.start]:
            compute = layer.bias_gradient if lo >= layer.bias.start else layer.weight_gradient
            compute(a, delta, units, accumulate=not self._first)
            if self._last:
                self.send(lo)

    def send(self, lo: int) -> None:
        """``grad[lo:own.stop]`` is final on this rank: send what is a bucket, or the last."""
        if self._rides:
            return
        while self._sent - lo >= self._bucket or self._sent > lo == self.own.start:
            start = max(lo, self._sent - self._bucket)
            self.transport.start(self._sent_vectors, start, self._sent)
            self._sent = start

    def wait(self) -> None:
        """Return when ``grad[own]`` is the gradient, and `status` and `square` are sums over all ranks."""
        grad = self.network.grad[self.own]
        if self._rides:
            self.comm.allreduce(self.message)
            self.square = squared_norm(grad)
            return
        self.transport.wait()
        self._sent = self.own.stop
        square = squared_norm(grad)
        sums = self._sums
        sums[:-1], sums[-1] = self.status, square if self._counted else 0.0
        self.comm.allreduce(sums)
        self.status[:] = sums[:-1]
        self.square = square if self.group is None else float(sums[-1])
