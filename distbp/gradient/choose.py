"""Which plan, memory and transport suit the ranks and the network: a `GradientReducer` from plain arguments."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.gradient.data_parallel import LEAF_SUMS, DataParallel, vectors_of
from distbp.gradient.embedding_rows import EmbeddingRows
from distbp.gradient.low_rank import LowRank
from distbp.gradient.memory import HostMemory, Memory
from distbp.gradient.pace import row_numbers
from distbp.gradient.plan import Cut, Plan, Seats
from distbp.gradient.reducer import GradientReducer
from distbp.gradient.shards import sections_within
from distbp.gradient.statistics import STATISTICS
from distbp.gradient.transport import Buckets, OneMessage, Sender, Transport
from distbp.gradient.unit_parallel import CELL_PRODUCTS, UnitParallel
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

REDUCTIONS = ("auto", "allreduce", "overlap", "shared")
COMPRESSIONS = ("none", "bf16", "low-rank")
BUCKET_BYTES = 1 << 18
"""About the bytes of a bucket."""

_UNITS_BELOW = 0.4
"""Activations and deltas of a rank, as a part of the parameters, below which the ranks of a host share units."""
_EXACT_UNITS_BELOW = 1.5
"""Activations and deltas of a batch, as a part of the parameters, up to which exact mode shares units."""
_OVERLAP_FROM = 1 << 18
"""Bytes of gradient from which sending it in buckets pays between hosts."""
_COPIES = 5
"""Of embeddings: they, two numbers that an optimizer keeps of each, the best ones, and rows of a batch."""
EXACT_BITS = f"{LEAF_SUMS}, {CELL_PRODUCTS}, up to {_EXACT_UNITS_BELOW} n"
"""What the bits of exact mode depend on beside the configuration; a checkpoint remembers it."""


def shares_units(network: Network | FunctionModel, rows: int, leaves: int | None = None) -> bool:
    """Return whether activations and deltas are so few beside the parameters that ranks should share units.

    Only the units of dense networks without embeddings can be shared; without exact mode, of those without dropout,
    whose masks are drawn by rows. `rows` are the most of a rank that are passed at once; in exact mode, which has
    `leaves`, of a leaf.
    """
    if not isinstance(network, Network) or network.embeddings:
        return False
    if leaves is not None:
        return leaves * rows * row_numbers(network) <= _EXACT_UNITS_BELOW * network.n_parameters
    return not network.dropout and rows * row_numbers(network) < _UNITS_BELOW * network.n_parameters


def choose_reduction(comm: Communicator, network: Network | FunctionModel, shared_numbers: int) -> str:
    """Return what ``auto`` is: `shared` where every host has several ranks and room, else by the size of the gradient.

    Ranks that may die each keep everything. `shared_numbers` are those that the ranks of this host would share.
    """
    if comm.size == 1:
        return "allreduce"
    several = not comm.elastic and min(comm.allgather_obj(comm.on_host().size)) > 1
    if several and not _lacks_room(comm, network, shared_numbers):
        return "shared"
    return "overlap" if network.theta.nbytes >= _OVERLAP_FROM else "allreduce"


def _lacks_room(comm: Communicator, network: Network | FunctionModel, numbers: int) -> str:
    """Return why some host cannot share so many numbers, or ""; the same on all ranks."""
    needed, free = numbers * network.dtype.itemsize, comm.shared_free()
    problem = f"/dev/shm of {comm.host} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed"
    lacking: list[str] = [text for text in comm.allgather_obj(problem if needed > free else "") if text]
    return lacking[0] if lacking else ""


def gradient_reducer(
    comm: Communicator,
    network: Network | FunctionModel,
    reduction: str = "auto",
    *,
    batch_size: int,
    micro_batch: int | None = None,
    leaves: int | None = None,
    apart: bool = False,
    bucket_bytes: int = BUCKET_BYTES,
    compress: str = "none",
    compress_rank: int = 4,
) -> GradientReducer:
    """Make the reducer that suits ranks and network; for `shared` the parameters move into memory that ranks share.

    Parameters
    ----------
    comm : Communicator
        The ranks; all make the same calls in the same order.
    network : Network or FunctionModel
        Its gradient, and for `shared` its parameters, become views of the reducer's memory.
    reduction : {"auto", "allreduce", "overlap", "shared"}
        See `distbp.gradient.plan`; ``auto`` is what `choose_reduction` says.
    batch_size : int
        Most rows of a batch, over all ranks.
    micro_batch : int, optional
        Most rows that a rank, in exact mode of a leaf, passes at once.
    leaves : int, optional
        Exact mode: a batch is cut in so many leaves, whatever the number of ranks.
    apart : bool
        Whether leaves go through the passes one by one, since what is computed of a row may depend on rows beside it.
    bucket_bytes : int
        About the bytes of what travels at a time.
    compress : {"none", "bf16", "low-rank"}
        What travels between ranks that do not share memory.
    compress_rank : int
        Of the matrices of ``low-rank``.
    """
    _refuse(reduction, leaves, compress, compress_rank)
    if reduction == "shared" and comm.elastic:
        raise UserError(
            "--reduction shared: each rank keeps a part of the optimizer's state, which would be lost with it;"
            " --reduction auto, or --no-elastic"
        )
    rows = -(-batch_size // (leaves or comm.size))
    passed = min(rows, micro_batch or rows)
    units = shares_units(network, passed, leaves) and (not apart if leaves else not comm.crowded)
    here, n = comm.on_host().size, network.n_parameters
    if units and isinstance(network, Network):
        shared_numbers = 2 * n + passed * (leaves or here) * row_numbers(network)
    else:
        vectors = vectors_of(leaves or comm.size, comm.size, by_leaf=passed < rows)
        shared_numbers = (1 + here * vectors) * n
    shared_numbers += _COPIES * sum(table.size for table in network.embeddings)
    if reduction == "auto":
        reduction = choose_reduction(comm, network, shared_numbers)
    elif reduction == "shared" and (problem := _lacks_room(comm, network, shared_numbers)):
        raise UserError(f"{problem}: make it larger (docker run --shm-size), or --reduction allreduce")
    memory = HostMemory(comm, network) if reduction == "shared" else Memory(comm, network)
    transport = Transport(memory.peers, bf16=compress == "bf16")
    in_buckets = memory.peers.size > 1 and reduction != "allreduce" and compress != "low-rank"
    bucket = max(1, bucket_bytes // network.dtype.itemsize) if in_buckets else None
    rides = not memory.shared and leaves is None and compress == "none" and reduction != "overlap"
    message = np.zeros(n + len(STATISTICS), network.dtype) if rides else None
    seats, cut = Seats(comm, memory), Cut(leaves, rows, passed, bucket)
    plan: Plan
    if units and isinstance(network, Network) and (memory.shared or leaves):
        plan = UnitParallel(network, memory, seats, cut, transport.gather)
    else:
        plan = by_rows = DataParallel(network, memory, seats, cut, apart=apart, message=message)
        if leaves:
            transport.add_up = by_rows.add_received
    embedded = None
    if isinstance(network, Network) and network.embeddings:
        embedded = EmbeddingRows(network, memory, seats, plan, transport.gather, batch_size)
    memory.bind(plan.shard)
    sender: Sender = Buckets(transport, plan.vectors, plan.shard, bucket)
    if message is not None:
        sender = OneMessage(transport, message)
    elif compress == "low-rank" and memory.peers.size > 1:
        sender = LowRank(transport, _matrices(network, plan), compress_rank)
    return GradientReducer(comm, network, memory, plan, sender, reduction, embedded)


def _refuse(reduction: str, leaves: int | None, compress: str, compress_rank: int) -> None:
    """Refuse what there is not, and what does not go together."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}: one of {', '.join(REDUCTIONS)}")
    if compress not in COMPRESSIONS:
        raise ValueError(f"unknown compression {compress!r}: one of {', '.join(COMPRESSIONS)}")
    if compress_rank < 1:
        raise ValueError(f"the rank of a matrix is at least 1, not {compress_rank}")
    if leaves is not None and leaves < 1:
        raise ValueError(f"a batch has at least 1 leaf, not {leaves}")
    if leaves is not None and compress != "none":
        raise ValueError("what is compressed depends on the number of hosts: not in exact mode")


def _matrices(network: Network | FunctionModel, plan: Plan) -> list[NDArray[Any]]:
    """Return what the shard has of the gradient of each layer: weights (units, fan_in), and biases."""
    made = []
    for layer, sections in zip(network.layers, sections_within(network, plan.shard, None), strict=True):
        for s in sections:
            part = plan.vectors[0][s.lo : s.hi]
            made.append(part if s.biases else part.reshape(-1, layer.fan_in))
    return made
