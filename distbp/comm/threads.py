"""P ranks as threads of one process: the same contract as MPI, for tests and for trying things out."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.communicator import OPERATIONS, Communicator, Done, Request, SharedMemory, check_buffer
from distbp.comm.host import available_cores
from distbp.comm.recorder import Recorder

Array = NDArray[Any]
T = TypeVar("T")


class ThreadWorld:
    """Hold what the ranks of one communicator share: a barrier, and a slot for the buffer of each.

    Parameters
    ----------
    names : sequence of int
        The name of each rank.
    """

    def __init__(self, names: Sequence[int]) -> None:
        size = len(names)
        self.names = list(names)
        self.barrier = threading.Barrier(size)
        self.failed = threading.Barrier(size)
        self.slots: list[Any] = [None] * size
        self.parts: list[ThreadWorld] = []

    def abort(self) -> None:
        """Let every rank fail at its next collective, also of a part of this world."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()


class ThreadCommunicator(Communicator):
    """Connect P ranks that are threads of this process; `run_threads` makes them."""

    crowded = background = False

    def __init__(self, rank: int, world: ThreadWorld, hosts: Sequence[int] | None = None) -> None:
        self.rank = self.name = rank
        self.size, self._world = len(world.names), world
        self.recorder = Recorder()
        self.host, self.host_cores = socket.gethostname(), len(available_cores())
        hosts = [0] * self.size if hosts is None else hosts
        self._host_number = hosts[rank]
        self.host_ranks = hosts.count(hosts[rank])
        self._on_host: ThreadCommunicator | None = None
        self._across_hosts: ThreadCommunicator | None = None

    @property
    def names(self) -> list[int]:
        """Return the name of each rank; in a part, its rank in the communicator that was split."""
        return self._world.names

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Reduce all buffers in the order of ranks, on each rank: so all get the same bits."""
        check_buffer(buffer, op)
        slots = self._world.slots
        slots[self.rank] = buffer
        self._begin("allreduce", buffer.nbytes)
        total = slots[0].copy()
        for other in slots[1:]:
            OPERATIONS[op](total, other, out=total)
        self._end()
        buffer[...] = total

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Copy from the slot of `root`."""
        check_buffer(buffer)
        self._world.slots[self.rank] = buffer
        self._begin("bcast", buffer.nbytes)
        if self.rank != root:
            buffer[...] = self._world.slots[root]
        self._end()

    def barrier(self) -> None:
        """Wait for all; raise `threading.BrokenBarrierError` when another rank has failed."""
        self._begin("barrier", 0)
        self._end()

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Exchange the rows before it returns: correct, not fast."""
        return self._collect(send, receive, lambda theirs: theirs[self.rank])

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Collect the buffers before it returns."""
        return self._collect(send, receive, lambda theirs: theirs)

    def _collect(self, send: Array, receive: Array, mine: Callable[[Array], Array]) -> Request:
        check_buffer(send)
        check_buffer(receive)
        self._world.slots[self.rank] = send
        self._begin("collect", send.nbytes)
        for row, theirs in zip(receive.reshape(self.size, -1), self._world.slots, strict=True):
            row[...] = mine(theirs).reshape(-1)
        self._end()
        return Done()

    def on_host(self) -> "ThreadCommunicator":
        """Return the ranks of this host, by the hosts that `run_threads` was given."""
        if self._on_host is None:
            self._on_host = self.split(self._host_number)
        return self._on_host

    def across_hosts(self) -> "ThreadCommunicator":
        """Return the ranks that have this one's number on their host."""
        if self._across_hosts is None:
            self._across_hosts = self.split(self.on_host().rank)
        return self._across_hosts

    def crew(self) -> "ThreadCommunicator":
        """Return the ranks that have a core, where a test says that some have none."""
        part = self.split(0 if self.has_core else 1 + self.rank)
        part.crowded = False
        return part

    def split(self, color: int) -> "ThreadCommunicator":
        """Return the ranks that give the same color; the first of them makes their world."""
        colors = self.allgather_obj(color)
        ranks = [rank for rank, other in enumerate(colors) if other == color]
        if self.rank == ranks[0]:
            world = ThreadWorld(ranks)
            self._world.parts.append(world)
            self._world.slots[self.rank] = world
        self.barrier()
        world = self._world.slots[ranks[0]]
        self.barrier()
        part = ThreadCommunicator(ranks.index(self.rank), world)
        part.recorder = self.recorder
        return part

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """Return an array of the first rank: threads share all memory."""
        if self.rank == 0:
            self._world.slots[0] = np.empty(n, dtype)
        self.barrier()
        array = self._world.slots[0]
        self.barrier()
        return SharedMemory(array, self.barrier, self.barrier)

    def _begin(self, operation: str, nbytes: int) -> None:
        """Enter a collective; return when every rank has filled its slot."""
        self.recorder.enter(operation, nbytes)
        self._world.barrier.wait()

    def _end(self) -> None:
        """Leave it when every rank has read the slots."""
        self._world.barrier.wait()
        self.recorder.leave()

    def all_failed(self, patience: float) -> bool:
        """Return whether every rank calls this within `patience` seconds."""
        try:
            self._world.failed.wait(patience)
        except threading.BrokenBarrierError:
            return False
        return True

    def abort(self, code: int) -> None:
        """Let every other rank fail at its next collective."""
        self._world.abort()


def run_threads(
    size: int,
    function: Callable[[ThreadCommunicator], T],
    *,
    ranks_per_host: int | None = None,
    hosts: Sequence[int] | None = None,
) -> list[T]:
    """Run `function` on `size` ranks, threads of this process; return their results by rank.

    With `ranks_per_host` they pretend to be on several hosts, the last of which may have fewer ranks; with
    `hosts`, number of the host of each rank, on these.

    The first exception of a rank ends the others at their next collective and is raised here.
    """
    if ranks_per_host is not None:
        hosts = [rank // ranks_per_host for rank in range(size)]
    world = ThreadWorld(range(size))
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def rank_main(rank: int) -> None:
        try:
            results[rank] = function(ThreadCommunicator(rank, world, hosts))
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors.append(error)
            world.abort()

    threads = [threading.Thread(target=rank_main, args=(r,), daemon=True) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if world.barrier.broken:
        raise threading.BrokenBarrierError("a rank has aborted")
    return results
