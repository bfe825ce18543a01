"""Which plan, memory and transport suit the ranks and the network: a `GradientReducer` from plain arguments."""

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.gradient.data_parallel import LEAF_SUMS, DataParallel, vectors_of
from distbp.gradient.embedding_rows import EmbeddingRows
from distbp.gradient.memory import HostMemory, Memory
from distbp.gradient.pace import row_numbers
from distbp.gradient.plan import Cut, Plan, Seats
from distbp.gradient.reducer import GradientReducer
from distbp.gradient.statistics import STATISTICS
from distbp.gradient.transport import Buckets, OneMessage, Transport
from distbp.gradient.unit_parallel import CELL_PRODUCTS, UnitParallel
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

REDUCTIONS = ("auto", "allreduce", "overlap", "shared")
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
    compress : {"none", "bf16"}
        What travels between ranks that do not share memory.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}: one of {', '.join(REDUCTIONS)}")
    if leaves is not None and leaves < 1:
        raise ValueError(f"a batch has at least 1 leaf, not {leaves}")
    if leaves is not None and compress != "none":
        raise ValueError("what is compressed depends on the number of hosts: not in exact mode")
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
    transport = Transport(memory.peers, compress)
    in_buckets = memory.peers.size > 1 and reduction != "allreduce"
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
    sender = Buckets(transport, plan.vectors, plan.shard, bucket or n) if message is None else OneMessage(comm, message)
    return GradientReducer(comm, network, memory, plan, sender, reduction, embedded)
