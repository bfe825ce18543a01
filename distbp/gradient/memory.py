"""Where parameters, gradient and activations lie: in a rank's own memory, or in memory that a host's ranks share."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator, SharedMemory
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

__all__ = ["HostMemory", "Memory", "OwnMemory"]

Array = NDArray[Any]


class Memory(Protocol):
    """Memory of the ranks that update one copy of the parameters."""

    shared: bool
    """Whether other ranks have it too."""
    number: int
    """The same for all ranks that have it, another for all others."""
    rank: int
    """Number of this rank among those that have it."""
    size: int
    """Ranks that have it."""
    peers: Communicator
    """The ranks that update the same shard of other copies."""
    peer_numbers: Sequence[int]
    """The `number` of each of these."""
    owners: int
    """Shards into which the parameters are cut, the same on all hosts."""

    def allocate(self, n: int) -> Array:
        """Return n numbers that all these ranks read and write."""
        ...

    def barrier(self) -> None:
        """Return when all these ranks are here, and each sees what the others have written."""
        ...

    def bind(self, shard: slice) -> None:
        """Let the parameters of the network lie here; each rank brings its shard."""
        ...

    def close(self) -> None:
        """Give it back; the network keeps its parameters in memory of its own."""
        ...


class OwnMemory:
    """A copy of the parameters for each rank."""

    shared = False
    rank, size, owners = 0, 1, 1

    def __init__(self, comm: Communicator, network: Network | FunctionModel) -> None:
        self.peers, self.number, self._dtype = comm, comm.rank, network.dtype
        self.peer_numbers: Sequence[int] = range(comm.size)

    def allocate(self, n: int) -> Array:
        """Return n numbers."""
        return np.empty(n, self._dtype)

    def barrier(self) -> None:
        """Return: nobody else writes here."""

    def bind(self, shard: slice) -> None:
        """Leave the parameters where they are."""

    def close(self) -> None:
        """Leave the parameters where they are."""


class HostMemory:
    """A copy of the parameters for each host, in shared windows (Win.Allocate_shared)."""

    shared = True

    def __init__(self, comm: Communicator, network: Network | FunctionModel) -> None:
        self._network, self._group, self.peers = network, comm.on_host(), comm.across_hosts()
        self.rank, self.size = self._group.rank, self._group.size
        self.number = self._group.bcast_obj(self.peers.rank)
        self.peer_numbers: Sequence[int] = self.peers.allgather_obj(self.number)
        hosts = comm.allgather_obj(-1 if self.rank else self.size)
        self.owners = min(size for size in hosts if size > 0)  # a host with more ranks has some that own nothing
        self._windows: list[SharedMemory] = []
        self.barrier: Callable[[], None] = self._group.barrier

    def allocate(self, n: int) -> Array:
        """Return n numbers that all ranks of the host read and write."""
        self._windows.append(self._group.shared(max(1, n), self._network.dtype))
        self.barrier = self._windows[-1].barrier
        return self._windows[-1].array[:n]

    def bind(self, shard: slice) -> None:
        """Let the parameters lie here; each rank of the host brings its shard."""
        theta = self.allocate(self._network.n_parameters)
        theta[shard] = self._network.theta[shard]
        self.barrier()
        self._network.bind_parameters(theta)

    def close(self) -> None:
        """Give the windows back, once every rank of the host has copied the parameters."""
        network = self._network
        self.barrier()
        theta = network.theta.copy()
        self.barrier()
        network.bind_parameters(theta)
        network.bind_gradient(np.zeros_like(theta))
        network.release()
        for window in self._windows:
            window.free()
