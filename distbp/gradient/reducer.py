"""The reducer: the ranks' parts of a batch become one gradient.

A plan says who computes what (see `plan`), a memory where it lies, a transport how it comes to ranks of other memories.
The reducer runs them: it hands out the parts of a batch, computes what each part brings, and waits for the sums.

Ranks add sums; the cost was divided by the global batch size. With the gradient go *statistics*, numbers whose sum
every rank sees: all log, skip and stop at the same step.
"""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.gradient.embedding_rows import EmbeddingRows, Rows
from distbp.gradient.memory import Memory
from distbp.gradient.plan import Batch, Part, Plan
from distbp.gradient.statistics import Statistics
from distbp.gradient.transport import Sender
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.optim.optimizer import Optimizer

Array = NDArray[Any]


class GradientReducer:
    """Sums the gradient of `network` over the ranks of `comm`; see `distbp.gradient.choose.gradient_reducer`.

    Parameters
    ----------
    comm : Communicator
        The ranks; all make the same calls in the same order.
    network : Network or FunctionModel
        Its gradient is a view of the plan's memory.
    memory : Memory
        Where parameters and gradient lie; the parameters move there.
    plan : Plan
        Who computes what.
    sender : Sender
        What sums the shard over the peers.
    reduction : str
        What was chosen: ``allreduce``, ``overlap``, ``shared``.
    embedded : EmbeddingRows, optional
        What brings together the gradient of embeddings, where the network has any.

    Attributes
    ----------
    shard : slice
        The parameters that this rank updates, the same on all its peers.
    rows : list of Rows
        After `wait` the gradient of those embeddings that this rank updates.
    wants_stop : bool
        Whether this rank wants all to stop after the next step.
    """

    def __init__(
        self,
        comm: Communicator,
        network: Network | FunctionModel,
        memory: Memory,
        plan: Plan,
        sender: Sender,
        reduction: str,
        embedded: EmbeddingRows | None = None,
    ) -> None:
        self.comm, self.network, self.plan, self.reduction = comm, network, plan, reduction
        self.shard, self.transport, self.wants_stop = plan.shard, sender.transport, False
        self._memory, self._sender, self._embedded, self._closed = memory, sender, embedded, False
        self.rows: list[Rows] = []
        self._first = self._size = 0
        """Of the batch under way: this rank's first row, and how many there are."""

    # --- one step -------------------------------------------------------------------------------------

    def parts(self, batch: Batch) -> Iterator[Part]:
        """Yield the parts in which this rank passes its rows of a batch: one, unless micro-batches are asked for.

        All ranks have the same number of parts, at least one; a part may have no rows.
        """
        if self._closed:
            raise RuntimeError("this reducer is closed: make a new Trainer to train on")
        self.plan.table.clear(stop=self.wants_stop)
        layout = self.plan.parts(batch.size)
        self._first, self._size = layout.rows[0], batch.size
        rows = batch.between(*layout.rows)
        for part in layout.parts:
            if part.waits:
                self._memory.barrier()
            part.step, part.positions, part.masked = batch.step, rows[part.rows], rows[part.seen]
            yield part

    def ready(self, i: int, part: Part) -> None:
        """Compute the gradient of layer i, whose delta is there, and send what is complete on its way."""
        if self._embedded is not None and i == 0:
            self._embedded.take(part, self._first + part.rows.start)
        for operations, lo in part.operations[i]:
            for function, arguments in operations:
                function(*arguments)
            if lo is not None:
                self._sender.complete(lo)

    def send(self, part: Part) -> None:
        """Send what is there, as if the gradient of a part had just been computed; for benchmarks of messages alone."""
        for operations in reversed(part.operations):
            for _, lo in operations:
                if lo is not None:
                    self._sender.complete(lo)

    def wait(self) -> Statistics:
        """Return the statistics when ``network.grad[shard]`` is the gradient of the batch."""
        self._sender.wait()
        if self._embedded is not None:
            self.rows = self._embedded.wait(self._size)
        for block, where in self.plan.measured:
            self.plan.table.measure(block, self.network.grad[where])
        return self.plan.table.reduce(self.comm)

    def forget(self) -> None:
        """Drop what compression has left for later: from here on a run does not depend on it."""
        self._sender.forget()

    def barrier(self) -> None:
        """Return when all ranks of this host are here, and each sees what the others have written."""
        self._memory.barrier()

    def assign(self, optimizer: Optimizer) -> None:
        """Tell an optimiser what this rank updates: its shard, and rows of the embeddings."""
        optimizer.assign_shard(self.shard, self.total, self.plan.norm_blocks)
        optimizer.assign_tables(self.network.embeddings, self.allocate)

    # --- all shards -----------------------------------------------------------------------------------

    def total(self, numbers: Array) -> None:
        """Replace numbers about the shard by their sums over all parameters."""
        if self._memory.shared:
            if self._memory.peers.rank:
                numbers[...] = 0.0
            self.comm.allreduce(numbers)

    def gather(self, mine: Array) -> Array:
        """Return the whole vector, of which each rank gives its shard: (n_parameters,), valid until the next step."""
        if not self._memory.shared:
            return mine
        whole = self.plan.common
        whole[self.shard] = mine
        self.barrier()
        return whole

    def allocate(self, like: Array) -> Array:
        """Return zeros in the shape of a table of weights, which the ranks of this memory share."""
        table = self._memory.allocate(like.size).reshape(like.shape)
        self.copy_rows(table, 0.0)
        return table

    def copy_rows(self, table: Array, source: Array | float) -> None:
        """Set a table that the ranks of this memory share, each of them some rows; return when all is there."""
        self._memory.set_rows(table, source)
        self.barrier()

    def close(self) -> None:
        """Give shared memory back; the network keeps what it needs in memory of its own. All ranks call it, or none."""
        self.transport.close()
        if not self._closed:
            self._closed = True
            self._memory.close()
            del self.plan, self._sender

    # --- for people -----------------------------------------------------------------------------------

    @property
    def sends(self) -> bool:
        """Return whether gradient travels in messages at all."""
        return self.transport.comm.size > 1

    @property
    def in_buckets(self) -> bool:
        """Return whether it travels in buckets, while others are computed."""
        return self.sends and self._sender.in_buckets

    def describe(self) -> str:
        """Say what travels in a step, for people."""
        if self.comm.size == 1:
            return "reduction: none, one rank"
        parts = [f"reduction: {self.reduction}"]
        if shares := self.plan.describe():
            parts.append(f"{self._memory.size} ranks of a host share {shares}")
        if self.sends:
            parts.append(f"each step {self._messages()}")
        if self.plan.exact:
            idle = max(0, self.comm.size - self.plan.leaves)
            parts.append(f"exact over {self.plan.leaves} leaves" + f" ({idle} ranks have none)" * (idle > 0))
        return ", ".join(parts)

    def _messages(self) -> str:
        mib, item, plan = 2.0**20, self.network.dtype.itemsize, self.plan
        peers, gradient = self.transport.comm.size, (self.shard.stop - self.shard.start) * item * len(plan.vectors)
        if numbers := plan.travels():
            return (
                f"{numbers * item / mib:.2f} MiB of activations and deltas and {gradient / mib:.2f} MiB of gradient"
                f" of {peers} ranks"
            )
        sender = self._sender
        gradient = gradient // (2 if self.transport.bf16 else 1) if sender.in_buckets else sender.bytes
        buckets = f" in buckets of {sender.bytes / mib:.2f} MiB" if sender.in_buckets else ""
        return f"a sum over {peers} ranks of {gradient / mib:.2f} MiB{sender.kind}{buckets}"
