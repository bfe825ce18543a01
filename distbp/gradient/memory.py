"""Where parameters, gradient and activations lie: in a rank's own memory, or in memory that a host's ranks share."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator, SharedMemory
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

Array = NDArray[Any]


class Memory:
    """Memory of the ranks that update one copy of the parameters: here each rank has its own.

    Attributes
    ----------
    shared : bool
        Whether other ranks have it too.
    rank, size : int
        Number of this rank among those that have it, and how many they are.
    owners : int
        Shards into which the parameters are cut, the same on all hosts.
    peers : Communicator
        The ranks that update the same shard of other copies.
    number : int
        The same for all ranks that have it, another for all others.
    peer_numbers : sequence of int
        The `number` of each of the peers.
    barrier : callable
        Returns when all these ranks are here, and each sees what the others have written.
    """

    shared = False
    rank, size, owners = 0, 1, 1

    def __init__(self, comm: Communicator, network: Network | FunctionModel) -> None:
        self._network, self.peers, self.number = network, comm, comm.rank
        self.peer_numbers: Sequence[int] = range(comm.size)
        self.barrier: Callable[[], None] = lambda: None

    def allocate(self, n: int) -> Array:
        """Return n numbers that all these ranks read and write."""
        return np.empty(n, self._network.dtype)

    def set_rows(self, table: Array, source: Array | float) -> None:
        """Set a table that all these ranks have, each of them some of its rows."""
        mine = slice(*block_bounds(len(table), self.rank, self.size))
        table[mine] = source[mine] if isinstance(source, np.ndarray) else source

    def bind(self, shard: slice) -> None:
        """Let the parameters of the network lie here, if they do not yet; each rank brings its shard."""

    def close(self) -> None:
        """Give it back; the network keeps its parameters in memory of its own."""


class HostMemory(Memory):
    """A copy of the parameters for each host, in shared windows (Win.Allocate_shared)."""

    shared = True

    def __init__(self, comm: Communicator, network: Network | FunctionModel) -> None:
        super().__init__(comm, network)
        self._group, self.peers = comm.on_host(), comm.across_hosts()
        self.rank, self.size = self._group.rank, self._group.size
        self.number = self._group.bcast_obj(self.peers.rank)
        self.peer_numbers = self.peers.allgather_obj(self.number)
        hosts = comm.allgather_obj(-1 if self.rank else self.size)
        self.owners = min(size for size in hosts if size > 0)  # a host with more ranks has some that own nothing
        self._windows: list[SharedMemory] = []
        self.barrier = self._group.barrier

    def allocate(self, n: int) -> Array:
        """Return n numbers that all ranks of the host read and write."""
        self._windows.append(self._group.shared(max(1, n), self._network.dtype))
        self.barrier = self._windows[-1].barrier
        return self._windows[-1].array[:n]

    def bind(self, shard: slice) -> None:
        """Let the parameters lie here; each rank of the host brings its shard."""
        theta = self.allocate(self._network.n_parameters)
        theta[shard] = self._network.theta[shard]
        tables = [self.allocate(table.size).reshape(table.shape) for table in self._network.embeddings]
        for mine, table in zip(tables, self._network.embeddings, strict=True):
            self.set_rows(mine, table)
        self.barrier()
        self._network.bind_parameters(theta)
        self._network.embeddings = tables

    def close(self) -> None:
        """Give the windows back, once every rank of the host has copied the parameters."""
        network = self._network
        self.barrier()
        theta, tables = network.theta.copy(), [table.copy() for table in network.embeddings]
        self.barrier()
        network.bind_parameters(theta)
        network.embeddings = tables
        network.bind_gradient(np.zeros_like(theta))
        network.release()
        for window in self._windows:
            window.free()
