"""P ranks as threads of one process: the same contract as MPI, for tests and for trying things out."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.communicator import (
    OPERATIONS,
    Done,
    JsonObjects,
    Request,
    SharedMemory,
    available_cores,
    check_buffer,
)

__all__ = ["ThreadCommunicator", "run_threads"]

Array = NDArray[Any]
T = TypeVar("T")


class _ThreadWorld:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.failed = threading.Barrier(size)
        self.slots: list[Any] = [None] * size
        self.parts: list[_ThreadWorld] = []

    def abort(self) -> None:
        """Let every rank fail at its next collective, whatever the world."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()


class _ThreadMemory:
    def __init__(self, array: Array, barrier: Callable[[], None]) -> None:
        self.array, self.barrier = array, barrier

    def free(self) -> None:
        self.barrier()


class ThreadCommunicator(JsonObjects):
    """One of P ranks that are threads of this process; `run_threads` makes them."""

    crowded = background = False

    def __init__(self, rank: int, size: int, world: _ThreadWorld, hosts: Sequence[int] | None = None) -> None:
        self.rank, self.size, self._world = rank, size, world
        self.host, self.host_cores = socket.gethostname(), len(available_cores())
        hosts = [0] * size if hosts is None else hosts
        self._host_number = hosts[rank]
        self.host_ranks = hosts.count(hosts[rank])
        self._on_host: ThreadCommunicator | None = None
        self._across_hosts: ThreadCommunicator | None = None

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Each rank reads all buffers in the order of ranks, so all get the same bits."""
        check_buffer(buffer, op)
        slots = self._world.slots
        slots[self.rank] = buffer
        self.barrier()
        total = slots[0].copy()
        for other in slots[1:]:
            OPERATIONS[op](total, other, out=total)
        self.barrier()
        buffer[...] = total

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Blocks: correct, not fast."""
        self._collect(send, receive, lambda theirs: theirs[self.rank])
        return Done()

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Blocks."""
        self._collect(send, receive, lambda theirs: theirs)
        return Done()

    def _collect(self, send: Array, receive: Array, mine: Callable[[Array], Array]) -> None:
        check_buffer(send)
        check_buffer(receive)
        self._world.slots[self.rank] = send
        self.barrier()
        for row, theirs in zip(receive.reshape(self.size, -1), self._world.slots, strict=True):
            row[...] = mine(theirs).reshape(-1)
        self.barrier()

    def on_host(self) -> "ThreadCommunicator":
        """By the hosts that `run_threads` was given."""
        if self._on_host is None:
            self._on_host = self._split(self._host_number)
        return self._on_host

    def across_hosts(self) -> "ThreadCommunicator":
        """As the contract says."""
        if self._across_hosts is None:
            self._across_hosts = self._split(self.on_host().rank)
        return self._across_hosts

    def _split(self, color: int) -> "ThreadCommunicator":
        """The ranks of the same color, in a world that the first of them makes."""
        colors = self.allgather_obj(color)
        ranks = [rank for rank, other in enumerate(colors) if other == color]
        if self.rank == ranks[0]:
            world = _ThreadWorld(len(ranks))
            self._world.parts.append(world)
            self._world.slots[self.rank] = world
        self.barrier()
        world = self._world.slots[ranks[0]]
        self.barrier()
        return ThreadCommunicator(ranks.index(self.rank), len(ranks), world)

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """An array of the first rank: threads share all memory."""
        if self.rank == 0:
            self._world.slots[0] = np.empty(n, dtype)
        self.barrier()
        array = self._world.slots[0]
        self.barrier()
        return _ThreadMemory(array, self.barrier)

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Copy from the slot of `root`."""
        check_buffer(buffer)
        self._world.slots[self.rank] = buffer
        self.barrier()
        if self.rank != root:
            buffer[...] = self._world.slots[root]
        self.barrier()

    def barrier(self) -> None:
        """Raises `threading.BrokenBarrierError` when another rank has failed."""
        self._world.barrier.wait()

    def all_failed(self, patience: float) -> bool:
        """As the contract says."""
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
    """Run `function` on `size` ranks, threads of this process; their results by rank.

    With `ranks_per_host` they pretend to be on several hosts, the last of which may have fewer ranks; with
    `hosts`, number of the host of each rank, on these.

    The first exception of a rank ends the others at their next collective and is raised here.
    """
    if ranks_per_host is not None:
        hosts = [rank // ranks_per_host for rank in range(size)]
    world = _ThreadWorld(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def rank_main(rank: int) -> None:
        try:
            results[rank] = function(ThreadCommunicator(rank, size, world, hosts))
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
